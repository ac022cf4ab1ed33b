"""The differential test on MySQL and MariaDB: the workload of my_mixed.py, against what mysqlbinlog or
mariadb-binlog prints of the same log.

On MySQL odd seeds have GTIDs, and even ones places in files.
"""

import json
import random
import re

import differ
import kit
import my_differ
import my_forms
import my_mixed
import my_oracle
import runs
from kit import Mysql

SETTINGS = ["binlog_row_metadata=FULL", "transaction_isolation=READ-COMMITTED",
            "default_time_zone=+00:00", "sql_mode=NO_ENGINE_SUBSTITUTION",
            "character_set_server=utf8mb4", "binlog_row_event_max_size=1024", "max_connections=50", "lock_wait_timeout=60"]
# A duplicate key; a connection to be cut off that ended between the look for it and the KILL.
EXPECTED_ERRORS = ("ERROR 1062 ", "ERROR 1094 ")


class Sql:
    """A client kept open, which goes on after errors."""

    def __init__(self, server, log, database):
        self.log = log
        self.client = server.session(log, database)
        self.run = self.client.run
        self.one = self.client.one

    def unexpected(self):
        """What the server complained about beyond what the plan provokes."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if line.startswith("ERROR ")
                and not line.startswith(EXPECTED_ERRORS)]

    def close(self):
        """Ends the client."""
        if self.client.process.poll() is None:
            self.client.close()


class Bench:
    """The servers of all seeds."""

    def __init__(self, folder, flavor):
        self.flavor = flavor
        self.title = flavor
        self.again = f"DB={flavor}"
        self.folder = folder
        self.servers = {}
        self.log = folder / "none"

    def server(self, has_gtids):
        """A server with or without GTIDs."""
        if has_gtids not in self.servers:
            name = f"{self.flavor}-{'gtids' if has_gtids else 'places'}"
            more = ["gtid_mode=OFF", "enforce_gtid_consistency=OFF"] if not has_gtids else []
            if self.flavor == "mariadb":
                more = ["log_bin_compress_min_len=64"]
            self.servers[has_gtids] = Mysql(self.folder / name, self.flavor, [*SETTINGS, *more])
        self.log = self.servers[has_gtids].log
        return self.servers[has_gtids]

    def run(self, seed, folder, length):
        """One seed."""
        return Run(self, seed, folder, length)

    def close(self):
        """Ends them."""
        for server in self.servers.values():
            server.stop()


class Run(runs.Run):
    """One seed on a server."""

    def __init__(self, bench, seed, folder, length):
        self.has_gtids = bench.flavor == "mariadb" or seed % 2 == 1
        self.is_mysql = bench.flavor == "mysql"
        self.server = bench.server(self.has_gtids)
        plan = my_mixed.plan(seed, bench.flavor, self.has_gtids, length)
        self.database = f"seed_{seed}"
        self.topics = f"{self.database}."
        source = {
            "type": "mysql", "url": self.server.url, "server_id": 1000 + seed,
            "tables": {"include": [f"{self.database}.*"],
                       "exclude": [f"{self.database}.hidden*", f"{self.database}.{my_mixed.NOTES}"]},
        }
        super().__init__(seed, folder, plan, source, random.Random(f"host {seed}"))
        self.chosen = {"image": plan.image, "GTIDs": "on" if self.has_gtids else "off"}
        self.scene = my_differ.Scene(self.database, self.is_mysql, plan.image != "full", plan.told)
        self.printed = []

    def session(self, name):
        """One more connection to the seed's database."""
        sql = Sql(self.server, self.folder / f"{name}.err", self.database)
        self.sql.append(sql)
        return sql

    def prepare(self):
        """The database and its tables, and where the log stands."""
        admin = Sql(self.server, self.folder / "admin.err", "mysql")
        self.sql.append(admin)
        admin.run(f"create database {self.database} character set utf8mb4;"
                  f" set global binlog_row_image = {self.plan.image};"
                  " set global binlog_checksum = crc32;")
        if not self.is_mysql:
            admin.run("set global log_bin_compress = off;")
        self.main = self.session("main")
        self.main.run(self.plan.schema)
        self.main.run("create table finish (k int primary key);")
        self.first_start()
        position = json.loads(self.rowtide.position_file.read_text())["position"]
        self.begun = my_oracle.Place(position["file"], position["pos"])

    def cut(self):
        """The connection of rowtide is cut off."""
        for process in self.main.run("select id from information_schema.processlist"
                                     " where command like 'Binlog Dump%';"):
            self.main.run(f"kill {process};")

    def last_change(self):
        """Writes the last change; what a saved position must pass."""
        self.main.run("insert into finish values (1);")
        if self.has_gtids:
            variable = "gtid_executed" if self.is_mysql else "gtid_binlog_pos"
            return kit.behind_gtids(self.main.one(f"select @@global.{variable};"))
        file, offset = self.main.run("show binary log status;")[0].split("\t")[:2]
        return kit.place_number(file, int(offset))

    def second_opinion(self):
        """The transactions as the tool prints them."""
        files = [row.split("\t")[0] for row in self.main.run("show binary logs;")]
        files = files[files.index(self.begun.file):]
        parser = my_oracle.Parser(self.is_mysql, self.begun, self.database, is_flat)
        for file, text in my_oracle.printed(self.server, files):
            self.printed.append((file, text))
            parser.read(file, text)
        return parser.transactions

    def arrived(self, line):
        """An event's line as an Event."""
        return my_differ.arrived(line, runs.NAME, self.database)

    @staticmethod
    def number(events, transactions):
        """Puts the number of its transaction in each event's place."""
        return my_differ.number_transactions(events, transactions)

    def expected(self, transactions):
        """What must come, and what the workload told in between."""
        return list(my_differ.expected(transactions, self.scene))

    @staticmethod
    def compare(wanted, events):
        """Differences of events in their order."""
        found = differ.compare(wanted, events)
        return found or my_differ.spread(wanted, events)

    def folded(self, wanted, events, rows):
        """The differences of the events brought together from the tables."""
        fold, came = my_differ.Fold(), iter(events)
        for entry in wanted:
            if isinstance(entry, dict):
                if entry:
                    fold.tell(entry)
                continue
            event = next(came, None)
            if event is None:
                break
            fold.take(event, None)
        for event in came:
            fold.take(event, None)
        for table, (key, columns, records) in rows.items():
            fold.against_rows(table, key, columns, records)
        for table, folded in {**fold.keyed, **fold.keyless}.items():
            if folded and table not in rows:
                fold.wrong.append(f"{table}: {len(folded)} rows of a table that is not there")
        return fold.wrong

    def final_rows(self, _transactions):
        """The rows of every captured table at the end: its key, its columns, and cells by column."""
        listed = self.main.run(
            "select c.table_name, c.column_name, c.column_key, hex(c.column_type),"
            " ifnull(c.character_set_name, '') from information_schema.columns c"
            f" where c.table_schema = '{self.database}' order by c.table_name, c.ordinal_position;")
        tables = {}
        for line in listed:
            table, column, key, described, charset = line.split("\t")
            if not self.scene.is_captured(self.database, table):
                continue
            described = bytes.fromhex(described)
            keys, columns = tables.setdefault(table, ([], []))
            if charset:
                # Labels stand here in the catalog's own text.
                is_labelled = re.match(rb"(enum|set)\(", described)
                described += f" CHARSET {'utf8mb4' if is_labelled else charset}".encode()
            columns.append((column, my_forms.form_of(column, described)))
            if key == "PRI":
                keys.append(column)
        return {table: (key, columns, self.records(table, columns))
                for table, (key, columns) in tables.items()}

    def records(self, table, columns):
        """A table's rows as cells by column."""
        cells = ", ".join(my_forms.cell_of(my_mixed.name(name), form) for name, form in columns)
        rows = self.main.run(f"select {cells} from {my_mixed.name(table)};")
        names = [name for name, _ in columns]
        return [dict(zip(names, row.split("\t"))) for row in rows]

    def close(self):
        """Ends everything of the seed."""
        if self.rowtide.is_running():
            self.rowtide.kill()
        for sql in self.sql:
            sql.close()
        last = Sql(self.server, self.folder / "last.err", "mysql")
        for line in last.run("xa recover;"):
            form, length, _, data = line.split("\t")
            last.run(f"xa rollback '{data[:int(length)]}', '{data[int(length):]}', {form};")
        last.run(f"drop database {self.database}; flush binary logs;")
        # The next seeds need none of it.
        newest = last.run("show binary logs;")[-1].split("\t")[0]
        last.run(f"purge binary logs to '{newest}';")
        last.close()

    def keep(self, to):
        """Keeps what helps to understand a difference."""
        for file, text in self.printed:
            (to / f"{file}.txt").write_bytes(text)


def is_flat(table):
    """Whether a table is not transactional."""
    return table.startswith(("flat", "_flat"))
