"""Runs over a backlog of PostgreSQL: pg_recvlogical and rowtide, each with a slot of its own.

The clock of both starts when the server took START_REPLICATION (its own time,
pg_stat_activity.query_start).
"""

import time
from dataclasses import dataclass

from kit import connector, lsn, tool
from measure import Backlog, Bench


@dataclass(frozen=True)
class Mode:
    """How the server is asked to send. What is not named is not asked for."""

    binary: str = ""
    """Rowtide's `binary`: on, off or auto; pg_recvlogical knows on."""
    streaming: bool = False
    """Transactions are sent while they run: protocol 2."""
    work_mem: str = ""
    """logical_decoding_work_mem of this connection."""

    @staticmethod
    def named(text):
        """From what `str` gives, such as binary+streaming+1GB."""
        words = text.split("+")
        binary = {"binary": "on", "text": "off", "auto": "auto"}
        sizes = [word for word in words if word[0].isdigit()]
        mode = Mode(
            next((binary[word] for word in words if word in binary), ""),
            "streaming" in words, next(iter(sizes), ""),
        )
        if str(mode) != text:
            raise ValueError(f"no such mode: {text}")
        return mode

    def __str__(self):
        binary = {"on": "binary", "off": "text", "auto": "auto"}.get(self.binary, "")
        words = [binary, "streaming" if self.streaming else "", self.work_mem]
        return "+".join(word for word in words if word) or "plain"

    def options(self):
        """Options of pgoutput, for pg_recvlogical."""
        options = ["proto_version=2", "streaming=on"] if self.streaming else ["proto_version=1"]
        return options + (["binary=true"] if self.binary == "on" else [])

    def settings(self):
        """Settings of Rowtide's source."""
        settings = {"binary": self.binary, "logical_decoding_work_mem": self.work_mem,
                    "streaming": "on" if self.streaming else ""}
        return {name: value for name, value in settings.items() if value}


class PostgresBench(Bench):
    """A PostgreSQL; a slot stands before each load, and every run has a copy of it."""

    names = {"bench": "pg"}
    limit = "pg_recvlogical"
    sender = "walsender"
    beyond = 1

    def __init__(self, server, kafka, folder):
        super().__init__(server, kafka, folder)
        self.psql = server.psql()

    def load(self, workload):
        """Creates the table, the publication and the slot, then writes the backlog."""
        run = self.psql.run
        run(workload.schema + workload.before)
        run(f"create publication bench_{workload.name} for table {workload.table};")
        run(f"select pg_create_logical_replication_slot('seed_{workload.name}', 'pgoutput');")
        run(workload.load)
        end = self.psql.one("select pg_current_wal_insert_lsn()")
        # One transaction beyond the end, so that a position can be saved that is past it.
        run(f"insert into {workload.table} {workload.last.format(workload.events + 10)};"
            "checkpoint;")
        return Backlog(workload, lsn(end))

    def drop(self, backlog):
        """Lets go of the log that the backlog holds back."""
        name = backlog.workload.name
        self.psql.run(
            f"select pg_drop_replication_slot('seed_{name}');"
            f"drop publication bench_{name}; drop table {backlog.workload.table};"
        )

    def open(self, backlog, name):
        """A slot that stands where the first one does."""
        seed = f"seed_{backlog.workload.name}"
        self.psql.run(f"select pg_copy_logical_replication_slot('{seed}', '{name}');")

    def wait_free(self, slot):
        """Until the server has seen that the last connection on the slot is gone."""
        query = f"select active from pg_replication_slots where slot_name = '{slot}'"
        deadline = time.monotonic() + 30
        while self.psql.one(query) == "t" and time.monotonic() < deadline:
            time.sleep(0.02)

    def close(self, name):
        """Drops the slot."""
        self.wait_free(name)
        self.psql.run(f"select pg_drop_replication_slot('{name}');")

    def _started(self, slot, is_running):
        """The walsender's process and when it took START_REPLICATION."""
        query = (
            "select pid, extract(epoch from query_start) from pg_stat_activity join"
            f" pg_replication_slots on pid = active_pid where slot_name = '{slot}'"
            " and query like 'START_REPLICATION%';"
        )
        while True:
            row = self.psql.one(query)
            if row:
                pid, at = row.split("|")
                return int(pid), float(at)
            if not is_running():
                raise RuntimeError(f"{slot}: the contender ended before it streamed")
            time.sleep(0.005)

    def limit_started(self, name, since, is_running):
        """By the server's word."""
        return self._started(name, is_running)

    def rowtide_started(self, name, rowtide):
        """By the server's word."""
        return self._started(name, rowtide.is_running)

    def limit_command(self, backlog, contender, name):
        """pg_recvlogical, in the contender's mode."""
        host = "127.0.0.1" if contender.transport == "tcp" else self.server.socket
        end = f"{backlog.end >> 32:X}/{backlog.end & 0xFFFFFFFF:X}"
        command = [
            tool("pg_recvlogical"), "-h", host, "-p", self.server.port, "-U", "postgres",
            "-d", "postgres", "-S", name, "--start", "--endpos", end, "-f", "/dev/null",
            "--no-loop", "-o", f"publication_names=bench_{backlog.workload.name}",
        ]
        mode = Mode.named(contender.mode)
        for option in mode.options():
            command += ["-o", option]
        work_mem = f"-c logical_decoding_work_mem={mode.work_mem}"
        return command, {"PGOPTIONS": work_mem} if mode.work_mem else {}

    def section(self, backlog, contender, name, sink):
        """The connector's section, in the contender's mode."""
        section = connector(
            self.server.url_by(contender.transport), name,
            f"bench_{backlog.workload.name}", [backlog.workload.table],
            sink, validation=contender.validation,
        )
        section["source"].update(Mode.named(contender.mode).settings())
        return section
