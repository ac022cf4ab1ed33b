"""The checks: what arrived against what was committed.

C1 nothing lost, C2 nothing invented, C3 order per key and per stream, C4 duplicates only by a
rewind after a kill and inside the in-flight window, C5 an id is never two payloads, C6 the events
folded are the tables.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field

from kit import commit_number

KEY_OF = {"items": "k", "items_full": "k", "bulk": "id"}
CAPTURED_AT = re.compile(rb',"ts_us":(\d+)\}$')


@dataclass
class Event:
    """What the checks need of one event."""

    place: tuple
    table: str
    key: int
    op: str
    op_id: int | None
    after: dict | None
    unchanged: list
    previous: int | None


@dataclass
class Rewind:
    """Records that came again, in one go."""

    stream: str
    place: tuple
    """Of the first event that came again."""
    before: tuple
    """Of the event before it in the stream's order."""
    events: int = 0
    bytes: int = 0
    span_us: int = 0
    """The longest capture time that one life of the process had delivered and not yet saved."""
    _from_us: int = 0
    _to_us: int = 0

    def take(self, size, captured_us):
        """One record more; `captured_us` is of the arrival before this one."""
        if self.events == 0 or captured_us < self._to_us:
            # Delivered by an earlier life than the records before it.
            self._from_us = captured_us
        self._to_us = captured_us
        self.span_us = max(self.span_us, self._to_us - self._from_us)
        self.events += 1
        self.bytes += size


@dataclass
class Report:
    """What was found."""

    events: int = 0
    duplicates: int = 0
    rewinds: list = field(default_factory=list)
    wrong: dict = field(default_factory=dict)

    def add(self, kind, text):
        """Notes a violation; a few of each kind are kept in words."""
        found = self.wrong.setdefault(kind, [])
        found.append(text if len(found) < 5 else None)

    def count(self, kind):
        """How many of that kind."""
        return len(self.wrong.get(kind, []))

    def lines(self):
        """The violations in words."""
        for kind, found in self.wrong.items():
            yield f"  {kind}: {len(found)}"
            yield from (f"    {text}" for text in found if text)


def parse(value):
    """An envelope as an Event, with its id."""
    envelope = json.loads(value)
    source = envelope["source"]
    position = source["position"]
    table = source["table"]
    commit, _, number = envelope["id"].partition(":")[2].rpartition(":")
    part = number.partition(".")[2]
    before, after = envelope["before"], envelope["after"]
    # A delete carries the key alone where the log has no more of the old row.
    op_id = (after or before).get("id" if table == "bulk" else "op_id")
    previous = envelope.get("previous_key")
    event = Event(
        place=(commit_number(commit), position["index"], int(part or 0)),
        table=table, key=envelope["key"][KEY_OF[table]], op=envelope["op"], op_id=op_id,
        after=after, unchanged=envelope.get("unchanged") or [],
        previous=previous[KEY_OF[table]] if previous else None,
    )
    key = json.dumps(envelope["key"], separators=(",", ":"), ensure_ascii=False).encode()
    return envelope["id"], key, event


class Stream:
    """The records of one stream: the order of first arrival, and where a rewind is."""

    def __init__(self, name):
        self.name = name
        self.order = []
        self.places = []
        self.index = {}
        self.next = 0
        self.rewind = None

    def take(self, identity, place, report):
        """Whether the event is new; where it is not, `rewind` is what it is part of."""
        at = self.index.get(identity)
        if at is None:
            if self.next < len(self.order):
                report.add("order_violations", f"{self.name}: {identity} came inside a replay, "
                           f"before {self.order[self.next]} came again")
            if self.places and place <= self.places[-1]:
                report.add("order_violations", f"{self.name}: {identity} is not in commit order")
            self.index[identity] = len(self.order)
            self.order.append(identity)
            self.places.append(place)
            self.next = len(self.order)
            self.rewind = None
            return True
        if at > self.next:
            report.add("order_violations", f"{self.name}: a replay skips to {identity}")
        if at != self.next or self.rewind is None:
            before = self.places[at - 1] if at else (0, 0, 0)
            self.rewind = Rewind(self.name, place, before)
            report.rewinds.append(self.rewind)
        self.next = at + 1
        return False


@dataclass
class Limits:
    """What may come again."""

    saved: list
    """The position that each life of the process began from; a replay begins right after one."""
    bytes: int
    """Bytes of one rewind: the memory that holds what is in flight."""
    span_s: float
    """Capture time of one life: the time between two saves, and some for a busy machine."""
    is_anywhere: bool = False
    """Whether a replay may begin at other places too."""

    def explains(self, rewind):
        """Whether the rewind is what a restart from a saved position must bring."""
        return self.is_anywhere or any(
            saved.covers(rewind.before) and not saved.covers(rewind.place) for saved in self.saved
        )


class Checker:
    """Takes the records in, then compares."""

    def __init__(self):
        self.report = Report()
        self.streams = {}
        self.arrivals = {}
        self.homes = {}
        self.events = []
        self.moved = (None, {})

    def take(self, stream, key, value):
        """One record, in the order of its stream."""
        report = self.report
        report.events += 1
        captured = CAPTURED_AT.search(value or b"")
        if not captured:
            report.add("malformed", f"{stream}: no envelope that ends with ts_us")
            return
        identity, expected_key, event = parse(value)
        if key is not None and key != expected_key:
            report.add("malformed", f"{stream}: {identity} has another key than its record")
        content = hashlib.blake2b(value[: captured.start()], digest_size=16).digest()
        last = self.arrivals.get(identity)
        if last and last[0] != content:
            report.add("id_with_two_payloads", f"{stream}: {identity}")
        self.arrivals[identity] = (content, int(captured[1]))
        if self.homes.setdefault((event.table, event.key), stream) != stream:
            report.add("order_violations", f"{event.table} {event.key} is in two streams")
        place = self.streams.setdefault(stream, Stream(stream))
        if place.take(identity, event.place, report):
            self.events.append(event)
        else:
            report.duplicates += 1
            place.rewind.take(len(value), last[1] if last else 0)

    def rewinds(self, limits):
        """C4."""
        for rewind in self.report.rewinds:
            if not limits.explains(rewind):
                self.report.add("duplicates_without_a_kill", f"{rewind}")
            if rewind.bytes > limits.bytes or rewind.span_us > limits.span_s * 1e6:
                self.report.add("duplicates_beyond_the_window", f"{rewind}")

    def history(self, ledger):
        """C1, C2, C3: the changes of each key are exactly those of the ledger, in its order."""
        self.events.sort(key=lambda event: event.place)
        arrived = {}
        for event in self.events:
            arrived.setdefault((event.table, event.key), []).append((event.op, event.op_id))
        for key in ledger.keys() | arrived.keys():
            wanted, got = ledger.get(key, []), arrived.get(key, [])
            if not _same(wanted, got):
                self._explain(key, wanted, got)

    def _explain(self, key, wanted, got):
        where = f"{key[0]} {key[1]}"
        ids = {op_id for _, op_id in wanted}
        created = {op_id for op, op_id in got if op != "d"}
        lost = [pair for pair in wanted if pair[0] != "d" and pair[1] not in created]
        lost_deletes = _deletes(wanted) - _deletes(got)
        invented = [pair for pair in got if pair[1] is not None and pair[1] not in ids]
        for pair in lost:
            self.report.add("lost", f"{where}: {pair}")
        for pair in invented:
            self.report.add("invented", f"{where}: {pair}")
        for _ in range(lost_deletes):
            self.report.add("lost", f"{where}: a delete")
        for _ in range(-lost_deletes):
            self.report.add("invented", f"{where}: a delete")
        if not lost and not invented and lost_deletes == 0:
            self.report.add("order_violations", f"{where}: {got} instead of {wanted}")

    def state(self, tables):
        """C6. A value that the log did not carry is the one that was there before."""
        folded = {}
        for event in self.events:
            key = (event.table, event.key)
            if event.op == "d":
                # The create of a key change may say "as before"; it follows at once.
                gone = folded.pop(key, {})
                self.moved = (key, gone)
                continue
            old = folded.get(key, {})
            if event.previous is not None and self.moved[0] == (event.table, event.previous):
                old = self.moved[1]
            row = dict(event.after)
            row.update({name: old.get(name) for name in event.unchanged})
            folded[key] = row
        for key in tables.keys() | folded.keys():
            if tables.get(key) != folded.get(key):
                self.report.add("state", f"{key}: {folded.get(key)} but the table has "
                                f"{tables.get(key)}"[:400])


def _deletes(changes):
    return sum(1 for op, _ in changes if op == "d")


def _same(wanted, got):
    if len(wanted) != len(got):
        return False
    return all(
        want_op == op and op_id in (want_id, None if op == "d" else want_id)
        for (want_op, want_id), (op, op_id) in zip(wanted, got)
    )


def check(records, ledger, tables, limits):
    """All checks over (stream, key, value) records."""
    checker = Checker()
    for record in records:
        checker.take(*record)
    checker.rewinds(limits)
    checker.history(ledger)
    checker.state(tables)
    return checker.report
