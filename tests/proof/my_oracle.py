"""The second opinion: what mysqlbinlog or mariadb-binlog prints of the same log.

Reads the tool's text with a parser that shares nothing with the product. What the text leaves out:

- MySQL's tool knows no geometries: it ends the row event at the first one, null or not. The workload
  changes tables that have any by one row at a time, and the rest of that row is not compared here.
- A statement in several row events is printed as their headers first and all of its rows then: which
  row is in which event is only known as far as order, table and operation say.
- MariaDB's tool shows an unsigned column as a signed one where a YEAR stands before it.
- FLOAT and VECTOR have six digits, YEAR 0 is printed as 1900 (which no YEAR is), unsigned numbers as
  signed ones, MariaDB's texts without escapes: my_forms.py compares these in the tool's own form.

Values that are printed short are compared whole where events are brought together and compared with
the tables.
"""

import calendar
import re
import subprocess
from dataclasses import dataclass, field

from my_forms import form_of


@dataclass(frozen=True)
class Place:
    """Where an event begins."""

    file: str
    pos: int

    def __str__(self):
        return f"{self.file}:{self.pos}"


@dataclass
class Description:
    """A table as a TABLE_MAP event describes it."""

    schema: str
    table: str
    columns: list = field(default_factory=list)
    """(name, form)."""
    key: list = field(default_factory=list)


@dataclass
class Header:
    """A row event of a statement."""

    place: Place
    description: Description
    op: str


@dataclass
class Row:
    """A changed row: the tool's text of its values by column."""

    op: str
    description: Description
    places: list
    """Where the event begins that it is in: one of these."""
    statement: int
    before: dict | None = None
    after: dict | None = None
    is_torn: bool = False
    """Whether the tool did not print all of it."""


@dataclass
class Emptied:
    """A table that a statement emptied."""

    schema: str
    table: str
    place: Place


@dataclass
class Told:
    """What the workload says of a table, by its number."""

    number: int


@dataclass
class Transaction:
    """A transaction that took effect."""

    id: str
    ts_us: int
    entries: list = field(default_factory=list)
    headers: dict = field(default_factory=dict)
    """By statement: its row events."""


HEADER = re.compile(
    rb"#(\d{6} +\d+:\d\d:\d\d) server id \d+  end_log_pos (\d+) (?:CRC32 0x[0-9a-f]+ )?\t(.*)",
    re.DOTALL)
ROWS = re.compile(
    rb"(Write|Update|Delete)_(?:compressed_)?rows(?:_compressed)?(?:_partial)?: table id (\d+)(.*)")
TABLE_MAP = re.compile(rb"Table_map: `(.*)`\.`(.*)` mapped to number (\d+)")
COLUMN = re.compile(rb"`((?:[^`]|``)*)` (.*)", re.DOTALL)
ROW = re.compile(rb"### (INSERT INTO|UPDATE|DELETE FROM) `(.*)`\.`(.*)`")
VALUE = re.compile(rb"###   @(\d+)=(.*)", re.DOTALL)
XID = re.compile(rb"XA (START|END|PREPARE|COMMIT|ROLLBACK) (X'.*',X'.*',\d+)(.*)")
OP = {b"Write": "c", b"Update": "u", b"Delete": "d", b"INSERT INTO": "c", b"UPDATE": "u",
      b"DELETE FROM": "d"}


def name(raw):
    """A name without its quotes."""
    return raw.decode().replace("``", "`")


class Parser:
    """Takes the text of one file after another apart."""

    def __init__(self, is_mysql, start, schema, is_flat):
        self.is_mysql, self.start, self.schema, self.is_flat = is_mysql, start, schema, is_flat
        self.transactions = []
        self.open = None
        self.prepared = {}
        self.savepoints = {}
        self.database = ""
        self.statement = 0
        self.stamp = 0

    # One file

    def read(self, file, text):
        """The text of a file."""
        self.file, self.end, self.payload = file, 4, None
        self.maps, self.row, self.image, self.column = {}, None, None, None
        self.map, self.query, self.gtid_place = None, None, None
        for line in text.split(b"\n"):
            self.line(line)

    def line(self, line):
        """One line."""
        if self.query is not None:
            return self.query_line(line)
        if line.startswith(b"###"):
            return self.row_line(line)
        if line.startswith(b"#"):
            return self.comment(line)
        if line.startswith(b"SET @@SESSION.GTID_NEXT= '") and self.gtid_place:
            gtid = line.split(b"'")[1].decode()
            self.begin(self.place_id() if gtid == "ANONYMOUS" else gtid, self.stamp)
            self.gtid_place = None
        elif line.startswith(b"COMMIT/*"):
            self.commit()
        elif line.startswith(b"XA "):
            self.xa(line.removesuffix(b"/*!*/;"))
        elif line.startswith(b"use `"):
            self.database = name(line[5:line.rindex(b"`")])
        return None

    def comment(self, line):
        """A line that begins with `#`."""
        found = HEADER.fullmatch(line)
        if found:
            return self.header(found)
        if line.startswith(b"# Start of compressed events"):
            self.payload = self.last
        elif line.startswith(b"# End of compressed events"):
            self.payload = None
        elif line.startswith(b"# Columns(") or (line.startswith(b"#         `") and self.map):
            # A comma or the closing parenthesis stands behind it.
            column = COLUMN.fullmatch(line.removeprefix(b"# Columns(").removeprefix(b"#         ")[:-1])
            described = column[2].replace(b" NOT NULL", b"")
            column_name = name(column[1])
            self.map.columns.append((column_name, form_of(column_name, described)))
        elif line.startswith(b"# Primary Key(") and self.map:
            listed = line[len(b"# Primary Key("):-1].decode()
            names = [column for column, _ in self.map.columns]
            # Names may hold commas: those of the table are looked for.
            while listed:
                for column in sorted(names, key=len, reverse=True):
                    if listed == column or listed.startswith((column + ",", column + "(")):
                        self.map.key.append(column)
                        listed = listed[len(column):].lstrip(", ")
                        break
                else:
                    raise ValueError(f"a key that is not understood: {listed}")
        return None

    def header(self, found):
        """The head of an event."""
        end, what = int(found[2]), found[3]
        is_inner = self.payload is not None
        place = self.payload if is_inner else Place(self.file, self.end)
        if not is_inner:
            self.end = end
            self.last = place
        # An event ends what was said of the one before.
        self.row = self.image = self.column = None
        rows = ROWS.match(what)
        if not rows:
            self.map = None
        mapped = TABLE_MAP.match(what)
        if mapped:
            self.map = Description(name(mapped[1]), name(mapped[2]))
            self.maps[int(mapped[3])] = self.map
        elif rows:
            self.rows_header(rows, place)
        elif what.startswith((b"GTID\t", b"Anonymous_GTID\t", b"Anonymous_Gtid\t")):
            stamp = re.search(rb"original_committed_timestamp=(\d+)", what)
            self.gtid_place, self.stamp = place, int(stamp[1])
        elif what.startswith(b"GTID "):
            self.begin(what.split(b" ")[1].split(b"\t")[0].decode(), seconds(found[1]))
        elif what.startswith((b"Query\t", b"Query_compressed\t")):
            self.query, self.query_place = [], place
        elif re.match(rb"Xid = ", what) and self.open is None:
            raise ValueError(f"a commit outside a transaction at {place}")

    def place_id(self):
        """What names a transaction without a GTID."""
        return str(self.gtid_place)

    def rows_header(self, rows, place):
        """The head of a row event."""
        description = self.maps.get(int(rows[2]))
        if description is None:
            # It only ends a statement.
            if b"STMT_END_F" in rows[3]:
                self.statement += 1
            return
        header = Header(place, description, OP[rows[1]])
        self.now(place).headers.setdefault(self.statement, []).append(header)
        self.number = self.statement
        if b"STMT_END_F" in rows[3]:
            # The rows follow.
            self.statement += 1

    def now(self, place):
        """The open transaction."""
        if self.open is None:
            raise ValueError(f"a change outside a transaction at {place}")
        return self.open

    # Rows

    def row_line(self, line):
        """A line of a row."""
        head = ROW.fullmatch(line)
        if head:
            op, schema, table = OP[head[1]], name(head[2]), name(head[3])
            fit = [h for h in self.open.headers[self.number]
                   if (h.op, h.description.schema, h.description.table) == (op, schema, table)]
            if not fit:
                raise ValueError(f"a row of no event: {line!r}")
            self.row = Row(op, fit[0].description, [h.place for h in fit], self.number)
            self.open.entries.append(self.row)
        elif line == b"### WHERE":
            self.image = self.row.before = {}
        elif line == b"### SET":
            self.image = self.row.after = {}
        elif found := VALUE.fullmatch(line):
            text = found[2]
            if text.startswith(b"!! Don't know how"):
                self.row.is_torn = True
                return
            self.column = self.row.description.columns[int(found[1]) - 1][0]
            self.image[self.column] = without_type(text)
        elif line.startswith(b"###      ") and self.column:
            self.image[self.column] += b" " + without_type(line[9:])
        else:
            raise ValueError(f"a line that is not understood: {line[:200]!r}")

    # Statements

    def query_line(self, line):
        """A line of a statement and what is set for it."""
        if line == b"/*!*/;":
            text = b"\n".join(self.query).strip()
            self.query = None
            return self.said(text)
        if line.endswith(b"/*!*/;"):
            if line.startswith(b"use `"):
                self.database = name(line[5:line.rindex(b"`")])
            return None
        self.query.append(line)
        return None

    def said(self, text):
        """A statement."""
        if text in (b"BEGIN", b"START TRANSACTION") or text.startswith(b"XA END"):
            return None
        if text == b"COMMIT":
            return self.commit()
        if text == b"ROLLBACK":
            self.keep_flat(0)
            return self.commit()
        if text.startswith(b"SAVEPOINT "):
            self.savepoints[text[10:]] = len(self.open.entries)
            return None
        if text.startswith((b"ROLLBACK TO ", b"ROLLBACK TO SAVEPOINT ")):
            return self.keep_flat(self.savepoints[text.rsplit(b" ", 1)[1]])
        if text.startswith(b"XA "):
            return self.xa(text)
        emptied = re.fullmatch(rb"truncate (?:table )?`(.*)`", text)
        if emptied:
            self.open.entries.append(Emptied(self.database, name(emptied[1]), self.query_place))
        if text.startswith(b"CREATE TABLE") and (self.is_made_of_rows(text)):
            return None
        return self.commit()

    def is_made_of_rows(self, text):
        """Whether the rows of a new table follow: the server writes such statements itself."""
        return text.endswith(b"START TRANSACTION") or (not self.is_mysql and b"`made_" in text)

    def keep_flat(self, since):
        """What was done since is undone, but for tables that are not transactional."""
        entries = self.open.entries
        entries[since:] = [entry for entry in entries[since:]
                           if isinstance(entry, Row) and self.is_flat(entry.description.table)]

    def xa(self, line):
        """A step of an XA transaction."""
        step, xid, more = XID.fullmatch(line).groups()
        if step == b"PREPARE":
            self.prepared[xid] = self.open
            self.open = None
        elif step == b"COMMIT" and b"ONE PHASE" in more:
            self.commit()
        elif step in (b"COMMIT", b"ROLLBACK"):
            held = self.prepared.pop(xid, None)
            if step == b"COMMIT" and held:
                self.open.entries, self.open.headers = held.entries, held.headers
            self.commit()

    def begin(self, identity, ts_us):
        """A transaction begins."""
        if self.open is not None:
            raise ValueError(f"{identity} begins inside {self.open.id}")
        self.open = Transaction(identity, ts_us)
        self.begun_at = Place(self.file, self.last.pos)
        self.savepoints = {}
        self.maps = {}

    def commit(self):
        """The open transaction takes effect."""
        if self.open is None:
            raise ValueError("a commit outside a transaction")
        is_behind = self.begun_at.file != self.start.file or self.begun_at.pos >= self.start.pos
        self.open.entries = [self.meant(entry) for entry in self.open.entries]
        if is_behind:
            self.transactions.append(self.open)
        self.open = None

    @staticmethod
    def meant(entry):
        """A row of `notes` is what it says."""
        if isinstance(entry, Row) and entry.description.table == "notes":
            return Told(int(entry.after["n"]))
        return entry


def without_type(text):
    """A value's text without the comment that names its type."""
    value, mark, _ = text.rpartition(b" /* ")
    return (value if mark else text).rstrip(b" ")


def seconds(text):
    """The time of an event in microseconds since 1970: `261126 22:08:07`, in UTC."""
    found = re.fullmatch(rb"(\d\d)(\d\d)(\d\d) +(\d+):(\d\d):(\d\d)", text)
    year, month, day, hour, minute, second = (int(part) for part in found.groups())
    moment = calendar.timegm((2000 + year, month, day, hour, minute, second))
    return moment * 1_000_000


def printed(server, files):
    """What the tool prints of each file."""
    for file in files:
        command = [server.binlog, "--no-defaults", "-vv", "--base64-output=DECODE-ROWS",
                   "--print-table-metadata", str(server.data / file)]
        if server.flavor == "mariadb":
            command.insert(2, "--skip-annotate-row-events")
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True,
                              env={"TZ": "UTC", "LC_ALL": "C"})
        yield file, done.stdout
