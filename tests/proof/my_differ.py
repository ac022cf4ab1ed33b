"""The comparison on MySQL and MariaDB: see differ.py, whose events, order and fold are the same.

`expected` turns the second opinion into events by the promises of the envelope.
"""

import re
from dataclasses import dataclass

import differ
import forms
import my_forms
from differ import Event, Wrong
from forms import Num, Obj
from kit import commit_number
from my_forms import ANYTHING, Said
from my_mixed import NOTES
from my_oracle import Emptied, Told


# A change inside a document, in the tool's words

class Changed(Said):
    """A document that the log has as changes to the one before: `JSON_SET(@2, '$.a', 1)`."""

    def __init__(self, text, form, before):
        super().__init__(text, form, True)
        self.before = before

    def __eq__(self, value):
        if re.fullmatch(rb"@\d+", self.text):
            return self.before == value
        if value is None:
            return self.document() is None
        return super().__eq__(value)

    __hash__ = None

    def document(self):
        """What the changes make of it."""
        made, rest = evaluate(self.text, self.before)
        if rest:
            raise ValueError(f"text behind a document: {rest!r}")
        return made


def evaluate(text, before):
    """The value that an expression begins with, and what follows it."""
    found = re.match(rb"@\d+", text)
    if found:
        is_null = before.text == b"NULL"
        return None if is_null else before.document(), text[found.end():]
    found = re.match(rb"(JSON_\w+)\( ?", text)
    if found:
        document, text = evaluate(text[found.end():], before)
        return change(found[1], document, text)
    found = re.match(rb"CAST\(('(?:[^'\\]|\\.)*') AS JSON\)", text, re.DOTALL)
    if found:
        return forms.strict_json(my_forms.unquoted(found[1]).decode()), text[found.end():]
    found = re.match(rb"'(?:[^'\\]|\\.)*'", text, re.DOTALL)
    if found:
        return my_forms.unquoted(found[0]).decode(), text[found.end():]
    found = re.match(rb"[^,)\s]+", text)
    words = {b"NULL": None, b"null": None, b"true": True, b"false": False}
    value = words[found[0]] if found[0] in words else Num(found[0].decode())
    return value, text[found.end():]


def change(function, document, text):
    """The paths, and perhaps values, of a function; gives the document and what follows."""
    while not text.startswith(b")"):
        text = text.removeprefix(b",").lstrip()
        path, text = evaluate(text, None)
        value = None
        if function != b"JSON_REMOVE":
            value, text = evaluate(text.removeprefix(b",").lstrip(), None)
        document = changed(function, document, steps(path), value)
    return document, text[1:]


def steps(path):
    """The members and elements that a path goes through."""
    found = re.findall(r'\.("(?:[^"\\]|\\.)*"|[^.\[]+)|\[(\d+)\]', path)
    member = lambda name: forms.exact(name) if name.startswith('"') else name
    return [int(at) if at else member(name) for name, at in found]


def changed(function, node, path, value):
    """A document with a change at the end of a path."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(node, Obj) and isinstance(step, str):
        members = dict(node.pairs)
        if rest or (step in members and function != b"JSON_REMOVE"):
            members[step] = changed(function, members[step], rest, value)
        elif function == b"JSON_REMOVE":
            del members[step]
        else:
            members[step] = value
        order = sorted(members, key=lambda name: (len(name.encode()), name.encode()))
        return Obj(tuple((name, members[name]) for name in order))
    if isinstance(node, list) and isinstance(step, int):
        node = list(node)
        if rest or (step < len(node) and function in (b"JSON_REPLACE", b"JSON_SET")):
            node[step] = changed(function, node[step], rest, value)
        elif function == b"JSON_REMOVE":
            del node[step]
        else:
            node.insert(step, value)
        return node
    # A value that is no array counts as the only element of one.
    return changed(function, [node], path, value)


# What must come

class Places:
    """Where an event may begin."""

    def __init__(self, places):
        self.places = [str(place) for place in places]

    def __eq__(self, other):
        return other in self.places

    def __repr__(self):
        return " or ".join(self.places)

    __hash__ = None


@dataclass
class Scene:
    """What a seed's events are told by."""

    database: str
    is_mysql: bool
    is_partial: bool
    """Whether the server logs a part of each row."""
    told: list
    """What became of tables."""

    def is_captured(self, schema, table):
        """Whether changes of a table come. Those of the copies that tools for changes of large tables
        make do not: they are the same rows again.
        """
        is_ours = schema == self.database and table != NOTES and not table.startswith("hidden")
        return is_ours and not re.fullmatch(r"_.*_(gho|del)", table)


def said(scene, description, texts, before=None):
    """The tool's texts of an image as values, by column."""
    found = {}
    for name, form in description.columns:
        if name not in texts:
            continue
        text = texts[name]
        if form.kind == "json" and text.startswith((b"JSON_", b"@")):
            found[name] = Changed(text, form, before[name])
        else:
            found[name] = Said(text, form, scene.is_mysql)
    return found


def key_of(description, image):
    """An image's key; None where the table has none."""
    if not description.key:
        return None
    ordered = [name for name in description.key]
    return Obj(tuple((name, image[name]) for name in ordered))


def shown_before(scene, description, before):
    """What an event shows of an old row: all of it, or the key where the log has a part and the server
    says that it logs parts.
    """
    names = [name for name, _ in description.columns]
    is_whole = all(name in before for name in names)
    if not is_whole and scene.is_partial and description.key:
        before = {name: value for name, value in before.items() if name in description.key}
    return Obj(tuple((name, before[name]) for name in names if name in before))


def events_of(scene, row, make):
    """The events of one changed row."""
    description = row.description
    names = [name for name, _ in description.columns]
    before = said(scene, description, row.before) if row.before is not None else None
    if row.is_torn:
        return [torn(row, names, before, make)]
    after = said(scene, description, row.after, before) if row.after is not None else None
    old = shown_before(scene, description, before) if before is not None else None
    if after is None:
        return [make(-1, op="d", key=key_of(description, before), before=old)]
    # What a new row lacks is as it was, as far as the log has that.
    new = {name: after.get(name, (before or {}).get(name)) for name in names}
    unchanged = [name for name in names if new[name] is None]
    image = Obj(tuple((name, new[name]) for name in names if new[name] is not None))
    key = key_of(description, new)
    if row.op == "u" and any(name in after and name in before and after[name].text != before[name].text
                             for name in description.key):
        gone = key_of(description, before)
        return [make(0, op="d", key=gone, before=old),
                make(1, op="c", key=key, after=image, previous_key=gone, unchanged=unchanged)]
    return [make(-1, op=row.op, key=key, before=old, after=image, unchanged=unchanged)]


def torn(row, names, before, make):
    """The event of a row of which the tool prints the first values alone."""
    image = before if before is not None else said_of_torn(row, names)
    shown = Obj(tuple((name, (image or {}).get(name, ANYTHING)) for name in names))
    key = key_of(row.description, image)
    if row.op == "c":
        return make(-1, op="c", key=key, after=shown)
    if row.op == "d":
        return make(-1, op="d", key=key, before=ANYTHING)
    return make(-1, op="u", key=key, before=ANYTHING, after=ANYTHING, unchanged=ANYTHING)


def said_of_torn(row, names):
    """The values of a new row that the tool printed."""
    kinds = dict(row.description.columns)
    return {name: Said(row.after[name], kinds[name], True) for name in names if name in row.after}


def expected(transactions, scene):
    """Every event that must come, and between them what the workload told, in order."""
    for number, transaction in enumerate(transactions):
        index = 0
        for entry in transaction.entries:
            if isinstance(entry, Told):
                yield scene.told[entry.number]
                continue
            schema, table = names_of(entry)
            if not scene.is_captured(schema, table):
                continue
            places = [entry.place] if isinstance(entry, Emptied) else entry.places

            def make(part, op, table=table, at=(number, index), places=places,
                     transaction=transaction, entry=entry, **more):
                event = Event(op, table, (*at, part), Places(places), transaction.id, transaction.ts_us,
                              **more)
                event.entry = entry
                return event

            index += 1
            if isinstance(entry, Emptied):
                yield make(-1, op="t")
            else:
                yield from events_of(scene, entry, make)


def names_of(entry):
    """Schema and name of the table of an entry."""
    if isinstance(entry, Emptied):
        return entry.schema, entry.table
    return entry.description.schema, entry.description.table


def spread(wanted, came):
    """Differences in which rows of a statement are in which of its row events: each event has some, in
    their order.
    """
    seen, differences = {}, []
    for event, other in zip(wanted, came):
        if not isinstance(event.entry, Emptied):
            key = (event.entry.statement, event.entry.op, event.table)
            seen.setdefault(key, (event.entry.places, []))[1].append(other.lsn)
    for (_, op, table), (places, found) in seen.items():
        # Those of a packed transaction have one place.
        order, there = list(dict.fromkeys(found)), list(dict.fromkeys(map(str, places)))
        if order != there:
            differences.append(f"{op} {table}: rows stand in {order}, the row events are {there}")
    return differences[:5]


# What arrived

def arrived(line, name, database):
    """An event's line as an Event, whose place is (commit, index, part)."""
    envelope = dict(forms.exact(line.decode()).pairs)
    source = dict(envelope["source"].pairs)
    position = dict(source["position"].pairs)
    transaction = dict(envelope["transaction"].pairs)
    schema = dict(envelope["schema"].pairs)
    owner, _, rest = envelope["id"].partition(":")
    commit, _, number = rest.rpartition(":")
    index, _, part = number.partition(".")
    has_gtid = not commit.startswith(position["file"].split(".")[0])
    wrong = [what for what, holds in [
        ("id", owner == name and commit == transaction["id"]),
        ("gtid", position.get("gtid") == (commit if has_gtid else None)),
        ("index", position["index"].text == index == transaction["index"].text),
        ("subject", schema["subject"] == f"{name}.{database}.{source['table']}"),
        ("version", re.fullmatch(r"1\.\d+", envelope["v"])
         and re.fullmatch(r"\d+\.\d+", schema["version"])),
        ("source", (source["connector"], source["name"], source["db"], source["schema"],
                    source["snapshot"]) == ("mysql", name, database, database, "false")),
    ] if not holds]
    if wrong:
        raise Wrong(f"{envelope['id']} contradicts itself: {', '.join(wrong)}")
    return Event(
        envelope["op"], source["table"], (commit_number(commit), int(index), int(part or -1)),
        f"{position['file']}:{position['pos'].text}", transaction["id"], int(source["ts_us"].text),
        envelope["key"], envelope["before"], envelope["after"], envelope.get("previous_key"),
        envelope.get("unchanged", []), sorted(envelope.get("raw_json", [])),
    )


def number_transactions(events, transactions):
    """Puts the number of its transaction in the place of an event's commit."""
    numbers = {transaction.id: number for number, transaction in enumerate(transactions)}
    wrong = []
    for event in events:
        number = numbers.get(event.xid)
        if number is None:
            wrong.append(f"transaction {event.xid} did not commit")
            number = -1
        event.place = (number, *event.place[1:])
    return wrong


# The fold

class Fold(differ.Fold):
    """Tables made of events."""

    def tell(self, told):
        """A table is otherwise: what no event says of its rows, but the definition does."""
        table = told["table"]
        if "renamed" in told:
            self.keyed[table] = self.keyed.pop(told["renamed"], {})
        if told.get("created"):
            self.keyed.pop(table, None)
            self.keyless.pop(table, None)
        rows = self.rows(table)
        if "add" in told:
            column, kind, came = told["add"]
            value = came
            if came is not None and kind in ("int", "tinyint unsigned"):
                value = Num(came)
            for row in rows.values():
                row[column] = value
        if "drop" in told:
            for row in rows.values():
                row.pop(told["drop"], None)
        if "retype" in told:
            column, old, new = told["retype"]
            for row in rows.values():
                row[column] = my_forms.retyped(row[column], old, new)
        if "rename" in told and told["rename"][0] != told["rename"][1]:
            old, new = told["rename"]
            for row in rows.values():
                row[new] = row.pop(old)

    def against_rows(self, table, key, columns, records):
        """Compares a table with the server's own rows, given as cells by column."""
        found = [{name: my_forms.stored(form, record[name]) for name, form in columns}
                 for record in records]
        if not key:
            rows = sorted(self.text(self.plain(columns, dict(row.pairs)))
                          for row in self.keyless.get(table, []))
            there = sorted(map(self.text, found))
            if rows != there:
                self.wrong.append(f"{table}: {len(there)} rows in the table, {len(rows)} folded, "
                                  "not the same")
            return
        there = {self.name(row, key): row for row in found}
        rows = {self.name(row, key): self.plain(columns, row) for row in self.rows(table).values()}
        for name in sorted(there.keys() | rows.keys()):
            if name not in rows or name not in there:
                where = "events" if name in rows else "table"
                self.wrong.append(f"{table} {name}: only in the {where}")
            elif rows[name] != there[name]:
                self.wrong.append(f"{table} {name}" + unlike(there[name], rows[name]))

    def take_keyless(self, event, before, after):
        """A row that is known by all of its values alone."""
        rows = self.keyless.setdefault(event.table, [])
        if event.op in "ud":
            try:
                rows.remove(before)
            except ValueError:
                self.wrong.append(f"{differ.show(event)}: the old row is not there")
        if event.op in "uc":
            rows.append(after)

    @staticmethod
    def text(row):
        """A row as text that orders and compares."""
        return differ.json_of(Obj(tuple(sorted(row.items()))))

    @staticmethod
    def name(row, key):
        """A row's key as text."""
        return differ.json_of(Obj(tuple((column, row.get(column)) for column in key)))

    @staticmethod
    def plain(columns, row):
        """A row of events, to be compared with one of SQL; values of columns that are not there stay.
        """
        kinds = dict(columns)
        return {name: my_forms.folded(kinds[name], value) if name in kinds else value
                for name, value in row.items()}


def unlike(there, folded):
    """The columns in which two rows differ, in words."""
    names = sorted(there.keys() | folded.keys())
    pairs = [(name, there.get(name, differ.MISSING), folded.get(name, differ.MISSING)) for name in names]
    return "; ".join(f".{name}: {differ.cut(one)} in the table, {differ.cut(other)} folded"
                     for name, one, other in pairs if one != other)
