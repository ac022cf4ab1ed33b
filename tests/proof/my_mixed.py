"""The workload of the differential test on MySQL and MariaDB, planned from a seed alone.

Definitions are changed outside transactions alone, as these servers end them with a commit. Whatever
changes a table is followed by a row in `notes`, which is not captured: the log has it in its place, and
the checker knows what became of the rows that were there.

What the log does not have is left out: foreign keys that cascade on MariaDB, partitions that are
dropped. So is what rowtide refuses, and says so: new rows without all of their columns (RT2802), columns
whose types the catalog alone knows in tables that change (RT2801), statements that are rolled back
beside ones that cannot be, of tables that are gone when it reads them (RT2704). And a table that was
emptied is not renamed: where rowtide reads that later, and had read nothing of the table since it
started, it says nothing of it.
"""

from dataclasses import dataclass, field

import my_samples
from my_samples import DEFAULTS, KEY_TYPES, RETYPES, big_text, draw, literal, text
from planner import SESSIONS, Level, Sessions

NOTES = "notes"
HIDDEN = "hidden_log"
ODD = "Odd té"


def name(plain):
    """A quoted name."""
    return "`" + plain.replace("`", "``") + "`"


@dataclass
class Column:
    """A column as the plan knows it."""

    name: str
    type: str
    more: str = ""
    """What follows the type."""

    @property
    def is_generated(self):
        """Whether nobody gives it a value."""
        return "as (" in self.more


@dataclass
class Table:
    """A table as it is at a point of the plan."""

    name: str
    group: str
    columns: list
    key: list
    """The primary key's columns."""
    traits: frozenset = frozenset()
    """What may be done to it."""
    key_type: str = "int"
    live: list = field(default_factory=lambda: [{} for _ in range(SESSIONS)])
    """By session: its rows by number."""

    @property
    def address(self):
        """The column by which a row is found."""
        return "k" if self.key else "tag"

    @property
    def is_flat(self):
        """Whether it is not transactional."""
        return "flat" in self.traits

    @property
    def found(self):
        """The table with the index that rows are found by: the server may else look through all of a
        small table, and wait for rows that others have changed. It may all the same where it looks for
        several rows, so that these are changed where nobody else has changed any.
        """
        return f"{name(self.name)} force index ({'primary' if self.key else 'by_tag'})"

    def key_of(self, number):
        """The SQL of a row's key."""
        return KEY_TYPES[self.key_type](number)

    def where(self, numbers):
        """The condition for these rows."""
        column = f"{name(self.name)}.{name(self.address)}"
        if len(numbers) == 1:
            return f"{column} = {self.key_of(numbers[0])}"
        return f"{column} in ({', '.join(map(self.key_of, numbers))})"


@dataclass
class Plan:
    """Everything that happens for a seed."""

    schema: str
    steps: list
    """("sql", session, text) or ("host", action, number)."""
    told: list
    """What became of tables, by the number in `notes`."""
    image: str
    """The server's binlog_row_image."""


class Planner(Sessions):
    """Draws a plan."""

    def __init__(self, seed, server, has_gtids, length):
        super().__init__(f"{seed}/{server}", length)
        self.server = server
        self.is_mysql = server == "mysql"
        # Where transactions have GTIDs, MySQL refuses those that are transactional in part alone. What
        # is rolled back is in the log then, and whether it stays is asked of the table as it is later.
        self.may_mix = not (self.is_mysql and has_gtids) and self.rng.random() < 0.5
        self.names = my_samples.known(server)
        self.schema = []
        self.told = []
        # Where sessions log less than the server does, rowtide stops: they log as it does or more.
        self.image = self.rng.choice(["full", "full", "minimal", "noblob"])
        self.images = [self.image] * SESSIONS

    # What there is at first

    def columns(self, count, may_be_altered=True):
        """Columns of types drawn at random."""
        names = self.names
        if may_be_altered:
            # Their types come from the catalog, which knows the newest definition alone (RT2801).
            names = [one for one in names if one not in my_samples.ADDRESSES]
        return self.named(self.rng.sample(names, count), "c")

    @staticmethod
    def named(types, prefix):
        """A column of each type. The log has addresses as bytes; the name tells what they are."""
        made = []
        for at, kind in enumerate(types):
            head = f"{kind}_" if kind in my_samples.ADDRESSES else ""
            made.append(Column(f"{head}{prefix}{at}", kind))
        return made

    def create(self, table):
        """The SQL of a new table."""
        parts = [f"{name(column.name)} {column.type} {column.more}" for column in table.columns]
        if table.key:
            parts.append(f"primary key ({', '.join(map(name, table.key))})")
        elif table.columns:
            parts.append(f"index by_tag ({name(table.address)})")
        engine = " engine=myisam" if table.is_flat else " engine=innodb"
        return f"create table {name(table.name)} ({', '.join(parts)}){engine};"

    def add(self, table):
        """A table that is there from the beginning."""
        self.tables[table.name] = table
        self.schema.append(self.create(table))

    @staticmethod
    def keyed(key_type="int"):
        """The columns every keyed table begins with."""
        return [Column("k", key_type), Column("note", "text"), Column("big", "mediumtext")]

    def begin_with(self):
        """The first tables."""
        rng = self.rng
        traits = frozenset({"ddl", "drop", "rename", "bulk", "key", "truncate"})
        self.add(Table("plain", "plain", self.keyed() + self.columns(8), ["k"], traits))
        wide = self.keyed() + self.named(self.names, "t")
        self.add(Table("wide", "wide", wide, ["k"], frozenset({"key"})))
        kind = rng.choice(sorted(KEY_TYPES))
        self.add(Table("keyed", "keyed", self.keyed(kind) + self.columns(4), ["k"],
                       frozenset({"ddl", "drop", "key", "truncate"}), kind))
        kind = rng.choice(sorted(KEY_TYPES))
        pair = [Column("b", "varchar(5)", "not null"), *self.keyed(kind), *self.columns(3, False)]
        self.add(Table("pair", "pair", pair, ["k", "b"], frozenset({"key", "bulk"}), kind))
        odd = [*self.keyed(), Column("A", "int"), Column("x.y", "json"), Column("sélect", "date"),
               Column("select", "varchar(20)"), Column("gen", "int", "as (k * 2) stored"),
               Column("virt", "varchar(30)", "as (concat(k, 'v')) virtual"),
               Column("unseen", "int", "invisible" if not self.is_mysql else "default 7 invisible")]
        self.add(Table(ODD, "odd", odd, ["k"], frozenset({"key", "bulk", "truncate"})))
        self.add(Table("keyless", "keyless", [Column("tag", "int"), Column("note", "text"),
                                              Column("big", "mediumtext"), *self.columns(3)], []))
        self.add(Table("flat", "flat", self.keyed() + self.columns(3), ["k"],
                       frozenset({"flat", "ddl", "key", "truncate"})))
        shapes = [*self.keyed(), Column("n", "int"), Column("g1", "geometry"), Column("g2", "geometry")]
        self.add(Table("shapes", "shapes", shapes, ["k"], frozenset({"shapes"})))
        self.add(Table(HIDDEN, "hidden", self.keyed(), ["k"], frozenset({"bulk", "key"})))
        self.family()

    def family(self):
        """Two tables with a foreign key, and one that a trigger fills."""
        # Since 9.6 MySQL logs what foreign keys do.
        self.cascades = self.is_mysql
        self.add(Table("parent", "family", self.keyed(), ["k"],
                       frozenset({"key"} if self.cascades else {"childless"})))
        self.add(Table("child", "family", [*self.keyed(), Column("parent", "int")], ["k"],
                       frozenset({"child"})))
        how = "on delete cascade on update cascade" if self.cascades else ""
        self.schema.append(f"alter table child add foreign key (parent) references parent (k) {how};")
        self.tables["audit"] = Table("audit", "family", [], ["id"], frozenset({"made"}))
        self.schema.append("create table audit (id bigint auto_increment primary key, what text);")
        for event in ("insert", "update", "delete"):
            self.schema.append(f"create trigger after_{event} after {event} on parent for each row"
                               f" insert into audit (what) values ('parent {event}');")

    # Statements

    def touch(self, session, group, alone=False):
        """Notes that the session's transaction has touched a group. What it does to tables that are not
        transactional stays, whatever becomes of it.
        """
        if group != "flat":
            super().touch(session, group, alone)
        elif session.is_open:
            holders, held = self.holders.get(group, (set(), None))
            self.holders[group] = (holders | {session.number}, held)

    def tell(self, session, sql, **action):
        """A change of tables, and what it means for the rows that are there."""
        self.told.append(action)
        self.say(session, f"{sql} insert into {NOTES} values ({len(self.told) - 1});")

    def value(self, column):
        """The SQL of a value for a column."""
        if column.name == "big":
            return big_text(self.rng) if self.rng.random() < 0.6 else "null"
        if column.name == "b":
            return literal(self.rng.choice(["x", "y", "é"]))
        if column.name == "note":
            return text("utf8mb4")(self.rng) if self.rng.random() > 0.1 else "null"
        if column.name in ("g1", "g2"):
            return my_samples.shape(self.rng) if self.rng.random() > 0.1 else "null"
        if self.rng.random() < 0.12:
            return "null"
        return f"({draw(column.type, self.rng)})"

    def values(self, session, table, number):
        """The columns and values of a new row."""
        is_whole = self.images[session.number] != "full"
        pairs = []
        for column in table.columns:
            if column.is_generated:
                continue
            if column.name == table.address:
                pairs.append((column.name, table.key_of(number)))
            elif column.name == "parent":
                mine = list(self.tables["parent"].live[session.number])
                pairs.append((column.name, str(self.rng.choice(mine)) if mine else "null"))
            elif is_whole or len(table.columns) < 40 or self.rng.random() < 0.3 or column.name == "b":
                pairs.append((column.name, self.value(column)))
        return pairs

    def insert(self, session, table):
        """One row, or several by one statement."""
        count = 1 if "shapes" in table.traits else self.rng.choice([1, 1, 1, 2, 5])
        numbers = self.mine(session, count)
        rows = [self.values(session, table, number) for number in numbers]
        columns = [column for column, _ in rows[0]]
        # Several rows by one statement where they have the same columns.
        same = [row for row in rows if [column for column, _ in row] == columns]
        numbers = numbers[:len(same)]
        listed = ", ".join(map(name, columns))
        told = ", ".join("(" + ", ".join(value for _, value in row) + ")" for row in same)
        verb = self.rng.choice(["insert", "insert", "replace"])
        self.say(session, f"{verb} into {name(table.name)} ({listed}) values {told};")
        for number in numbers:
            table.live[session.number][number] = None

    def some(self, session, table, most=3):
        """Some rows of a session."""
        rows = list(table.live[session.number])
        is_alone = self.may_lock(session, table.group) and "shapes" not in table.traits
        most = most if is_alone else 1
        return self.rng.sample(rows, min(len(rows), self.rng.randint(1, most)))

    def changes(self, table):
        """Columns with new values."""
        free = [c for c in table.columns if not c.is_generated and c.name not in (
            table.address, "parent", "b", "big")]
        picked = self.rng.sample(free, min(len(free), self.rng.randint(1, 3)))
        if self.rng.random() < 0.25:
            picked += [c for c in table.columns if c.name == "big"]
        pairs = []
        for column in picked:
            value = self.value(column)
            if column.type == "json" and self.rng.random() < 0.7:
                value = self.part(table, column)
            pairs.append(f"{name(table.name)}.{name(column.name)} = {value}")
        return pairs

    def part(self, table, column):
        """A change inside a document, which the log may have as such."""
        column = f"{name(table.name)}.{name(column.name)}"
        value = self.rng.choice(["1", "'x'", "null", "json_array(1, 'é')", "1.5e0"])
        known = ["$.a", "$.b", "$[0]", "$.a[1]", '$."é"', "$.b.a", "$"]
        paths = [self.rng.choice(known) for _ in range(2)]
        return self.rng.choice([
            f"json_set({column}, '{paths[0]}', {value})",
            f"json_replace({column}, '{paths[0]}', {value})",
            f"json_set(json_replace({column}, '{paths[0]}', {value}), '{paths[1]}', {value})",
            f"json_remove({column}, '{paths[0] if paths[0] != '$' else '$.a'}')",
            f"json_insert({column}, '{paths[0]}', {value})",
        ])

    def update(self, session, table):
        """An update of some columns of some rows."""
        numbers = self.some(session, table)
        if not numbers:
            return self.insert(session, table)
        pairs = ", ".join(self.changes(table))
        return self.say(session, f"update {table.found} set {pairs} where {table.where(numbers)};")

    def rekey(self, session, table):
        """A changed key."""
        rows = table.live[session.number]
        if not rows:
            return self.insert(session, table)
        old = self.rng.choice(list(rows))
        new = self.mine(session, 1)[0]
        rows[new] = rows.pop(old)
        change = f"{name(table.address)} = {table.key_of(new)}"
        if self.rng.random() < 0.4:
            change += f", note = {text('utf8mb4')(self.rng)}"
        return self.say(session, f"update {table.found} set {change} where {table.where([old])};")

    def delete(self, session, table):
        """Some rows are deleted; of a parent, with its children."""
        numbers = self.some(session, table)
        if not numbers:
            return self.insert(session, table)
        for number in numbers:
            del table.live[session.number][number]
        gone = f"delete {name(table.name)} from {table.found}"
        return self.say(session, f"{gone} where {table.where(numbers)};")

    def upsert(self, session, table):
        """An insert that becomes an update."""
        rows = table.live[session.number]
        if not rows or len(table.key) > 1:
            return self.insert(session, table)
        old = self.rng.choice(list(rows))
        pairs = self.values(session, table, old)
        columns = ", ".join(name(column) for column, _ in pairs)
        told = ", ".join(value for _, value in pairs)
        return self.say(
            session, f"insert into {name(table.name)} ({columns}) values ({told})"
            " on duplicate key update note = concat(ifnull(note, ''), '+');")

    def bulk(self, session, table):
        """Many rows by one statement."""
        count = self.rng.choice([5, 40, 200, 900])
        numbers = self.mine(session, count)
        columns = [column for column in table.columns if not column.is_generated]
        if table.key_type != "int":
            return self.sweep(session, table)
        given = {table.address: "n", "note": "concat('row ', n, repeat('x', 60))", "b": "'x'"}
        listed = ", ".join(name(column.name) for column in columns)
        told = ", ".join(given.get(column.name, "null") for column in columns)
        series = (f"with recursive s(n) as (select {numbers[0]} union all select n + {SESSIONS} from s"
                  f" where n < {numbers[-1]})")
        self.say(session, f"insert into {name(table.name)} ({listed}) {series} select {told} from s;")
        table.live[session.number].update(dict.fromkeys(numbers))
        return None

    def sweep(self, session, table):
        """All rows of a session are changed by one statement."""
        rows = list(table.live[session.number])
        if rows and self.may_lock(session, table.group):
            note = text("utf8mb4")(self.rng)
            self.say(session, f"update {table.found} set note = {note} where {table.where(rows)};")

    def fail(self, session, table):
        """A statement that fails at its second row."""
        rows = list(table.live[session.number])
        if not rows or table.is_flat or len(table.key) > 1:
            return self.update(session, table)
        number = self.mine(session, 1)[0]
        fresh, old = self.values(session, table, number), self.values(session, table, rows[0])
        if [column for column, _ in fresh] != [column for column, _ in old]:
            return self.update(session, table)
        listed = ", ".join(name(column) for column, _ in fresh)
        told = ", ".join("(" + ", ".join(value for _, value in row) + ")" for row in (fresh, old))
        return self.say(session, f"insert into {name(table.name)} ({listed}) values {told};")

    def joined(self, session, table):
        """One statement that changes rows of two tables."""
        others = [t for t in self.tables.values() if t is not table and t.key and t.group != table.group
                  and not t.traits & {"made", "shapes", "child", "flat", "childless"}
                  and self.may_touch(session, t.group) and t.live[session.number]]
        rows = self.some(session, table)
        if table.is_flat or not others or not rows or not table.key:
            return self.update(session, table)
        other = self.rng.choice(others)
        self.touch(session, other.group)
        theirs = self.some(session, other)
        tables = f"{table.found}, {other.found}"
        where = f"{table.where(rows)} and {other.where(theirs)}"
        if self.rng.random() < 0.4:
            for of, numbers in ((table, rows), (other, theirs)):
                for number in numbers:
                    of.live[session.number].pop(number)
            both = f"{name(table.name)}, {name(other.name)}"
            return self.say(session, f"delete {both} from {tables} where {where};")
        pairs = ", ".join(self.changes(table)[:2] + self.changes(other)[:2])
        return self.say(session, f"update {tables} set {pairs} where {where};")

    # Whole tables

    def truncate(self, session, table):
        """A table is emptied."""
        table.live = [{} for _ in range(SESSIONS)]
        table.traits -= {"rename", "drop"}
        self.say(session, f"truncate {self.rng.choice(['table ', ''])}{name(table.name)};")

    def alter(self, session, table):
        """A column comes, goes, or becomes another."""
        change = self.rng.choice(["add", "add", "default", "drop", "rename", "retype", "index"])
        free = [c for c in table.columns if c.name not in (table.address, "note", "big")]
        head = f"alter table {name(table.name)} "
        if change in ("drop", "rename", "retype") and not free:
            change = "add"
        if change in ("add", "default"):
            return self.add_column(session, table, head, change == "default")
        if change == "drop":
            column = self.rng.choice(free)
            table.columns.remove(column)
            return self.tell(session, f"{head}drop column {name(column.name)};", table=table.name,
                             drop=column.name)
        if change == "rename":
            column = self.rng.choice(free)
            self.serial += 1
            old, column.name = column.name, f"r{self.serial}"
            return self.tell(session, f"{head}rename column {name(old)} to {name(column.name)};",
                             table=table.name, rename=[old, column.name])
        fit = [c for c in free if c.type in RETYPES]
        if change == "retype" and fit:
            column = self.rng.choice(fit)
            old, column.type = column.type, self.rng.choice(RETYPES[column.type])
            how = f"modify {name(column.name)} {column.type}"
            before = column.name
            if self.rng.random() < 0.3:
                self.serial += 1
                column.name = f"m{self.serial}"
                how = f"change {name(before)} {name(column.name)} {column.type} first"
                table.columns.remove(column)
                table.columns.insert(0, column)
            return self.tell(session, f"{head}{how};", table=table.name,
                             retype=[before, old, column.type], rename=[before, column.name])
        self.serial += 1
        return self.say(session, f"{head}add index i{self.serial} (note(5));")

    def add_column(self, session, table, head, has_default):
        """A new column, in any place."""
        self.serial += 1
        column = Column(self.rng.choice([f"n{self.serial}", f"N {self.serial}"]), "")
        names = [kind for kind in self.names if kind not in my_samples.ADDRESSES]
        default, came = "", None
        if has_default:
            column.type = self.rng.choice(sorted(DEFAULTS))
            sql, came = DEFAULTS[column.type]
            default = f" default {sql}"
        else:
            column.type = self.rng.choice(names)
        place, at = self.rng.choice([("", len(table.columns)), (" first", 0), (" after note", None)])
        if at is None:
            at = [c.name for c in table.columns].index("note") + 1
        table.columns.insert(at, column)
        self.tell(session, f"{head}add column {name(column.name)} {column.type}{default}{place};",
                  table=table.name, add=[column.name, column.type, came])

    def rename(self, session, table):
        """Another name for a table."""
        del self.tables[table.name]
        old, table.name = table.name, f"{table.group}_{self.serial}"
        self.serial += 1
        self.tables[table.name] = table
        sql = self.rng.choice([f"rename table {name(old)} to {name(table.name)};",
                               f"alter table {name(old)} rename to {name(table.name)};"])
        self.tell(session, sql, table=table.name, renamed=old)

    def drop(self, session, table):
        """A table is dropped and made again under its name, with other columns."""
        fresh = Table(table.name, table.group, self.keyed(table.key_type) + self.columns(4), ["k"],
                      table.traits, table.key_type)
        self.tables[table.name] = fresh
        self.tell(session, f"drop table {name(table.name)};{self.create(fresh)}", table=table.name,
                  created=True)

    def make(self, session):
        """A table that was not there before, perhaps made of another's rows."""
        self.serial += 1
        new = f"made_{self.serial}"
        if self.rng.random() < 0.4:
            # In a session that logs a part of rows too, these are whole.
            columns = [Column("k", "int", "not null"), Column("note", "varchar(40)")]
            table = Table(new, new, columns, ["k"], frozenset({"key"}))
            numbers = self.mine(session, self.rng.choice([1, 3, 20]))
            rows = " union all ".join(
                f"select {number} as k, 'from {number}' as note" for number in numbers)
            table.live[session.number].update(dict.fromkeys(numbers))
            self.tables[new] = table
            return self.say(session, f"create table {new} (k int not null, note varchar(40),"
                            f" primary key (k)) {rows};")
        kind = self.rng.choice(sorted(KEY_TYPES))
        table = Table(new, new, self.keyed(kind) + self.columns(3), ["k"],
                      frozenset({"ddl", "key", "truncate"}), kind)
        self.tables[new] = table
        return self.tell(session, self.create(table), table=new, created=True)

    def swap(self, session, table):
        """What tools for changes of large tables do: a copy with one more column takes the name."""
        self.serial += 1
        ghost, old = f"_{table.group}_{self.serial}_gho", f"_{table.group}_{self.serial}_del"
        column = Column(f"s{self.serial}", "int")
        listed = ", ".join(name(c.name) for c in table.columns)
        table.columns.append(column)
        sql = (f"create table {name(ghost)} like {name(table.name)};"
               f"alter table {name(ghost)} add column {name(column.name)} int;"
               f"insert into {name(ghost)} ({listed}, {name(column.name)})"
               f" select {listed}, null from {name(table.name)};"
               f"rename table {name(table.name)} to {name(old)}, {name(ghost)} to {name(table.name)};")
        self.tell(session, sql, table=table.name, add=[column.name, "int", None])
        self.say(session, f"drop table {name(old)};")

    # The server's and the session's settings

    def settings(self, session):
        """How this session, or the server, writes the log from here on."""
        number = session.number
        choices = [f"set global binlog_checksum = {self.rng.choice(['none', 'crc32'])};",
                   "flush binary logs;", "flush binary logs;"]
        if self.is_mysql:
            packed = self.rng.choice(["on", "off", "on"])
            choices += [f"set binlog_transaction_compression = {packed};"] * 4
            part = self.rng.choice(["partial_json", "partial_json", ""])
            # Changes inside documents stand on the old row as it was whole.
            choices.append(f"set binlog_row_value_options = '{part}', binlog_row_image = full;"
                           if self.image != "full" else f"set binlog_row_value_options = '{part}';")
        else:
            choices += [f"set global log_bin_compress = {self.rng.choice(['on', 'off', 'on'])};"] * 4
        if self.image != "full":
            image = self.rng.choice(["full", "minimal", "noblob"])
            options = "binlog_row_value_options = '', " if self.is_mysql else ""
            choices += [f"set {options}binlog_row_image = {image};"] * 4
        chosen = self.rng.choice(choices)
        if "binlog_row_image" in chosen:
            self.images[number] = chosen.rsplit(" = ", 1)[1].rstrip(";")
        self.say(session, chosen)

    # The course of a session

    def whole(self, session):
        """A change of a table as a whole, where one is possible now; whether it was planned."""
        if session.is_open:
            return False
        kinds = {"ddl": self.alter, "truncate": self.truncate}
        if not self.may_mix:
            kinds |= {"drop": self.drop, "rename": self.rename}
        choices = [
            (table, kinds[trait]) for table in self.tables.values()
            for trait in sorted(table.traits & kinds.keys()) if self.may_lock(session, table.group)
        ]
        if self.rng.random() < 0.15:
            self.make(session)
            return True
        swaps = [t for t in self.tables.values()
                 if "ddl" in t.traits and self.may_lock(session, t.group)]
        if swaps and not self.may_mix and self.rng.random() < 0.08:
            self.swap(session, self.rng.choice(swaps))
            return True
        if not choices:
            return False
        table, act = self.rng.choice(choices)
        act(session, table)
        return True

    def rows(self, session):
        """A change of rows."""
        is_part = self.images[session.number] != "full"
        free = [t for t in self.tables.values() if self.may_touch(session, t.group)
                and "made" not in t.traits
                # Transactions that are transactional in part alone are not for XA, nor for GTIDs.
                and (not t.is_flat or not session.is_open or (self.may_mix and not session.xid))
                # The log of part of a row leaves generated columns of new rows out.
                and not (is_part and any(c.is_generated for c in t.columns))]
        table = self.rng.choice(free)
        self.touch(session, table.group)
        acts = [self.insert] * 5 + [self.update] * 6 + [self.delete] * 2
        if "childless" in table.traits:
            acts = [self.insert] * 3 + [self.update] * 5
        elif table.key and "shapes" not in table.traits:
            acts += [self.fail, self.sweep, self.joined, self.upsert]
            acts += [self.rekey] * 2 if "key" in table.traits else []
            acts += [self.bulk] if "bulk" in table.traits else []
        return self.rng.choice(acts)(session, table)

    def begin(self, session):
        """A transaction begins."""
        session.levels = [Level()]
        session.left = self.rng.choice([1, 2, 4, 8, 30])
        session.xid = None
        if self.rng.random() < 0.25:
            self.serial += 1
            session.xid = self.rng.choice([f"'x{self.serial}'", f"'x{self.serial}', 'branch', 7",
                                           f"x'00ff{self.serial:06x}', x'27', 3"])
            return self.say(session, f"xa start {session.xid};")
        return self.say(session, "begin;")

    def end(self, session):
        """The transaction ends, one way or the other."""
        if session.xid:
            return self.end_xa(session)
        if self.rng.random() < 0.2:
            self.restore(session, session.levels[0])
            self.say(session, "rollback;")
        else:
            self.say(session, "commit;")
        return self.release(session)

    def end_xa(self, session):
        """An XA transaction is prepared, or ended at once."""
        self.say(session, f"xa end {session.xid};")
        pick = self.rng.random()
        if pick < 0.6:
            session.prepared = session.xid
            session.left = self.rng.randint(1, 20)
            return self.say(session, f"xa prepare {session.xid};")
        if pick < 0.8:
            self.say(session, f"xa commit {session.xid} one phase;")
        else:
            self.restore(session, session.levels[0])
            self.say(session, f"xa rollback {session.xid};")
        return self.release(session)

    def decide(self, session):
        """A prepared transaction is committed or rolled back."""
        if self.rng.random() < 0.3:
            self.restore(session, session.levels[0])
            self.say(session, f"xa rollback {session.prepared};")
        else:
            self.say(session, f"xa commit {session.prepared};")
        session.prepared = session.xid = None
        self.release(session)

    def step(self):
        """What happens next."""
        session = self.rng.choice(self.sessions)
        pick = self.rng.random()
        if session.prepared:
            session.left -= 1
            return self.decide(session) if session.left <= 0 else None
        if session.is_open:
            session.left -= 1
            if session.left < 0:
                return self.end(session)
            if pick < 0.12:
                return self.savepoint(session)
        elif pick < 0.35:
            return self.begin(session)
        elif pick < 0.40:
            return self.settings(session)
        if pick > 0.86 and self.whole(session):
            return None
        return self.rows(session)

    def finish(self):
        """Every transaction ends."""
        for session in self.sessions:
            if session.prepared:
                self.decide(session)
            elif session.is_open:
                self.end(session)
                if session.prepared:
                    self.decide(session)

    def plan(self):
        """The whole plan."""
        for session in self.sessions:
            session.xid = None
        self.schema.append(f"create table {NOTES} (n int primary key);")
        self.begin_with()
        while len(self.steps) < self.length:
            self.step()
        self.finish()
        return Plan("\n".join(self.schema), self.hosts(), self.told, self.image)


def plan(seed, server, has_gtids, length):
    """The plan of a seed for a server."""
    return Planner(seed, server, has_gtids, length).plan()
