"""The comparison: what arrived against what test_decoding says, and its fold against the tables.

`expected` turns the second opinion into events, by the promises of the envelope and of TYPES.md;
`compare` goes through both in order; `fold` brings the events together to tables.
"""

import calendar
import json
import re
import time
from dataclasses import dataclass, field

import forms
import oracle
from forms import Obj
from kit import lsn
from mixed import HIDDEN
from samples import form_of

MISSING = object()


@dataclass
class Event:
    """One event as it should be, or as it came."""

    op: str
    table: str
    place: tuple
    """Transaction's number in commit order, index of the change, part; -1 where there is none."""
    lsn: str
    xid: str
    ts_us: int
    key: object = None
    before: object = None
    after: object = None
    previous_key: object = None
    unchanged: list = field(default_factory=list)
    raw_json: list = field(default_factory=list)

    FIELDS = ("op", "table", "place", "lsn", "xid", "ts_us", "key", "before", "after",
              "previous_key", "unchanged", "raw_json")

    def differences(self, other):
        """The fields in which another event differs."""
        return [name for name in self.FIELDS if getattr(self, name) != getattr(other, name)]


class Tables:
    """The tables as of a place in the log, as the workload told."""

    def __init__(self, first, by_root):
        self.by_name = {told["table"]: told for told in first}
        self.by_root = by_root

    def learn(self, told):
        """A table is otherwise from here on."""
        self.by_name.pop(told["action"].get("renamed"), None)
        self.by_name[told["table"]] = told

    def sent_as(self, name):
        """The table as which changes of a table are published; None where they are not."""
        table = self.by_name[name]
        if not self.by_root:
            return None if self.is_root(name) else table
        return self.by_name[table["root"]] if table["root"] else table

    def is_root(self, name):
        """Whether the table has only partitions and no rows of its own."""
        return name == "parted"

    def truncated_as(self, name):
        """The same for a truncate, which is sent for what is named in it alone."""
        table = self.by_name[name]
        if self.by_root:
            return None if table["root"] else table
        return None if self.is_root(name) else table


def columns_of(table):
    """The columns that are published, in their order, with the form of their values."""
    return [(c["name"], form_of(c["type"])) for c in table["columns"] if not c["generated"]]


def key_columns(table):
    """The columns of the entity's key."""
    return table["identity_columns"] if table["identity"] == "index" else table["key"]


class Image:
    """A row image: the JSON of its values by column."""

    def __init__(self, table, texts, fill=None):
        self.values, self.unchanged, self.raw = {}, [], []
        self.texts = {}
        for name, form in columns_of(table):
            text = texts.get(name, MISSING)
            if text is oracle.UNCHANGED and fill and name in fill:
                text = fill[name]
            if text is MISSING:
                continue
            if text is oracle.UNCHANGED:
                self.unchanged.append(name)
                continue
            self.texts[name] = text
            self.values[name] = text if text is None else self.decoded(name, text, form)

    def decoded(self, name, text, form):
        """A value; JSON that cannot stand as such is its text."""
        try:
            return forms.value(text, form)
        except forms.NotStrict:
            self.raw.append(name)
            return text

    def as_text(self, columns):
        """These columns stand as text, because they do in the event's other image."""
        for name in columns:
            if isinstance(self.texts.get(name), str):
                self.values[name] = self.texts[name]

    def object(self):
        """As it stands in an event."""
        return Obj(tuple(self.values.items()))

    def key(self, table):
        """The entity's key; None where the table has none."""
        names = set(key_columns(table))
        found = [name for name, _ in columns_of(table) if name in names]
        if not found:
            return None
        return Obj(tuple((name, self.values[name]) for name in found))


def old_image(table, change):
    """The old row as the log carries it."""
    if change.old is None:
        return None
    if table["identity"] == "full":
        # test_decoding leaves NULLs out of it.
        return Image(table, {name: None for name, _ in columns_of(table)} | change.old)
    return Image(table, change.old)


def finish(event, before, after):
    """Fills an event's images."""
    raw = []
    for image in (before, after):
        if image:
            raw += [name for name in image.raw if name not in raw]
    if before and after:
        before.as_text(raw)
        after.as_text(raw)
    event.before = before.object() if before else None
    event.after = after.object() if after else None
    event.unchanged = after.unchanged if after else []
    event.raw_json = sorted(raw)
    return event


def events_of(change, table, make):
    """The events of one change of a row."""
    old = old_image(table, change)
    # A full old row stands in for what the new one does not carry.
    fill = old.texts if old and table["identity"] == "full" else None
    new = Image(table, change.new, fill) if change.new is not None else None
    key = (new or old).key(table)
    if change.op == "u" and old and key is not None and key_texts(old, table) != key_texts(new, table):
        gone = make("d", 0, key=old.key(table))
        # Each image anew: as text in one event says nothing of the other.
        come = make("c", 1, key=key, previous_key=old.key(table))
        return [finish(gone, old, None), finish(come, None, new)]
    return [finish(make(change.op, -1, key=key), old, new)]


def key_texts(image, table):
    """The key as the server prints it."""
    return [image.texts.get(name) for name in key_columns(table)]


def micros(text):
    """A commit's time in microseconds since 1970."""
    day, _, fraction = text.removesuffix("+00").partition(".")
    whole = calendar.timegm(time.strptime(day, "%Y-%m-%d %H:%M:%S"))
    return whole * 1_000_000 + int(f"{fraction or 0:0<6}")


def expected(transactions, tables):
    """Every event that must come, and between them what the workload told, in order."""
    for number, transaction in enumerate(transactions):
        index = 0
        for entry in transaction.entries:
            if isinstance(entry, dict):
                tables.learn(entry)
                yield entry
                continue

            def make(op, part, table=None, place=index, entry=entry, **more):
                return Event(op, table, (number, place, part), entry.lsn, transaction.xid,
                             micros(transaction.time), **more)

            if entry.op == "t":
                sent = [tables.truncated_as(name) for _, name in entry.tables]
                sent = [table for table in sent if table]
                for part, table in enumerate(sent):
                    if table["table"] != HIDDEN:
                        yield make("t", part if len(sent) > 1 else -1, table["table"])
                index += bool(sent)
                continue
            table = tables.sent_as(entry.tables[0][1])
            index += 1
            if table["table"] == HIDDEN:
                continue
            for event in events_of(entry, table, make):
                event.table = table["table"]
                yield event


# What arrived

IDENTITY = re.compile(r"(.+):([0-9A-F]+/[0-9A-F]+):(\d+)(?:\.(\d+))?")


class Wrong(Exception):
    """An event that contradicts itself."""


def arrived(line, name):
    """An event's line as an Event, whose place is (commit LSN, index, part)."""
    envelope = dict(forms.exact(line.decode()).pairs)
    source = dict(envelope["source"].pairs)
    position = dict(source["position"].pairs)
    transaction = dict(envelope["transaction"].pairs)
    schema = dict(envelope["schema"].pairs)
    identity = IDENTITY.fullmatch(envelope["id"])
    index, part = int(identity[3]), int(identity[4] or -1)
    wrong = [what for what, holds in [
        ("id", identity[1] == name and identity[2] == position["commit_lsn"]),
        ("index", position["index"].text == identity[3] == transaction["index"].text),
        ("subject", schema["subject"] == f"{name}.{source['schema']}.{source['table']}"),
        ("version", re.fullmatch(r"1\.\d+", envelope["v"])
         and re.fullmatch(r"\d+\.\d+", schema["version"])),
        ("source", (source["connector"], source["name"], source["schema"], source["snapshot"])
         == ("postgres", name, "public", "false")),
    ] if not holds]
    if wrong:
        raise Wrong(f"{envelope['id']} contradicts itself: {', '.join(wrong)}")
    return Event(
        envelope["op"], source["table"], (lsn(position["commit_lsn"]), index, part),
        position["lsn"], transaction["id"], int(source["ts_us"].text), envelope["key"],
        envelope["before"], envelope["after"], envelope.get("previous_key"),
        envelope.get("unchanged", []), sorted(envelope.get("raw_json", [])),
    )


def number_transactions(events, transactions):
    """Puts the number of its transaction in the place of an event's commit LSN."""
    numbers = {transaction.xid: number for number, transaction in enumerate(transactions)}
    seen, wrong = {}, []
    for event in events:
        commit = event.place[0]
        number = numbers.get(event.xid)
        if number is None:
            wrong.append(f"transaction {event.xid} did not commit")
            number = -1
        elif seen.setdefault(commit, number) != number:
            wrong.append(f"two transactions have the commit LSN {commit:X}")
        elif not lsn(event.lsn) <= commit < lsn(transactions[number].end):
            wrong.append(f"the commit LSN {commit:X} is not in transaction {event.xid}")
        event.place = (number, *event.place[1:])
    return wrong


def compare(wanted, came):
    """Differences, in words; the first few of them are enough."""
    came = iter(came)
    differences = []
    for event in wanted:
        other = next(came, None)
        if other is None:
            differences.append(f"missing, with all that follows: {show(event)}")
            break
        fields = event.differences(other)
        if fields:
            told = "; ".join(
                part for name in fields
                for part in unlike(name, getattr(event, name), getattr(other, name)))
            differences.append(f"{show(event)}\n      {told}")
        if len(differences) == 5:
            return differences
    more = next(came, None)
    if more is not None and not differences:
        differences.append(f"more than expected: {show(more)}")
    return differences


def unlike(name, wanted, came):
    """What of a field differs, in words: of two images with the same columns, those that do."""
    if isinstance(wanted, Obj) and isinstance(came, Obj):
        pairs = list(zip(wanted.pairs, came.pairs))
        if len(wanted.pairs) == len(came.pairs) and all(a[0] == b[0] for a, b in pairs):
            return [f"{name}.{a[0]}: {cut(a[1])} expected, {cut(b[1])} came"
                    for a, b in pairs if a[1] != b[1]]
    return [f"{name}: {cut(wanted)} expected, {cut(came)} came"]


def cut(value, longest=400):
    """A value in words, not too many."""
    words = repr(value)
    return words if len(words) <= longest else f"{words[:longest]}… ({len(words)})"


def show(event):
    """An event in words."""
    return (f"{event.op} {event.table} key {cut(event.key, 120)} at {event.place}, "
            f"LSN {event.lsn}, transaction {event.xid}")


# The fold

class Fold:
    """Tables made of events."""

    def __init__(self):
        self.keyed = {}
        """By table and key: the row."""
        self.keyless = {}
        """By table: its rows, of a table without a key."""
        self.moved = None
        self.wrong = []

    def rows(self, table):
        """The rows of a table."""
        return self.keyed.setdefault(table, {})

    def tell(self, told, tables):
        """A table is otherwise: what no event says of its rows, but the schema does."""
        action, name = told["action"], told["table"]
        if "renamed" in action:
            self.keyed[name] = self.keyed.pop(action["renamed"], {})
        if action.get("created"):
            self.keyed.pop(name, None)
        rows = self.rows(name)
        if "add" in action:
            column, kind, text = action["add"]
            value = None if text is None else forms.value(text, form_of(kind))
            for row in rows.values():
                row[column] = value
        if "drop" in action:
            for row in rows.values():
                row.pop(action["drop"], None)
        if "rename" in action:
            old, new = action["rename"]
            for row in rows.values():
                row[new] = row.pop(old, MISSING)
        if "retype" in action:
            column, old, new = action["retype"]
            for row in rows.values():
                value = row.get(column, MISSING)
                row[column] = value if value is MISSING else forms.retyped(value, old, new)
        if tables.by_root and ("attach" in action or "detach" in action):
            here, there = ("parted", name) if "detach" in action else (name, "parted")
            leaving = [key for key, row in self.rows(here).items() if row.get("region", MISSING) in told["regions"]]
            for key in leaving:
                self.rows(there)[key] = self.rows(here).pop(key)

    def take(self, event, tables):
        """One event."""
        if event.op == "t":
            self.keyed.pop(event.table, None)
            self.keyless.pop(event.table, None)
            return
        before, after = (plain_row(image, event, tables) for image in (event.before, event.after))
        if event.key is None:
            self.take_keyless(event, before, after)
        else:
            self.take_keyed(event, after)

    def take_keyed(self, event, after):
        """A row with a key."""
        rows = self.rows(event.table)
        key = name_of(event.key)
        if event.op == "d":
            self.moved = (event.key, rows.pop(key, None))
            if self.moved[1] is None:
                self.wrong.append(f"{show(event)} deletes what is not there")
            return
        row = dict(after.pairs)
        known = rows.get(key)
        if event.op == "c" and event.previous_key is not None:
            known = self.moved[1] if self.moved and self.moved[0] == event.previous_key else None
        elif (event.op == "c") == (known is not None):
            self.wrong.append(f"{show(event)}: the row is {'there' if known else 'not there'}")
        for column in event.unchanged:
            row[column] = (known or {}).get(column, MISSING)
        rows[key] = row

    def take_keyless(self, event, before, after):
        """A row that is known by all of its values alone."""
        rows = self.keyless.setdefault(event.table, [])
        if event.op in "ud":
            try:
                rows.remove(json_of(before))
            except ValueError:
                self.wrong.append(f"{show(event)}: the old row is not there")
        if event.op in "uc":
            rows.append(json_of(after))

    def against(self, name, table, records):
        """Compares a table with the server's own rows, given as texts by column."""
        found = [Image(table, record).object() for record in records]
        if not key_columns(table):
            rows = sorted(self.keyless.get(name, []))
            if rows != sorted(map(json_of, found)):
                self.wrong.append(f"{name}: {len(found)} rows in the table, {len(rows)} folded, "
                                  "not the same")
            return len(found)
        names = [column for column, _ in columns_of(table) if column in key_columns(table)]
        there = {}
        for row in found:
            values = dict(row.pairs)
            there[name_of(Obj(tuple((column, values[column]) for column in names)))] = values
        rows = self.rows(name)
        for key in sorted(there.keys() | rows.keys()):
            if key not in rows or key not in there:
                where = "events" if key in rows else "table"
                self.wrong.append(f"{name} {key}: only in the {where}")
            elif rows[key] != there[key]:
                columns = [c for c in there[key].keys() | rows[key].keys()
                           if rows[key].get(c, MISSING) != there[key].get(c, MISSING)]
                self.wrong.append("; ".join(
                    f"{name} {key}.{c}: {cut(there[key].get(c))} in the table, "
                    f"{cut(rows[key].get(c))} folded" for c in columns))
        return len(found)


def plain_row(image, event, tables):
    """An image whose columns stand as text only where their own value makes them."""
    if image is None or not event.raw_json:
        return image
    forms_of = dict(columns_of(tables.by_name[event.table]))

    def plain(name, value):
        if name not in event.raw_json or not isinstance(value, str):
            return value
        try:
            return forms.value(value, forms_of[name])
        except forms.NotStrict:
            return value
    return Obj(tuple((name, plain(name, value)) for name, value in image.pairs))


def name_of(key):
    """A key as text, whatever the order of its columns: a partition may have another."""
    return json_of(Obj(tuple(sorted(key.pairs, key=lambda pair: pair[0]))))


def json_of(value):
    """A value as text that orders and compares."""
    def plain(inner):
        if isinstance(inner, Obj):
            return {"o": [[name, plain(item)] for name, item in inner.pairs]}
        if isinstance(inner, forms.Num):
            return {"n": inner.text}
        if isinstance(inner, list):
            return [plain(item) for item in inner]
        return inner
    return json.dumps(plain(value))
