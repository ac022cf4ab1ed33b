"""What rowtide says of a random workload against what test_decoding says, and against the tables.

    differential.py SEED…   each seed alone gives the same statements and restarts again

Several sessions change tables of all types in transactions of all sorts (mixed.py) while rowtide is
killed, stopped and cut off; then each event is compared, in order and value by value, with what
test_decoding says of the same log on a second slot (oracle.py, differ.py), and the events brought
together must be the tables as SQL reads them.

PG version of the server (18); LENGTH statements of the workload (400); KEEP a folder for the plan, both
opinions and the log of seeds that differ.
--self-test     plants faults into what arrived for each seed and demands that each is seen
--report FILE   writes the figures there, as JSON
Exit code 1: a difference; 2: the test itself failed.
"""

import argparse
import copy
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import collect
import differ
import faults
import mixed
import oracle
import samples
from kit import Postgres, Rowtide, die, lsn, say, tool

NAME = "diff"
SLOT = "diff"
# Small, so that transactions go to disk in the server.
SETTINGS = ["logical_decoding_work_mem=64kB", "max_prepared_transactions=20", "max_wal_size=2GB",
            "autovacuum_naptime=5s"]
EXPECTED_ERRORS = ("23505",)
# Told to stop before it could listen.
UNPREPARED = -signal.SIGTERM
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


class Run:
    """One seed on a server."""

    def __init__(self, server, version, seed, folder, length, settings):
        self.server, self.seed, self.folder = server, seed, folder
        self.plan = mixed.plan(seed, version, length)
        self.random = random.Random(f"host {seed}")
        self.database = f"seed_{seed}"
        self.url = server.url.rsplit("/", 1)[0] + f"/{self.database}"
        self.restarts = 0
        source = {
            "type": "postgres", "url": f"{self.url}?sslmode=disable", "slot": SLOT,
            "publication": "diff", "tables": {"include": ["public.*"], "exclude": ["public.hidden*"]},
            "publication_management": "external" if self.plan.publication == "all" else "auto",
        }
        source |= {name: self.random.choice(values) for name, values in settings.items()}
        self.settings = {name: source[name] for name in settings}
        section = {
            "source": source, "snapshot": "never",
            "sink": {"type": "jsonl", "dir": str(folder / "events"), "rotate": {"bytes": "1MiB"}},
        }
        self.rowtide = Rowtide(
            folder / "host", NAME, section, commit_interval=self.random.choice(["20ms", "250ms"]),
            memory=self.random.choice(["32MiB", "16MiB"]),
        )
        self.sql = []

    def session(self, name):
        """One more connection to the seed's database."""
        sql = Sql(self.url, self.folder / f"{name}.err")
        self.sql.append(sql)
        sql.run("set search_path = public; set lock_timeout = '60s'; set datestyle = 'ISO, MDY';"
                "set intervalstyle = postgres; set timezone = 'UTC'; set extra_float_digits = 3;"
                "set bytea_output = hex; set lc_monetary = 'C';")
        return sql

    def prepare(self, admin):
        """The database, its tables, and both readers of the log."""
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
        self.start()
        while self.rowtide.saved() is None:
            self.alive()
            time.sleep(0.01)

    def start(self):
        """Starts rowtide where it does not run."""
        if not self.rowtide.is_running():
            self.rowtide.start()
            self.restarts += 1

    def alive(self):
        """Raises where rowtide ended by itself."""
        if not self.rowtide.is_running():
            raise Differs([f"rowtide ended by itself:\n{self.rowtide.tail()}"])

    def host(self, action, number):
        """What happens to rowtide in between."""
        if action == "start":
            self.start()
        elif action == "nap":
            time.sleep(number / 1000)
        elif action == "cut":
            self.main.run("select pg_terminate_backend(active_pid) from pg_replication_slots"
                          f" where slot_name = '{SLOT}' and active_pid is not null;")
        elif self.rowtide.is_running():
            if action == "kill":
                self.rowtide.kill()
            elif self.rowtide.stop() not in (0, UNPREPARED):
                raise Differs([f"an orderly end failed:\n{self.rowtide.tail()}"])
        elif self.rowtide.process.returncode not in (0, UNPREPARED, -signal.SIGKILL):
            self.alive()

    def work(self):
        """Goes through the plan, and lets everything arrive."""
        sessions = [self.session(f"session{number}") for number in range(mixed.SESSIONS)]
        for kind, what, detail in self.plan.steps:
            if kind == "host":
                self.host(what, detail)
            else:
                sessions[what].run(detail)
        before = lsn(self.main.one("select pg_current_wal_insert_lsn();"))
        self.main.run("insert into finish values (1);")
        complaints = [line for sql in self.sql for line in sql.unexpected()]
        if complaints:
            raise RuntimeError("the plan itself went wrong:\n" + "\n".join(complaints[:5]))
        self.start()
        try:
            self.rowtide.wait_saved(before + 1, 60)
        except RuntimeError as error:
            raise Differs([f"not everything arrived: {error}"]) from error
        code = self.rowtide.stop()
        if code != 0:
            raise Differs([f"the orderly end had exit code {code}:\n{self.rowtide.tail()}"])

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

    def records(self, table):
        """A table's rows as the server prints them, by column."""
        columns = [name for name, _ in differ.columns_of(table)]
        listed = ", ".join(map(mixed.name, columns))
        rows = self.main.run(
            f"copy (select {listed} from {mixed.name(table['table'])}) to stdout;")
        return [dict(zip(columns, map(unescaped, row.split("\t")))) for row in rows]

    def lines(self):
        """What arrived, stream by stream."""
        return list(collect.from_jsonl(self.folder / "events", f"{NAME}.public."))

    def close(self, admin):
        """Ends everything of the seed."""
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


class Differs(Exception):
    """What is not as it should be."""

    def __init__(self, found):
        super().__init__("\n".join(found))
        self.found = found


def examine(run, lines, transactions, rows):
    """All differences of what arrived; the number of events."""
    events, found, streams = [], [], {}
    for stream, _, line in lines:
        if b'"op":"' not in line[:200]:
            continue
        try:
            event = differ.arrived(line, NAME)
        except (differ.Wrong, KeyError, TypeError, ValueError, AttributeError) as error:
            found.append(f"an event in {stream} cannot be read: {error!r}")
            continue
        if stream.endswith("dead_letter"):
            found.append(f"a dead letter: {differ.show(event)}")
        elif event.op in "cudt":
            if streams.get(stream, (0,)) >= event.place:
                found.append(f"out of order in {stream}: {differ.show(event)}")
            streams[stream] = event.place
            events.append(event)
    events.sort(key=lambda event: event.place)
    found += differ.number_transactions(events, transactions)[:5]
    wanted = list(differ.expected(transactions, run.first_tables()))
    only_events = [event for event in wanted if isinstance(event, differ.Event)]
    found += differ.compare(only_events, events)
    compared = len(found)
    found += folded(run, wanted, events, rows)[:5]
    return found, len(events), compared


def folded(run, wanted, events, rows):
    """The differences of the events brought together from the tables.

    What the workload told of a table takes effect where it stands among the expected events.
    """
    tables, fold, came = run.first_tables(), differ.Fold(), iter(events)
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


def final_rows(run, transactions):
    """The rows of every published table at the end."""
    tables = run.first_tables()
    for transaction in transactions:
        for entry in transaction.entries:
            if isinstance(entry, dict):
                tables.learn(entry)
    names = [name for name in tables.by_name if name != mixed.HIDDEN
             and (not tables.by_name[name]["root"] if run.plan.by_root else not tables.is_root(name))]
    return {name: run.records(tables.by_name[name]) for name in names}


def self_test(run, lines, transactions, rows):
    """The names of planted faults that were not seen."""
    missed = []
    for name, plant in faults.PLANTS.items():
        tampered = plant(list(lines), random.Random(run.seed))
        if tampered is None:
            continue
        found, _, compared = examine(run, tampered, transactions, rows)
        is_seen = compared > 0
        by_fold = len(found) > compared
        say(f"  planted {name}: {'seen' if is_seen else 'NOT SEEN'}"
            f"{', by the fold too' if by_fold else ''}")
        if not is_seen or (name in faults.SEEN_BY_FOLD and not by_fold):
            missed.append(name)
    return missed


def prove(server, admin, version, seed, options, settings):
    """One seed: whether nothing differs, and how much there was."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"rowtide-differential.{seed}."))
    run = Run(server, version, seed, folder, options.length, settings)
    found, transactions, events, missed = [], [], 0, []
    try:
        run.prepare(admin)
        run.work()
        transactions = run.second_opinion()
        rows = final_rows(run, transactions)
        lines = run.lines()
        found, events, _ = examine(run, lines, transactions, rows)
        if options.self_test and not found:
            missed = self_test(run, lines, transactions, rows)
    except Differs as error:
        found = error.found
    except RuntimeError:
        keep(run, seed, version)
        raise
    finally:
        if found:
            keep(run, seed, version)
        run.close(admin)
        shutil.rmtree(folder, ignore_errors=True)
    chosen = "".join(f", {name} {value}" for name, value in run.settings.items())
    say(f"seed {seed} on PostgreSQL {version}: {len(transactions)} transactions, {events} events, "
        f"{run.restarts} lives{chosen}, {time.monotonic() - began:.1f} s: "
        + ("DIFFERENT" if found else "no difference"))
    for text in found:
        say(f"    {text}")
    if missed:
        say(f"the checks do not see: {', '.join(missed)}")
    if found or missed:
        say(f"again with: PG={version} LENGTH={options.length} tests/proof/run.sh differential {seed}")
    return not found and not missed, len(transactions), events


def keep(run, seed, version):
    """Keeps what helps to understand a difference."""
    if not os.environ.get("KEEP"):
        return
    to = Path(os.environ["KEEP"]) / f"{seed}.{version}"
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(run.folder, to)
    steps = "\n".join(
        f"-- session {what}\n{detail}" if kind == "sql" else f"-- rowtide: {what} {detail}"
        for kind, what, detail in run.plan.steps)
    (to / "plan.sql").write_text(f"{run.plan.schema}\n{steps}\n")
    messages = run.main.run(
        "select lsn, xid, encode(data, 'hex') from pg_logical_slot_peek_binary_changes('raw', null,"
        " null, 'proto_version', '1', 'publication_names', 'diff');")
    (to / "pgoutput.txt").write_text("\n".join(messages))
    said = [bytes.fromhex(row.split("|")[2]).decode(errors="replace")
            for row in getattr(run, "said", [])]
    (to / "test_decoding.txt").write_text("\n".join(said), errors="replace")
    say(f"kept in {to}")


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--length", type=int, default=int(os.environ.get("LENGTH", "400")))
    options = parser.parse_args()
    version = os.environ.get("PG", "18")
    figures = {"seeds": options.seeds, "differ": [], "transactions": 0, "changes": 0}
    settings = choices()
    with tempfile.TemporaryDirectory(prefix="rowtide-proof.") as folder:
        server = Postgres(Path(folder) / "postgres", version, SETTINGS)
        admin = Sql(server.url, Path(folder) / "admin.err")
        try:
            admin.run("create database samples;")
            template = Sql(server.url.rsplit("/", 1)[0] + "/samples", Path(folder) / "samples.err")
            template.run(samples.SETUP)
            template.close()
            if template.unexpected():
                die("\n".join(template.unexpected()))
            for seed in options.seeds:
                holds, transactions, changes = prove(server, admin, version, seed, options, settings)
                figures["transactions"] += transactions
                figures["changes"] += changes
                if not holds:
                    figures["differ"].append(seed)
        except (RuntimeError, BrokenPipeError) as error:
            if os.environ.get("KEEP"):
                shutil.copy(server.log, Path(os.environ["KEEP"]) / "server.log")
            die(f"the differential test itself failed (seed {seed}): {error}")
        finally:
            admin.close()
            server.stop()
    if options.report:
        options.report.write_text(json.dumps(figures))
    say(json.dumps({
        "proof": "differential", "version": version, "seeds": len(options.seeds),
        "differences": len(figures["differ"]), "transactions": figures["transactions"],
        "changes": figures["changes"],
    }))
    sys.exit(1 if figures["differ"] else 0)


if __name__ == "__main__":
    main()
