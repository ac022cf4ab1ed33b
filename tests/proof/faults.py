"""Faults put into what arrived, to prove that the differential test sees them.

Each takes the lines, as (stream, None, line), and gives them with one fault; None where nothing that
arrived can hold it.
"""

import json
import re


def _index(lines, rng, wanted):
    """A line that satisfies `wanted`, at random."""
    found = [at for at, (_, _, line) in enumerate(lines) if wanted(line)]
    return rng.choice(found) if found else None


def _change(lines, rng, wanted, change):
    at = _index(lines, rng, wanted)
    if at is None:
        return None
    stream, key, line = lines[at]
    changed = change(line)
    if changed == line:
        return None
    lines[at] = (stream, key, changed)
    return lines


def drop(lines, rng):
    """An event is missing."""
    del lines[rng.randrange(len(lines))]
    return lines


def drop_truncate(lines, rng):
    """A truncate is missing."""
    at = _index(lines, rng, lambda line: b'"op":"t"' in line)
    if at is None:
        return None
    del lines[at]
    return lines


def twice(lines, rng):
    """An event comes twice."""
    at = rng.randrange(len(lines))
    lines.insert(at, lines[at])
    return lines


def swap(lines, rng):
    """Two events of a stream stand in each other's place."""
    found = [at for at in range(1, len(lines)) if lines[at][0] == lines[at - 1][0]]
    at = rng.choice(found)
    lines[at], lines[at - 1] = lines[at - 1], lines[at]
    return lines


def exchange(lines, rng):
    """Two events of a table have each other's rows."""
    plain = [at for at, (_, _, line) in enumerate(lines) if b'"after":{' in line]
    pairs = [(a, b) for a, b in zip(plain, plain[1:]) if lines[a][0] == lines[b][0]
             and _after(lines[a][2]) != _after(lines[b][2])]
    if not pairs:
        return None
    a, b = rng.choice(pairs)
    for at, after in ((a, _after(lines[b][2])), (b, _after(lines[a][2]))):
        stream, key, line = lines[at]
        lines[at] = (stream, key, line.replace(_after(line), after, 1))
    return lines


def _after(line):
    start = line.index(b'"after":{') + 8
    _, end = json.JSONDecoder().raw_decode(line[start:].decode())
    return line[start:start + len(line[start:].decode()[:end].encode())]


def alter_text(lines, rng):
    """A text is another one."""
    return _change(lines, rng, lambda line: b'"note":"' in line and b'"after":{' in line,
                   lambda line: line.replace(b'"note":"', b'"note":"x', 1))


def forget_value(lines, rng):
    """A value is null."""
    pattern = re.compile(rb'("note":)"(?:[^"\\]|\\.)+"')
    return _change(lines, rng, pattern.search, lambda line: pattern.sub(rb"\1null", line, count=1))


def round_number(lines, rng):
    """A numeric loses a digit of its scale."""
    pattern = re.compile(rb'((?<!"version)(?<!"v)":"-?\d+\.\d*)\d"')
    return _change(lines, rng, pattern.search, lambda line: pattern.sub(rb'\1"', line, count=1))


def false_null(lines, rng):
    """A value that the log does not carry is said to be null."""
    def change(line):
        event = json.loads(line)
        event["after"] |= dict.fromkeys(event.pop("unchanged"))
        return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()
    return _change(lines, rng, lambda line: b'"unchanged":[' in line and b"e+" not in line, change)


def no_mention(lines, rng):
    """An event does not say what it lacks."""
    pattern = re.compile(rb'"unchanged":\["[^\]]*"\],')
    return _change(lines, rng, pattern.search, lambda line: pattern.sub(b"", line, count=1))


def other_op(lines, rng):
    """An update is said to be an insert."""
    return _change(lines, rng, lambda line: b'"op":"u"' in line,
                   lambda line: line.replace(b'"op":"u"', b'"op":"c"', 1))


def other_transaction(lines, rng):
    """An event stands in another transaction."""
    pattern = re.compile(rb'"transaction":\{"id":"([^"]+)"')
    return _change(lines, rng, pattern.search,
                   lambda line: pattern.sub(rb'"transaction":{"id":"\g<1>1"', line))


def other_place(lines, rng):
    """An event's number in its transaction is another."""
    pattern = re.compile(rb'"index":(\d+)')
    return _change(lines, rng, pattern.search, lambda line: pattern.sub(rb'"index":1\1', line))


def other_key(lines, rng):
    """An event has another key."""
    pattern = re.compile(rb'"key":\{"k":(\d+)')
    return _change(lines, rng, pattern.search, lambda line: pattern.sub(rb'"key":{"k":9\1', line))


def wrong_before(lines, rng):
    """A delete says too little of the old row."""
    pattern = re.compile(rb'"before":\{[^{}\[\]]+\},"after":null')
    return _change(lines, rng, pattern.search,
                   lambda line: pattern.sub(rb'"before":{},"after":null', line))


PLANTS = {plant.__name__: plant for plant in (
    drop, drop_truncate, twice, swap, exchange, alter_text, forget_value, round_number, false_null,
    no_mention, other_op, other_transaction, other_place, other_key, wrong_before,
)}
SEEN_BY_FOLD = {"other_op"}
"""Faults that the fold must see by itself, whatever else is compared."""
