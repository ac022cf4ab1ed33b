"""The second opinion: what test_decoding says of the same log, on a slot of its own.

Reads its text with a parser that shares nothing with the product.
"""

import json
import re
from dataclasses import dataclass, field

# With enough memory: PostgreSQL 18.4's test_decoding crashes at the end of a subtransaction that
# outgrew it and was rolled back.
CHANGES = """
set logical_decoding_work_mem = '1GB';
set datestyle = 'ISO, MDY'; set intervalstyle = postgres; set timezone = 'UTC';
set extra_float_digits = 3; set bytea_output = hex; set lc_monetary = 'C';
select lsn, xid, encode(data, 'hex') from pg_logical_slot_get_binary_changes(
  'oracle', null, null, 'include-timestamp', '1');
"""

UNCHANGED = object()
"""A value that the log does not carry."""


@dataclass
class Change:
    """One change, with the server's text of every value."""

    op: str
    tables: list
    """(schema, name); several in a truncate."""
    lsn: str
    old: dict | None = None
    new: dict | None = None


@dataclass
class Transaction:
    """A committed transaction: its changes and what the workload said about the tables."""

    xid: str
    entries: list = field(default_factory=list)
    """Change, or the content of a message of the workload about a table."""
    end: str = ""
    time: str = ""


class Reader:
    """Takes a line of test_decoding apart."""

    def __init__(self, text):
        self.text = text
        self.at = 0

    def is_at_end(self):
        """Whether nothing is left."""
        return self.at >= len(self.text)

    def takes(self, part):
        """Whether the part stands here; if so it is read."""
        if self.text.startswith(part, self.at):
            self.at += len(part)
            return True
        return False

    def expect(self, part):
        """Reads the part."""
        if not self.takes(part):
            raise ValueError(f"{part!r} expected at {self.text[self.at:self.at + 60]!r}")

    def identifier(self):
        """A name, quoted or not."""
        if self.takes('"'):
            out = []
            while True:
                end = self.text.index('"', self.at)
                out.append(self.text[self.at:end])
                self.at = end + 1
                if not self.takes('"'):
                    return "".join(out)
                out.append('"')
        found = re.compile(r"[a-z_][a-z0-9_$]*").match(self.text, self.at)
        self.at = found.end()
        return found[0]

    def table(self):
        """`schema.name`."""
        schema = self.identifier()
        self.expect(".")
        return schema, self.identifier()

    def literal(self):
        """A value's text; None for NULL."""
        if self.takes("B'") or self.takes("'"):
            out = []
            while True:
                end = self.text.index("'", self.at)
                out.append(self.text[self.at:end])
                self.at = end + 1
                if not self.takes("'"):
                    return "".join(out)
                out.append("'")
        end = self.text.find(" ", self.at)
        end = len(self.text) if end < 0 else end
        word, self.at = self.text[self.at:end], end
        if word == "null":
            return None
        return UNCHANGED if word == "unchanged-toast-datum" else word

    def tuple(self):
        """` name[type]:value …` up to the end or to ` new-tuple:`."""
        if self.takes(" (no-tuple-data)"):
            return None
        columns = {}
        while not self.is_at_end() and not self.text.startswith(" new-tuple:", self.at):
            self.expect(" ")
            name = self.identifier()
            self.expect("[")
            # Names of types hold brackets of arrays, and none that a colon follows.
            self.at = self.text.index("]:", self.at) + 2
            columns[name] = self.literal()
        return columns


def change(text, lsn):
    """One line about a table."""
    read = Reader(text)
    read.expect("table ")
    tables = [read.table()]
    while read.takes(", "):
        tables.append(read.table())
    read.expect(": ")
    if read.takes("TRUNCATE:"):
        return Change("t", tables, lsn)
    if read.takes("INSERT:"):
        return Change("c", tables, lsn, new=read.tuple())
    if read.takes("DELETE:"):
        return Change("d", tables, lsn, old=read.tuple())
    read.expect("UPDATE:")
    old = read.tuple() if read.takes(" old-key:") else None
    if old is not None:
        read.expect(" new-tuple:")
    return Change("u", tables, lsn, old=old, new=read.tuple())


MESSAGE = re.compile(r"message: transactional: (\d) prefix: (\S+), sz: \d+ content:(.*)", re.DOTALL)
COMMIT = re.compile(r"COMMIT (\d+) \(at (.+)\)")


def transactions(rows, prefix):
    """The transactions in the order of their commits. Messages with `prefix` are JSON."""
    found, open_one = [], None
    for row in rows:
        lsn, xid, data = row.split("|")
        text = bytes.fromhex(data).decode("utf-8", "surrogateescape")
        if text.startswith("BEGIN"):
            open_one = Transaction(xid)
        elif text.startswith("COMMIT"):
            open_one.end = lsn
            open_one.time = COMMIT.fullmatch(text)[2]
            found.append(open_one)
            open_one = None
        elif text.startswith("message:"):
            parts = MESSAGE.fullmatch(text)
            if parts[2] == prefix:
                open_one.entries.append(json.loads(parts[3]))
        else:
            open_one.entries.append(change(text, lsn))
    return found
