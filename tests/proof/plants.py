"""Faults put into what arrived, to prove that the checks see them."""

import json
import re
from collections import Counter


def _middle(records, wanted):
    """The index of a record in the middle that satisfies `wanted`."""
    half = len(records) // 2
    for index in list(range(half, len(records))) + list(range(half)):
        if wanted(index):
            return index
    raise RuntimeError("too little arrived to plant a fault")


def _identity(record):
    return json.loads(record[2])["id"]


def _drop(records, at):
    """Takes an event away, with all its repeats."""
    identity = _identity(records[at])
    records[:] = [record for record in records if _identity(record) != identity]


def lose(records):
    """One event is missing."""
    _drop(records, len(records) // 2)


def lose_delete(records):
    """One delete, which carries no more than a key, is missing."""
    _drop(records, _middle(records, lambda at: b'"op":"d"' in records[at][2]))


def lose_tail(records):
    """The last event of a stream is missing."""
    _drop(records, len(records) - 1)


def dup(records):
    """One record comes again, a few records later."""
    at = _middle(
        records, lambda at: at + 5 < len(records) and records[at][0] == records[at + 5][0]
    )
    records.insert(at + 5, records[at])


def reorder(records):
    """Two changes of one key are swapped."""
    identities = [_identity(record) for record in records]
    count = Counter(identities)
    newest = {}
    for index in range(len(records) // 2, len(records)):
        envelope = json.loads(records[index][2])
        entity = records[index][0], envelope["source"]["table"], json.dumps(envelope["key"])
        # A swap of repeats may be no more than another replay.
        if count[identities[index]] > 1:
            continue
        if entity in newest:
            other = newest[entity]
            records[index], records[other] = records[other], records[index]
            return
        newest[entity] = index
    raise RuntimeError("no key changed twice")


def invent(records):
    """A change that nobody committed."""
    at = _middle(records, lambda at: b'"op":"u"' in records[at][2])
    stream, key, value = records[at]
    envelope = json.loads(value)
    envelope["after"]["op_id"] = 999_999_999_999
    envelope["source"]["position"]["index"] += 500_000
    name, commit, index = envelope["id"].rsplit(":", 2)
    envelope["id"] = f"{name}:{commit}:{int(index.partition('.')[0]) + 500_000}"
    records.insert(at + 1, (stream, key, json.dumps(envelope, separators=(",", ":")).encode()))


def alter(records):
    """A value is not what the database holds."""
    newest = {}
    for index, (_, _, value) in enumerate(records):
        if b'"op":"u"' in value and b'"table":"items_full"' in value:
            newest[json.loads(value)["after"]["k"]] = index
        elif b'"table":"items_full"' in value:
            newest.pop(json.loads(value)["key"]["k"], None)
    identity = _identity(records[next(iter(newest.values()))])
    for at, (stream, key, value) in enumerate(records):
        if _identity(records[at]) == identity:
            head, middle, tail = value.partition(b'"after":{')
            changed = tail.replace(b'"note":"', b'"note":"x', 1)
            records[at] = (stream, key, head + middle + changed)


def rewrite(records):
    """A replay brings another payload under the same id."""
    at = len(records) - 1
    stream, key, value = records[at]
    records.append((stream, key, re.sub(rb'"schema":"(\w+)"', rb'"schema":"\1x"', value)))


PLANTS = {
    plant.__name__: plant
    for plant in (lose, lose_delete, lose_tail, dup, reorder, invent, alter, rewrite)
}
EXPECTED = {
    "lose": {"lost"}, "lose_delete": {"lost"}, "lose_tail": {"lost"},
    "dup": {"order_violations", "duplicates_without_a_kill"}, "reorder": {"order_violations"},
    "invent": {"invented"}, "alter": {"state"}, "rewrite": {"id_with_two_payloads"},
}
"""Which kinds of violation show the plant; one of them must be reported."""
