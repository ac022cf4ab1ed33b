"""The differential test on PostgreSQL: the workload of mixed.py, against test_decoding on a second slot.

PG is the version of the server (18).
"""

import copy
import json
import os
import random
import subprocess
from pathlib import Path

import differ
import mixed
import oracle
import runs
import samples
from kit import Postgres, lsn, tool

SLOT = "diff"
# Small, so that transactions go to disk in the server.
SETTINGS = ["logical_decoding_work_mem=64kB", "max_prepared_transactions=20", "max_wal_size=2GB",
            "autovacuum_naptime=5s"]
EXPECTED_ERRORS = ("23505",)
# What the server sends is kept too where differences are.
RAW = [("raw", "pgoutput")] if os.environ.get("KEEP") else []


class Sql:
    """A psql kept open, which goes on after errors."""

    MARK = "-- the end of this statement --"

    def __init__(self, url, log):
        self.log = log
        environment = dict(os.environ, PGOPTIONS="-c client_min_messages=warning")
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [tool("psql"), "-X", "-q", "-b", "-A", "-t", "-v", "VERBOSITY=verbose", "-d", url],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
            )

    def run(self, script):
        """Runs statements; the lines of their answers."""
        text = f"{script}\n\\echo {self.MARK}\n"
        self.process.stdin.write(text.encode("utf-8", "surrogateescape"))
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            line = line.rstrip(b"\n").decode("utf-8", "surrogateescape")
            if line == self.MARK:
                return lines
            lines.append(line)
        raise RuntimeError(f"psql ended: {script[:200]}\n{Path(self.log).read_text()[-2000:]}")

    def one(self, query):
        """The only value of a query."""
        rows = self.run(query)
        if not rows:
            raise RuntimeError(f"no answer: {query}\n{Path(self.log).read_text()[-2000:]}")
        return rows[0]

    def unexpected(self):
        """What the server complained about beyond what the plan provokes, and of which statement."""
        lines = Path(self.log).read_text(errors="replace").splitlines()
        found = []
        for at, line in enumerate(lines):
            if ("ERROR: " not in line and "FATAL: " not in line) \
                    or any(code in line for code in EXPECTED_ERRORS):
                continue
            statement = (more for more in lines[at:at + 8] if more.startswith("STATEMENT: "))
            found.append(f"{line} {next(statement, '')[:300]}".strip())
        return found

    def close(self):
        """Ends psql."""
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(10)


def choices():
    """Settings of the source that must not change what is said, with their values."""
    printed = subprocess.run([os.environ["ROWTIDE"], "config", "schema"], stdout=subprocess.PIPE,
                             check=True).stdout
    found = {}

    def walk(node):
        if isinstance(node, dict):
            for name in ("streaming", "binary"):
                setting = node.get("properties", {}).get(name)
                if setting:
                    found[name] = sorted(enumerated(setting, document))
            for inner in node.values():
                walk(inner)
        elif isinstance(node, list):
            for inner in node:
                walk(inner)

    document = json.loads(printed)
    walk(document)
    return {name: values for name, values in found.items() if values}


def enumerated(schema, document):
    """The values that a schema lists."""
    if "$ref" in schema:
        return enumerated(document["$defs"][schema["$ref"].rsplit("/", 1)[1]], document)
    values = set(schema.get("enum", []))
    if "const" in schema:
        values.add(schema["const"])
    for part in schema.get("oneOf", []) + schema.get("anyOf", []) + schema.get("allOf", []):
        values |= enumerated(part, document)
    return {value for value in values if isinstance(value, str)}


class Bench:
    """The server of all seeds."""

    def __init__(self, folder):
        self.version = os.environ.get("PG", "18")
        self.title = f"PostgreSQL {self.version}"
        self.again = f"PG={self.version}"
        self.settings = choices()
        self.server = Postgres(folder / "postgres", self.version, SETTINGS)
        self.log = self.server.log
        self.admin = Sql(self.server.url, folder / "admin.err")
        self.admin.run("create database samples;")
        template = Sql(self.server.url.rsplit("/", 1)[0] + "/samples", folder / "samples.err")
        template.run(samples.SETUP)
        template.close()
        if template.unexpected():
            raise RuntimeError("\n".join(template.unexpected()))

    def run(self, seed, folder, length):
        """One seed."""
        return Run(self, seed, folder, length)

    def close(self):
        """Ends it."""
        self.admin.close()
        self.server.stop()


class Run(runs.Run):
    """One seed on a server."""

    topics = "public."

    def __init__(self, bench, seed, folder, length):
        self.bench = bench
        plan = mixed.plan(seed, bench.version, length)
        self.database = f"seed_{seed}"
        self.url = bench.server.url.rsplit("/", 1)[0] + f"/{self.database}"
        chooser = random.Random(f"host {seed}")
        source = {
            "type": "postgres", "url": f"{self.url}?sslmode=disable", "slot": SLOT,
            "publication": "diff", "tables": {"include": ["public.*"], "exclude": ["public.hidden*"]},
            "publication_management": "external" if plan.publication == "all" else "auto",
        }
        source |= {name: chooser.choice(values) for name, values in bench.settings.items()}
        super().__init__(seed, folder, plan, source, chooser)
        self.chosen = {name: source[name] for name in bench.settings}

    def session(self, name):
        """One more connection to the seed's database."""
        sql = Sql(self.url, self.folder / f"{name}.err")
        self.sql.append(sql)
        sql.run("set search_path = public; set lock_timeout = '60s'; set datestyle = 'ISO, MDY';"
                "set intervalstyle = postgres; set timezone = 'UTC'; set extra_float_digits = 3;"
                "set bytea_output = hex; set lc_monetary = 'C';")
        return sql

    def prepare(self):
        """The database, its tables, and both readers of the log."""
        admin = self.bench.admin
        admin.run(f"create database {self.database} template samples;")
        if self.plan.hostile:
            admin.run(f"alter database {self.database} set {self.plan.hostile};")
        self.main = self.session("main")
        self.main.run(self.plan.schema)
        self.main.run("create table finish (k int primary key);")
        if self.plan.publication == "all":
            by_root = str(self.plan.by_root).lower()
            self.main.run("create publication diff for all tables"
                          f" with (publish_via_partition_root = {by_root});")
        for slot, plugin in [("oracle", "test_decoding"), *RAW]:
            self.main.run(f"select pg_create_logical_replication_slot('{slot}', '{plugin}');")
        self.first_start()

    def cut(self):
        """The connection of rowtide is cut off."""
        self.main.run("select pg_terminate_backend(active_pid) from pg_replication_slots"
                      f" where slot_name = '{SLOT}' and active_pid is not null;")

    def last_change(self):
        """Writes the last change; what a saved position must pass."""
        before = lsn(self.main.one("select pg_current_wal_insert_lsn();"))
        self.main.run("insert into finish values (1);")
        return before + 1

    def second_opinion(self):
        """The transactions as test_decoding gives them."""
        rows = [row for row in self.main.run(oracle.CHANGES) if row]
        self.said = rows
        return oracle.transactions(rows, mixed.MODEL)

    def first_tables(self):
        """The tables at the beginning."""
        finish = mixed.Table("finish", "finish", [mixed.Column("k", "integer")], ["k"])
        told = [*self.plan.tables, finish.described()]
        return differ.Tables(copy.deepcopy(told), self.plan.by_root)

    def arrived(self, line):
        """An event's line as an Event."""
        return differ.arrived(line, runs.NAME)

    @staticmethod
    def number(events, transactions):
        """Puts the number of its transaction in each event's place."""
        return differ.number_transactions(events, transactions)

    def expected(self, transactions):
        """What must come, and what the workload told in between."""
        return list(differ.expected(transactions, self.first_tables()))

    def folded(self, wanted, events, rows):
        """The differences of the events brought together from the tables.

        What the workload told of a table takes effect where it stands among the expected events.
        """
        tables, fold, came = self.first_tables(), differ.Fold(), iter(events)
        for entry in wanted:
            if isinstance(entry, dict):
                tables.learn(entry)
                fold.tell(entry, tables)
                continue
            event = next(came, None)
            if event is None:
                break
            fold.take(event, tables)
        for event in came:
            fold.take(event, tables)
        for name, records in rows.items():
            fold.against(name, tables.by_name[name], records)
        return fold.wrong

    def final_rows(self, transactions):
        """The rows of every published table at the end."""
        tables = self.first_tables()
        for transaction in transactions:
            for entry in transaction.entries:
                if isinstance(entry, dict):
                    tables.learn(entry)
        is_partition = lambda name: tables.by_name[name]["root"]
        is_left_out = is_partition if self.plan.by_root else tables.is_root
        return {name: self.records(tables.by_name[name]) for name in tables.by_name
                if name != mixed.HIDDEN and not is_left_out(name)}

    def records(self, table):
        """A table's rows as the server prints them, by column."""
        columns = [name for name, _ in differ.columns_of(table)]
        listed = ", ".join(map(mixed.name, columns))
        rows = self.main.run(
            f"copy (select {listed} from {mixed.name(table['table'])}) to stdout;")
        return [dict(zip(columns, map(unescaped, row.split("\t")))) for row in rows]

    def close(self):
        """Ends everything of the seed."""
        admin = self.bench.admin
        if self.rowtide.is_running():
            self.rowtide.kill()
        for sql in self.sql:
            sql.close()
        last = Sql(self.url, self.folder / "last.err")
        last.run("select format('rollback prepared %L', gid) from pg_prepared_xacts"
                 " where database = current_database() \\gexec")
        last.close()
        admin.run(f"""
            select pg_terminate_backend(pid) from pg_stat_activity
              where datname = '{self.database}';
            select pg_drop_replication_slot(slot_name) from pg_replication_slots
              where database = '{self.database}' and pg_sleep(0.05) is not null;
            drop database {self.database} with (force);""")

    def keep(self, to):
        """Keeps what helps to understand a difference."""
        messages = self.main.run(
            "select lsn, xid, encode(data, 'hex') from pg_logical_slot_peek_binary_changes('raw', null,"
            " null, 'proto_version', '1', 'publication_names', 'diff');")
        (to / "pgoutput.txt").write_text("\n".join(messages))
        said = [bytes.fromhex(row.split("|")[2]).decode(errors="replace")
                for row in getattr(self, "said", [])]
        (to / "test_decoding.txt").write_text("\n".join(said), errors="replace")


ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def unescaped(cell):
    """A value of COPY's text format; None for NULL."""
    if cell == "\\N":
        return None
    out, at = [], 0
    while (mark := cell.find("\\", at)) >= 0:
        out.append(cell[at:mark])
        escape = cell[mark + 1]
        out.append(ESCAPES.get(escape, escape))
        at = mark + 2
    out.append(cell[at:])
    return "".join(out)
