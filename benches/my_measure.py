"""Runs over a backlog of MySQL or MariaDB: their own mysqlbinlog or mariadb-binlog, and rowtide from a
saved position that is set to where the backlog begins.

Rowtide's clock starts at the line of its log that says that it streams, which it writes once it has
asked for the log. The tool says no such thing, and where the log is small the server is done with it
before one could look: its clock starts with its process, later by what it takes to start, log in and
find nothing to read (the median of five such runs).
"""

import os
import statistics
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime

from kit import Mysql, behind_gtids
from measure import Backlog, Bench

SETTINGS = ["binlog_row_metadata=FULL", "binlog_row_image=FULL", "innodb_buffer_pool_size=512M",
            # A load does not lock the numbers that it is made of.
            "transaction_isolation=READ-COMMITTED"]
STARTS = 5


@dataclass(frozen=True)
class Flavor:
    """What MySQL and MariaDB have different names for."""

    settings: tuple
    status: str
    """Where the log ends."""
    gtids: str
    dumps: str
    """The connections that the log is sent on: their ids, and those of their threads."""
    version: str
    unencrypted: tuple
    """Options of the tool: no TLS, for rowtide has none either."""
    packed: str
    """The event of a load that is written compressed."""
    is_one_event: bool
    """Whether that is the whole transaction."""


FLAVORS = {
    "mysql": Flavor(
        ("innodb_redo_log_capacity=2G",), "show binary log status;", "gtid_executed",
        "select processlist_id, thread_os_id from performance_schema.threads"
        " where processlist_command like 'Binlog Dump%';",
        "concat('MySQL ', version())", ("--ssl-mode=DISABLED", "--get-server-public-key"),
        "Transaction_payload", True,
    ),
    "mariadb": Flavor(
        ("innodb_log_file_size=1G",), "show master status;", "gtid_binlog_pos",
        "select id, tid from information_schema.processlist where command like 'Binlog Dump%';",
        "concat('MariaDB ', version())", ("--skip-ssl",), "Write_rows_compressed_v1", False,
    ),
}


@dataclass
class Stretch(Backlog):
    """A backlog as a stretch of the log, from a place to the end of all there is."""

    gtids: str
    """All that were before it."""
    file: str
    offset: int


class MysqlBench(Bench):
    """A MySQL or MariaDB."""

    sender = "dump"

    def __init__(self, flavor, kafka, folder):
        super().__init__(None, kafka, folder)
        self.flavor = FLAVORS[flavor]
        self.server = Mysql(folder / flavor, flavor, [*SETTINGS, *self.flavor.settings])
        self.names = {"bench": "mysql", "db": flavor}
        self.limit = os.path.basename(self.server.binlog)
        self.prefix = flavor
        self.client = self.server.session()
        # What it kills may be gone already, of which the server complains.
        self.killer = self.server.session(folder / f"{flavor}.err")
        self.client.run("create database bench character set utf8mb4; use bench;")
        self.numbers = 0
        self.start_up = 0.0
        """What the tool takes before it reads."""

    def version(self):
        """The server's name and version."""
        return self.client.one(f"select {self.flavor.version}")

    def stop(self):
        """Ends the server."""
        self.client.close()
        self.killer.close()
        self.server.stop()

    def _number(self, count):
        """A table with the numbers up to `count`, which the log knows nothing of."""
        if not self.numbers:
            self.client.run("set sql_log_bin = 0; create table numbers (g int primary key);"
                            "insert into numbers values (1); set sql_log_bin = 1;")
            self.numbers = 1
        while self.numbers < count:
            self.client.run("set sql_log_bin = 0; insert into numbers"
                            f" select g + {self.numbers} from numbers; set sql_log_bin = 1;")
            self.numbers *= 2

    def _end(self):
        """The file and the offset that the log ends at."""
        file, offset = self.client.one(self.flavor.status).split("\t")[:2]
        return file, int(offset)

    def _gtids(self):
        """All GTIDs so far."""
        return self.client.one(f"select @@global.{self.flavor.gtids}")

    def load(self, workload):
        """Creates the table, then writes the backlog into a file of the log of its own."""
        self._number(workload.events)
        self.client.run(workload.schema + workload.before + "flush binary logs;")
        gtids, (file, offset) = self._gtids(), self._end()
        self.client.run(workload.load)
        if workload.is_packed:
            self._check_packed(file, offset)
        self.start_up = self._start_up()
        stretch = Stretch(workload, behind_gtids(self._gtids()), gtids, file, offset)
        self._check_limit(stretch)
        return stretch

    def _check_packed(self, file, offset):
        """The load was written compressed, and as one event where the server can do that."""
        events = self.client.run(f"show binlog events in '{file}' from {offset} limit 8;")
        # A statement that is written along is told of in several lines.
        fields = [event.split("\t") for event in events if event.startswith(f"{file}\t")]
        ends = [int(field[4]) for field in fields if field[2] == self.flavor.packed]
        if not ends:
            raise RuntimeError(f"no {self.flavor.packed} in {file}")
        if self.flavor.is_one_event and (file, ends[0]) != self._end():
            raise RuntimeError(f"the transaction in {file} is not one event")

    def _check_limit(self, stretch):
        """The tool prints every row."""
        command, environment = self._tool(stretch.file, stretch.offset, "-v")
        tool = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **environment})
        counting = ["grep", "-cE", "^### (INSERT|UPDATE)"]
        counted = subprocess.run(counting, stdin=tool.stdout, stdout=subprocess.PIPE, check=False)
        tool.stdout.close()
        if tool.wait() != 0 or int(counted.stdout) != stretch.workload.events:
            raise RuntimeError(f"{self.limit} prints {counted.stdout} rows")

    def _start_up(self):
        """How long the tool takes where there is nothing to read."""
        took = []
        for _ in range(STARTS):
            began = time.time()
            command, environment = self._tool(*self._end(), "-v")
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True,
                           env={**os.environ, **environment})
            took.append(time.time() - began)
        return statistics.median(took)

    def _tool(self, file, offset, *options):
        """The command of the tool, from a place on to the end, and its environment."""
        port = self.server.url.rstrip("/").rsplit(":", 1)[1]
        command = [
            self.server.binlog, "--no-defaults", "--read-from-remote-server", "--host=127.0.0.1",
            f"--port={port}", "--user=rowtide", *self.flavor.unencrypted,
            "--base64-output=decode-rows", f"--start-position={offset}", "--to-last-log", *options,
            file,
        ]
        return command, {"MYSQL_PWD": "rowtide"}

    def drop(self, backlog):
        """Drops the table and throws the log away."""
        self.client.run(f"drop table {backlog.workload.table}; flush binary logs;"
                        "purge binary logs before now() + interval 1 hour;")

    def _dumps(self):
        """The connections that the log is sent on."""
        return [row.split("\t") for row in self.client.run(self.flavor.dumps)]

    def close(self, name):
        """Ends what the server still sends to: it sees by itself only later that nobody reads."""
        for connection, _ in self._dumps():
            self.killer.run(f"kill {connection};")
        while self._dumps():
            time.sleep(0.01)

    def _thread(self, is_running):
        """The thread that sends, by its folder in /proc; 0, which is none, where it is done before
        it is seen.
        """
        while is_running():
            dumps = self._dumps()
            if dumps:
                return f"{self.server.pid}/task/{dumps[0][1]}"
            time.sleep(0.005)
        return 0

    def limit_command(self, backlog, contender, name):
        """The tool prints what it reads, or takes it as it is into files that keep nothing."""
        if contender.mode == "plain":
            return self._tool(backlog.file, backlog.offset, "-v")
        raw = self.folder / name
        raw.mkdir()
        for row in self.client.run("show binary logs;"):
            (raw / row.split("\t")[0]).symlink_to("/dev/null")
        options = ["--raw", f"--result-file={raw}/"]
        return self._tool(backlog.file, backlog.offset, *options)

    def limit_started(self, name, since, is_running):
        """By the start of its process."""
        return self._thread(is_running), since + self.start_up

    def section(self, backlog, contender, name, sink):
        """The connector's section."""
        source = {
            "type": "mysql", "url": f"{self.server.url}?ssl-mode=DISABLED&get-server-public-key=true",
            "tables": {"include": [backlog.workload.table]},
        }
        return {"source": source, "snapshot": "never", "sink": sink,
                "validation": contender.validation}

    def place(self, backlog, rowtide):
        """Saves the position that the backlog begins at."""
        subprocess.run(
            [os.environ["ROWTIDE"], "position", "set", "--config", str(rowtide.config),
             "--connector", rowtide.name, "--at", backlog.gtids, "--yes"],
            stdout=subprocess.DEVNULL, check=True,
        )

    def rowtide_started(self, name, rowtide):
        """By its own log."""
        while True:
            for record in rowtide.records():
                if record.get("message") == "streaming":
                    began = datetime.fromisoformat(record["timestamp"]).timestamp()
                    return self._thread(rowtide.is_running), began
            if not rowtide.is_running():
                raise RuntimeError(f"rowtide ended before it streamed:\n{rowtide.tail()}")
            time.sleep(0.005)
