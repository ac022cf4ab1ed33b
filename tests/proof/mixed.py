"""The workload of the differential test: what several sessions do, planned from a seed alone.

Whatever changes a table is followed, in its transaction, by a logical message that says how the table
is now: test_decoding prints it in its place, and the checker knows the table as of each change.
"""

import copy
import json
from dataclasses import asdict, dataclass, field

from planner import SESSIONS, Level, Sessions
from samples import DEFAULTS, KEY_TYPES, RETYPES, TYPES, big_text, known, quoted, text

MODEL = "model"
HIDDEN = "hidden_log"


def name(plain):
    """A quoted name."""
    return '"' + plain.replace('"', '""') + '"'


@dataclass
class Column:
    """A column as the plan and the checker know it."""

    name: str
    type: str
    generated: bool = False


@dataclass
class Table:
    """A table as it is at a point of the plan."""

    name: str
    group: str
    columns: list
    key: list
    """The primary key's columns."""
    identity: str = "default"
    identity_columns: list = field(default_factory=list)
    root: str | None = None
    """The table it is a partition of."""
    regions: list = field(default_factory=list)
    """Of a partition, or of one that is detached: the regions of its rows."""
    traits: frozenset = frozenset()
    """What may be done to it."""
    key_types: list = field(default_factory=list)
    key_index: str = ""
    """The primary key's index, by the name it was made with."""
    live: list = field(default_factory=lambda: [{} for _ in range(SESSIONS)])
    """By session: its rows by number, with their region."""

    @property
    def address(self):
        """The column by which a row is found."""
        return self.key[0] if self.key else "tag"

    def where(self, numbers):
        """The condition for these rows."""
        make = KEY_TYPES[self.key_types[0]]
        return f"{name(self.address)} in ({', '.join(make(n) for n in numbers)})"

    def described(self, **action):
        """What the checker is told."""
        return {
            "table": self.name,
            "columns": [dict(asdict(c), type=c.type.removesuffix(" not null")) for c in self.columns],
            "key": self.key, "identity": self.identity, "identity_columns": self.identity_columns,
            "root": self.root, "regions": self.regions, "action": action,
        }


@dataclass
class Plan:
    """Everything that happens for a seed."""

    schema: str
    tables: list
    steps: list
    """("sql", session, text) or ("host", action, number)."""
    publication: str
    """"all" or "managed"."""
    by_root: bool
    hostile: str


class Planner(Sessions):
    """Draws a plan."""

    def __init__(self, seed, version, length):
        super().__init__(f"{seed}/{version}", length)
        self.version = version
        self.names = known(version)
        self.schema = []
        self.all_tables = self.rng.random() < 0.6
        self.by_root = not self.all_tables or self.rng.random() < 0.6
        self.labels = 3

    # What there is at first

    def columns(self, count):
        """Columns of types drawn at random."""
        picked = self.rng.sample(self.names, count)
        return [Column(f"c{at}", type_name) for at, type_name in enumerate(picked)]

    def create(self, table, more=""):
        """The SQL of a new table."""
        parts = []
        for column in table.columns:
            generated = ' generated always as (length("note")) stored' if column.generated else ""
            parts.append(f"{name(column.name)} {column.type}{generated}")
        if table.key:
            table.key_index = f"{table.name}_pkey"
            parts.append(f"primary key ({', '.join(map(name, table.key))})")
        sql = f"create table {name(table.name)} ({', '.join(parts)}){more};"
        if any(column.name == "big" for column in table.columns):
            sql += f"alter table {name(table.name)} alter big set storage external;"
        return sql + self.identify(table)

    @staticmethod
    def identify(table):
        """The SQL of a table's replica identity."""
        kinds = {
            "full": "full", "nothing": "nothing", "default": "default",
            "index": f"using index {name(table.name + '_identity')}",
        }
        sql = ""
        if table.identity == "index" and "indexed" not in table.traits:
            columns = ", ".join(map(name, table.identity_columns))
            sql = (f"create unique index {name(table.name + '_identity')} on {name(table.name)}"
                   f" ({columns});")
            table.traits |= {"indexed"}
        return f"{sql}alter table {name(table.name)} replica identity {kinds[table.identity]};"

    def add(self, table, more=""):
        """A table that is there from the beginning."""
        self.tables[table.name] = table
        self.schema.append(self.create(table, more))

    @staticmethod
    def keyed(key_type="integer", key="k"):
        """The columns every keyed table begins with."""
        return [Column(key, key_type), Column("note", "text"), Column("big", "text")]

    def begin_with(self):
        """The first tables."""
        rng = self.rng
        self.add(Table("plain", "plain", self.keyed() + self.columns(8), ["k"], key_types=["integer"],
                       traits=frozenset({"ddl", "drop", "rename", "bulk", "key"})))
        wide = [Column(f"t{at}", type_name) for at, type_name in enumerate(self.names)]
        self.add(Table("wide", "wide", self.keyed() + wide, ["k"], key_types=["integer"],
                       traits=frozenset({"identity", "key"})))
        kind = rng.choice(sorted(KEY_TYPES))
        self.add(Table("full", "full", self.keyed(kind) + self.columns(5), ["k"], "full",
                       key_types=[kind], traits=frozenset({"ddl", "key"})))
        kind = rng.choice(sorted(KEY_TYPES))
        self.add(Table("keyed", "keyed", self.keyed(kind) + self.columns(4), ["k"], key_types=[kind],
                       traits=frozenset({"ddl", "drop", "key"})))
        indexed = self.keyed() + [Column("u", "integer not null"), Column("w", "text not null")]
        indexed = [Column(c.name, c.type) for c in indexed]
        self.add(Table("byindex", "byindex", indexed + self.columns(2), ["k"], "index", ["u", "w"],
                       key_types=["integer"], traits=frozenset({"key"})))
        odd = [Column("k", "integer"), Column("note", "text"), Column("big", "text"),
               Column("A", "integer"), Column("a", "text"), Column("x.y", "jsonb"),
               Column('quo"te', "text[]"), Column("select", "date"), Column("gen", "integer", True)]
        # From 18 on a generated column must be published to be in a full identity.
        identity = "default" if self.version >= 18 else rng.choice(["default", "full"])
        self.add(Table('Odd "Table"', "odd", odd, ["k"], identity,
                       key_types=["integer"], traits=frozenset({"key", "bulk"})))
        self.add(Table("keyless", "keyless",
                       [Column("tag", "integer"), Column("note", "text"), Column("big", "text")]
                       + self.columns(3), [], "full", key_types=["integer"], traits=frozenset()))
        if self.all_tables:
            self.add(Table("inserts", "inserts", [Column("tag", "integer"), Column("note", "text")]
                           + self.columns(2), [], "nothing", key_types=["integer"],
                           traits=frozenset({"inserts"})))
            self.add(Table(HIDDEN, "hidden", self.keyed(), ["k"], key_types=["integer"],
                           traits=frozenset({"bulk", "key"})))
        self.family()
        self.partitioned()

    def family(self):
        """Two tables with a foreign key, and one that a trigger fills."""
        self.add(Table("parent", "family", self.keyed(), ["k"], key_types=["integer"],
                       traits=frozenset({"key"})))
        self.add(Table("child", "family", self.keyed() + [Column("parent", "integer")], ["k"],
                       key_types=["integer"], traits=frozenset({"child"})))
        self.schema.append(
            "alter table child add foreign key (parent) references parent on delete cascade"
            " on update cascade;")
        audit = Table("audit", "family", [Column("id", "bigint"), Column("what", "text")], ["id"],
                      key_types=["bigint"], traits=frozenset({"made"}))
        self.tables["audit"] = audit
        self.schema.append("""
            create table audit (id bigserial primary key, what text);
            create function note() returns trigger language plpgsql as $$ begin
              insert into audit (what) values (tg_table_name || ' ' || tg_op);
              return null; end $$;
            create trigger t after insert or update or delete on parent
              for each row execute function note();""")

    def partitioned(self):
        """A table of partitions, two of them at first."""
        columns = self.keyed() + [Column("region", "text")] + self.columns(2)
        identity = self.rng.choice(["default", "full"])
        root = Table("parted", "parted", columns, ["k", "region"], identity,
                     key_types=["integer", "text"], regions=["a", "b", "c", "d"],
                     traits=frozenset({"root", "key", "bulk"}))
        self.add(root, " partition by list (region)")
        for leaf, regions in (("parted_ab", ["a", "b"]), ("parted_c", ["c"])):
            self.schema.append(self.partition(root, leaf, regions))

    def partition(self, root, leaf, regions):
        """A new partition whose columns stand in another order."""
        columns = [copy.copy(column) for column in root.columns]
        self.rng.shuffle(columns)
        table = Table(leaf, root.group, columns, list(root.key), root.identity, root=root.name,
                      key_types=root.key_types, regions=regions, traits=frozenset({"leaf"}))
        self.tables[leaf] = table
        bound = ", ".join(map(quoted, regions))
        return (self.create(table) + f"alter table {name(root.name)} attach partition {name(leaf)}"
                f" for values in ({bound});")

    # Statements

    def describe(self, session, sql, *tables, **action):
        """A change of tables, with the messages that tell of it, in one transaction."""
        told = "".join(
            "select pg_logical_emit_message(true, '{}', {});".format(
                MODEL, quoted(json.dumps(table.described(**(action if at == 0 else {})))))
            for at, table in enumerate(tables))
        if session.is_open:
            self.say(session, sql + told)
        else:
            self.say(session, f"begin; {sql}{told} commit;")

    def value(self, column):
        """The SQL of a value for a column."""
        if column.name == "big":
            return quoted(big_text(self.rng)) if self.rng.random() < 0.6 else "null"
        kind = column.type.removesuffix(" not null")
        if self.rng.random() < 0.12 and kind == column.type:
            return "null"
        return f"({TYPES[kind].draw(self.rng)})"

    def values(self, table, number, region):
        """The columns and values of a new row."""
        pairs = []
        for column in table.columns:
            if column.generated:
                continue
            if column.name == table.address:
                pairs.append((column.name, KEY_TYPES[table.key_types[0]](number)))
            elif column.name == "region" and region:
                pairs.append((column.name, quoted(region)))
            elif column.name == "parent":
                mine = list(self.tables["parent"].live[number % SESSIONS])
                pairs.append((column.name, str(self.rng.choice(mine)) if mine else "null"))
            elif column.name == "u":
                pairs.append((column.name, str(number)))
            elif len(table.columns) < 40 or self.rng.random() < 0.25 or column.name == "big":
                pairs.append((column.name, self.value(column)))
        return pairs

    def insert(self, session, table):
        """One row, or several by one statement."""
        count = self.rng.choice([1, 1, 1, 2, 5])
        numbers = self.mine(session, count)
        # A key that was deleted comes back.
        for number in numbers:
            region = self.rng.choice(self.here(table)) if table.regions else None
            pairs = self.values(table, number, region)
            columns = ", ".join(name(column) for column, _ in pairs)
            row = ", ".join(value for _, value in pairs)
            self.say(session, f"insert into {name(table.name)} ({columns}) values ({row});")
            table.live[session.number][number] = region

    def here(self, table):
        """The regions that rows of a table may have now."""
        if "root" not in table.traits:
            return table.regions
        return [region for leaf in self.tables.values() if leaf.root == table.name
                for region in leaf.regions]

    def update(self, session, table):
        """An update of some columns of some rows."""
        numbers = self.some(session, table)
        if not numbers:
            return self.insert(session, table)
        free = [c for c in table.columns if not c.generated and c.name not in (
            table.address, "region", "parent", "u", "big")]
        picked = self.rng.sample(free, min(len(free), self.rng.randint(1, 3)))
        if self.rng.random() < 0.25:
            picked += [c for c in table.columns if c.name == "big"]
        pairs = [f"{name(c.name)} = {self.value(c)}" for c in picked]
        if "u" in [c.name for c in table.columns] and self.rng.random() < 0.3:
            pairs.append('u = -u')
        if self.rng.random() < 0.1:
            pairs = [f"{name(picked[0].name)} = {name(picked[0].name)}"]
        where = table.where(numbers)
        return self.say(session, f"update {name(table.name)} set {', '.join(pairs)} where {where};")

    def rekey(self, session, table):
        """A changed key; of a partitioned table, a move to another partition."""
        rows = table.live[session.number]
        if not rows:
            return self.insert(session, table)
        old = self.rng.choice(list(rows))
        if "root" in table.traits and self.rng.random() < 0.6:
            region = self.rng.choice(self.here(table))
            rows[old] = region
            change = f"region = {quoted(region)}"
        else:
            new = self.mine(session, 1)[0]
            rows[new] = rows.pop(old)
            change = f"{name(table.address)} = {KEY_TYPES[table.key_types[0]](new)}"
            if self.rng.random() < 0.4:
                change += f", note = {quoted(text(self.rng))}"
        return self.say(session, f"update {name(table.name)} set {change} where {table.where([old])};")

    def delete(self, session, table):
        """Some rows are deleted; of a parent, with its children."""
        numbers = self.some(session, table)
        if not numbers:
            return self.insert(session, table)
        for number in numbers:
            del table.live[session.number][number]
        return self.say(session, f"delete from {name(table.name)} where {table.where(numbers)};")

    def upsert(self, session, table):
        """An insert that may become an update."""
        rows = table.live[session.number]
        old = self.rng.choice(list(rows)) if rows else None
        if old is None or self.rng.random() < 0.3:
            return self.insert(session, table)
        key = KEY_TYPES[table.key_types[0]](old)
        return self.say(
            session, f"insert into {name(table.name)} ({name(table.address)}, note) values ({key}, "
            f"{quoted(text(self.rng))}) on conflict ({name(table.address)}) do update set "
            f"note = excluded.note || '+';")

    def bulk(self, session, table):
        """Many rows by one statement: by COPY, or from a series."""
        count = self.rng.choice([5, 40, 200, 900])
        numbers = self.mine(session, count)
        regions = self.here(table) if table.regions else [None]
        if not regions:
            return None
        region = self.rng.choice(regions)
        column, value = (", region", f", {quoted(region)}") if region else ("", "")
        key = name(table.address)
        if self.rng.random() < 0.5:
            lines = "".join(
                f"{n}\tcopied\\\\ {n}{chr(9) + region if region else ''}\n" for n in numbers)
            self.say(session, f"copy {name(table.name)} ({key}, note{column}) from stdin;\n"
                     f"{lines}\\.\n")
        else:
            self.say(session, f"insert into {name(table.name)} ({key}, note{column})"
                     f" select n, 'row ' || n || repeat('x', 60){value}"
                     f" from generate_series({numbers[0]}, {numbers[-1]}, {SESSIONS}) n;")
        table.live[session.number].update(dict.fromkeys(numbers, region))
        return None

    def sweep(self, session, table):
        """All rows of a session are changed by one statement."""
        rows = list(table.live[session.number])
        if rows:
            note = quoted(text(self.rng))
            self.say(session, f"update {name(table.name)} set note = {note} where {table.where(rows)};")

    def fail(self, session, table):
        """A statement that fails, inside a savepoint."""
        rows = list(table.live[session.number])
        if not session.is_open or not rows:
            return self.update(session, table)
        key = KEY_TYPES[table.key_types[0]](rows[0])
        number = self.mine(session, 1)[0]
        fresh = KEY_TYPES[table.key_types[0]](number)
        region = table.live[session.number][rows[0]]
        column, value = (", region", f", {quoted(region)}") if region else ("", "")
        more, filled = self.required(table, number)
        insert = f"insert into {name(table.name)} ({name(table.address)}{column}{more}) values "
        return self.say(
            session, f"savepoint f; {insert}({fresh}{value}{filled}); {insert}({key}{value}{filled});"
            " rollback to f; release f;")

    @staticmethod
    def required(table, number):
        """Columns that cannot be null, with values."""
        if any(column.name == "u" for column in table.columns):
            return ", u, w", f", {number}, 'w'"
        return "", ""

    def noise(self, session):
        """A logical message that nobody asked for."""
        inside = self.rng.choice(["true", "false"])
        self.say(session, f"select pg_logical_emit_message({inside}, 'noise', 'x');")

    # Whole tables

    def truncate(self, session, table):
        """A table is emptied, with those that refer to it."""
        group = table.group
        tables = [table]
        if group == "family":
            tables = [self.tables[t] for t in ("parent", "child")]
        self.keep(session, group)
        restart = self.rng.choice(["", " restart identity", " cascade"])
        named = "parent" if group == "family" else table.name
        cascade = " cascade" if group == "family" else restart
        other = self.rng.choice(["plain", "keyed"])
        second = ""
        if other in self.tables and other != table.name and self.may_lock(session, other):
            self.keep(session, other)
            self.touch(session, other, alone=True)
            tables.append(self.tables[other])
            second = f", {name(other)}"
        self.say(session, f"truncate {name(named)}{second}{cascade};")
        for emptied in tables:
            emptied.live = [{} for _ in range(SESSIONS)]

    def identity(self, session, table):
        """Another replica identity."""
        self.keep(session, table.group)
        table.identity = self.rng.choice([i for i in ("default", "full") if i != table.identity])
        self.describe(session, self.identify(table), table)

    def alter(self, session, table):
        """A column comes, goes, or becomes another."""
        self.keep(session, table.group)
        change = self.rng.choice(["add", "add", "default", "drop", "rename", "retype", "storage"])
        free = [c for c in table.columns if c.name not in (table.address, "note", "big", "region")]
        head = f"alter table {name(table.name)} "
        if change in ("drop", "rename", "retype") and not free:
            change = "add"
        if change in ("add", "default"):
            self.serial += 1
            column = Column(self.rng.choice([f"n{self.serial}", f"N {self.serial}"]), "")
            if change == "add":
                column.type, sql, printed = self.rng.choice(self.names), "", None
            else:
                column.type = self.rng.choice(sorted(DEFAULTS))
                sql, printed = DEFAULTS[column.type]
                sql = f" default {sql}"
            table.columns.append(column)
            self.describe(session, f"{head}add column {name(column.name)} {column.type}{sql};", table,
                          add=[column.name, column.type, printed])
        elif change == "drop":
            column = self.rng.choice(free)
            table.columns.remove(column)
            self.describe(session, f"{head}drop column {name(column.name)};", table, drop=column.name)
        elif change == "rename":
            column = self.rng.choice(free)
            self.serial += 1
            old, column.name = column.name, f"r{self.serial}"
            self.describe(session, f"{head}rename {name(old)} to {name(column.name)};", table,
                          rename=[old, column.name])
        elif change == "retype" and any(c.type in RETYPES for c in free):
            column = self.rng.choice([c for c in free if c.type in RETYPES])
            old, column.type = column.type, self.rng.choice(RETYPES[column.type])
            using = f" using {name(column.name)}::{column.type}"
            self.describe(session, f"{head}alter {name(column.name)} type {column.type}{using};",
                          table, retype=[column.name, old, column.type])
        else:
            storage = self.rng.choice(["external", "extended", "main"])
            self.say(session, f"{head}alter big set storage {storage};")

    def rename(self, session, table):
        """Another name for a table."""
        self.keep(session, table.group)
        del self.tables[table.name]
        old, table.name = table.name, f"{table.group}_{self.serial}"
        self.serial += 1
        self.tables[table.name] = table
        self.describe(session, f"alter table {name(old)} rename to {name(table.name)};", table,
                      renamed=old)

    def drop(self, session, table):
        """A table is dropped and made again under its name, with other columns."""
        self.keep(session, table.group)
        fresh = Table(table.name, table.group, self.keyed(table.key_types[0]) + self.columns(4),
                      ["k"], key_types=table.key_types, traits=table.traits - {"indexed"})
        self.tables[table.name] = fresh
        sql = f"drop table {name(table.name)};{self.create(fresh)}"
        self.describe(session, sql, fresh, created=True)

    def make(self, session):
        """A table that was not there before."""
        self.serial += 1
        kind = self.rng.choice(sorted(KEY_TYPES))
        table = Table(f"made_{self.serial}", f"made_{self.serial}",
                      self.keyed(kind) + self.columns(3), ["k"],
                      self.rng.choice(["default", "full"]), key_types=[kind],
                      traits=frozenset({"ddl", "key"}))
        self.keep(session, table.group)
        self.touch(session, table.group, alone=True)
        self.tables[table.name] = table
        self.describe(session, self.create(table), table, created=True)

    def repartition(self, session):
        """A partition comes, is detached or attached again."""
        root = self.tables["parted"]
        self.keep(session, root.group)
        leaves = [t for t in self.tables.values() if t.root == root.name]
        loose = [t for t in self.tables.values() if t.group == root.group and t.regions
                 and t.root is None and t is not root]
        taken = {region for t in leaves + loose for region in t.regions}
        missing = [region for region in root.regions if region not in taken]
        if missing:
            self.serial += 1
            sql = self.partition(root, f"parted_{self.serial}", missing[:1])
            return self.describe(session, sql, self.tables[f"parted_{self.serial}"], created=True)
        if not self.all_tables:
            return None
        if loose:
            leaf = self.rng.choice(loose)
            leaf.root, leaf.traits = root.name, frozenset({"leaf"})
            self.carry(leaf, root)
            bound = ", ".join(map(quoted, leaf.regions))
            sql = f"alter table parted attach partition {name(leaf.name)} for values in ({bound});"
            return self.describe(session, sql, leaf, attach=True)
        leaf = self.rng.choice(leaves)
        leaf.root, leaf.traits = None, frozenset({"key"})
        self.carry(root, leaf)
        return self.describe(session, f"alter table parted detach partition {name(leaf.name)};", leaf,
                             detach=True)

    @staticmethod
    def carry(old, new):
        """Rows of the regions that both have go from one table to the other."""
        for number in range(SESSIONS):
            for row, region in list(old.live[number].items()):
                if region in new.regions:
                    new.live[number][row] = old.live[number].pop(row)

    def rewrite(self, session, table):
        """The table is written anew, outside of any transaction."""
        how = self.rng.choice(["vacuum full", "cluster", "vacuum"])
        if how == "cluster" and table.key_index:
            self.say(session, f"cluster {name(table.name)} using {name(table.key_index)};")
        else:
            self.say(session, f"{how.replace('cluster', 'vacuum full')} {name(table.name)};")

    def label(self, session):
        """An enum gets a label; rows that use it may follow."""
        self.labels += 1
        self.say(session, f"alter type cdc_mood add value 'mood {self.labels}';")
        number = self.mine(session, 1)[0]
        if self.may_touch(session, "wide") and "cdc_mood" in self.names:
            at = self.names.index("cdc_mood")
            self.say(session, f"insert into wide (k, t{at}) values ({number}, 'mood {self.labels}');")
            self.tables["wide"].live[session.number][number] = None

    # The course of a session

    def whole(self, session):
        """A change of a table as a whole, where one is possible now; whether it was planned."""
        kinds = {"ddl": self.alter, "identity": self.identity, "drop": self.drop,
                 "rename": self.rename}
        choices = [
            (table, kinds[trait]) for table in self.tables.values()
            for trait in sorted(table.traits & kinds.keys()) if self.may_lock(session, table.group)
            # Nobody could say later what the catalog said of a table that is gone.
            if trait != "drop" or table.identity == "default"
            if trait != "rename" or self.all_tables
            if trait != "drop" or self.all_tables
        ]
        choices += [(table, self.truncate) for table in self.tables.values()
                    if not table.traits & {"leaf", "made", "child"}
                    and self.may_lock(session, table.group)]
        if self.rng.random() < 0.15 and self.all_tables:
            self.make(session)
            return True
        if self.rng.random() < 0.12 and self.may_lock(session, "parted"):
            self.touch(session, "parted", alone=True)
            self.repartition(session)
            return True
        if not session.is_open and self.rng.random() < 0.15:
            free = [t for t in self.tables.values() if self.may_lock(session, t.group)
                    and "root" not in t.traits]
            self.rewrite(session, self.rng.choice(free)) if free else self.noise(session)
            return True
        if not session.is_open and self.rng.random() < 0.1:
            self.label(session)
            return True
        if not choices:
            return False
        table, act = self.rng.choice(choices)
        self.touch(session, table.group, alone=True)
        act(session, table)
        return True

    def rows(self, session):
        """A change of rows."""
        free = [t for t in self.tables.values() if self.may_touch(session, t.group)
                and not t.traits & {"leaf", "made"} and (not t.regions or self.here(t))]
        if not free:
            return self.noise(session)
        table = self.rng.choice(free)
        self.touch(session, table.group)
        acts = [self.insert] * 5 + [self.update] * 6 + [self.delete] * 2
        if "inserts" in table.traits:
            acts = [self.insert]
        elif table.key:
            acts += [self.fail, self.sweep]
            acts += [self.rekey] * 2 if "key" in table.traits else []
            acts += [self.bulk] if "bulk" in table.traits else []
            is_plain = len(table.key) == 1 and table.identity != "index" and not table.regions
            acts += [self.upsert] if is_plain else []
        return self.rng.choice(acts)(session, table)

    def begin(self, session):
        """A transaction begins."""
        session.levels = [Level()]
        session.left = self.rng.choice([1, 2, 4, 8, 30])
        self.say(session, "begin;")

    def end(self, session):
        """The transaction ends, one way or the other."""
        pick = self.rng.random()
        if pick < 0.16:
            self.restore(session, session.levels[0])
            self.say(session, "rollback;")
            self.release(session)
        elif pick < 0.26:
            self.serial += 1
            session.prepared = f"p{self.serial}"
            session.left = self.rng.randint(1, 20)
            self.say(session, f"prepare transaction '{session.prepared}';")
        else:
            self.say(session, "commit;")
            self.release(session)

    def decide(self, session):
        """A prepared transaction is committed or rolled back."""
        if self.rng.random() < 0.3:
            self.restore(session, session.levels[0])
            self.say(session, f"rollback prepared '{session.prepared}';")
        else:
            self.say(session, f"commit prepared '{session.prepared}';")
        session.prepared = None
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
        if pick > 0.86 and self.whole(session):
            return None
        if pick > 0.84:
            return self.noise(session)
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
        self.begin_with()
        first = [table.described() for table in self.tables.values()]
        while len(self.steps) < self.length:
            self.step()
        self.finish()
        hostile = self.rng.choice([
            "", "", "datestyle = 'SQL, DMY'", "timezone = 'Asia/Kathmandu'", "intervalstyle = iso_8601",
            "bytea_output = escape", "extra_float_digits = -15", "search_path = pg_catalog",
        ])
        return Plan("\n".join(self.schema), first, self.hosts(),
                    "all" if self.all_tables else "managed", self.by_root, hostile)


def plan(seed, version, length):
    """The plan of a seed for a version of the server."""
    return Planner(seed, int(version), length).plan()
