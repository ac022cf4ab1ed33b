"""One run of a contender over a backlog that is there already.

Both contenders are timed between the same two points: from the moment the server took
START_REPLICATION (its own clock, pg_stat_activity.query_start) to the moment the end of the backlog
was reached: for pg_recvlogical its exit, for rowtide the save of a position at or past the end,
which it does only after the sink holds every event. Neither includes the start of the process.
"""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass

from kit import Rowtide, Sampler, connector, cpu_seconds, lsn, memory_mb, tool


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


PLAIN = Mode()


@dataclass(frozen=True)
class Contender:
    """Who reads the backlog; without a sink it is the limit, pg_recvlogical."""

    sink: str | None
    transport: str = "tcp"
    validation: str = "always"
    mode: Mode = PLAIN


@dataclass
class Run:
    """What one run gave. Times in seconds, memory in MB of 2^20 bytes."""

    wall: float
    cpu: float
    """Of the contender, its start included."""
    server_cpu: float
    """Of the walsender, to some 20 ms."""
    peak_rss: float = 0.0


@dataclass
class Backlog:
    """A loaded table, with a slot that stands before the load."""

    workload: object
    end: int

    @property
    def seed_slot(self):
        """The slot that every run's own slot is copied from."""
        return f"seed_{self.workload.name}"


class Bench:
    """Servers, and a folder to work in."""

    def __init__(self, postgres, kafka, folder):
        self.postgres = postgres
        self.kafka = kafka
        self.folder = folder
        self.psql = postgres.psql()
        self.runs = 0

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
        self.psql.run(
            f"select pg_drop_replication_slot('{backlog.seed_slot}');"
            f"drop publication bench_{backlog.workload.name}; drop table {backlog.workload.table};"
        )

    def run(self, backlog, contender):
        """A run with a fresh slot, which is dropped after it."""
        self.runs += 1
        slot = f"bench_{self.runs}"
        self.psql.run(f"select pg_copy_logical_replication_slot('{backlog.seed_slot}', '{slot}');")
        try:
            if contender.sink is None:
                return self._limit(backlog, contender, slot)
            return self._rowtide(backlog, contender, slot)
        finally:
            self._drop_slot(slot)

    def wait_free(self, slot):
        """Until the server has seen that the last connection on the slot is gone."""
        query = f"select active from pg_replication_slots where slot_name = '{slot}'"
        deadline = time.monotonic() + 30
        while self.psql.one(query) == "t" and time.monotonic() < deadline:
            time.sleep(0.02)

    def _drop_slot(self, slot):
        self.wait_free(slot)
        self.psql.run(f"select pg_drop_replication_slot('{slot}');")

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

    def _limit(self, backlog, contender, slot):
        """pg_recvlogical reads to the end and throws everything away."""
        host = "127.0.0.1" if contender.transport == "tcp" else self.postgres.socket
        end = f"{backlog.end >> 32:X}/{backlog.end & 0xFFFFFFFF:X}"
        command = [
            tool("pg_recvlogical"), "-h", host, "-p", self.postgres.port, "-U", "postgres",
            "-d", "postgres", "-S", slot, "--start", "--endpos", end, "-f", "/dev/null",
            "--no-loop", "-o", f"publication_names=bench_{backlog.workload.name}",
        ]
        for option in contender.mode.options():
            command += ["-o", option]
        environment = dict(os.environ)
        if contender.mode.work_mem:
            work_mem = f"-c logical_decoding_work_mem={contender.mode.work_mem}"
            environment["PGOPTIONS"] = work_mem
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)
        pid, began = self._started(slot, lambda: process.poll() is None)
        sampler = Sampler(pid)
        _, status, usage = os.wait4(process.pid, 0)
        ended = time.time()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError("pg_recvlogical failed")
        return Run(ended - began, usage.ru_utime + usage.ru_stime, sampler.stop())

    def _rowtide(self, backlog, contender, slot):
        """rowtide reads to the end, until its position is saved."""
        folder = self.folder / slot
        section = connector(
            self.postgres.url_by(contender.transport), slot,
            f"bench_{backlog.workload.name}", [backlog.workload.table],
            self.sink(contender.sink, folder), validation=contender.validation,
        )
        section["source"].update(contender.mode.settings())
        rowtide = Rowtide(folder, slot, section)
        rowtide.start()
        try:
            pid, began = self._started(slot, rowtide.is_running)
            sampler = Sampler(pid)
            ended = rowtide.wait_saved(backlog.end, 600)
            run = Run(
                ended - began, cpu_seconds(rowtide.pid), sampler.stop(),
                memory_mb(rowtide.pid, "VmHWM"),
            )
            code = rowtide.stop()
        finally:
            if rowtide.is_running():
                rowtide.kill()
        self._check(rowtide, code, backlog.workload.events, contender.sink)
        shutil.rmtree(folder)
        return run

    def sink(self, kind, folder):
        """A sink's section, with the defaults; the header mode is named."""
        if kind == "jsonl":
            return {"type": "jsonl", "dir": str(folder / "events")}
        if kind == "kafka":
            return {"type": "kafka", "brokers": self.kafka.brokers, "headers": "none"}
        return {"type": kind}

    def _check(self, rowtide, code, events, sink):
        """Every event went through; else the figure is worth nothing."""
        if code != 0:
            raise RuntimeError(f"rowtide ended with {code}:\n{rowtide.tail()}")
        if sink == "kafka":
            counted = sum(
                self.kafka.end_offset(topic, partition)
                for topic, partitions in self.kafka.topics().items()
                if topic.startswith(f"{rowtide.name}.public.")
                for partition in range(partitions)
            )
        elif sink == "jsonl":
            files = (rowtide.folder / "events").glob(f"{rowtide.name}.public.*/*.jsonl")
            counted = sum(count_lines(file) for file in files)
        else:
            # The newest line with a count is the one of the end.
            counts = [line["events"] for line in rowtide.records() if "events" in line]
            counted = counts[-1] if counts else 0
        # The one transaction beyond the end may have come too.
        if counted not in (events, events + 1):
            raise RuntimeError(f"{counted} events instead of {events} in {sink}")


def count_lines(path):
    """Line feeds of a file."""
    count = 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            count += chunk.count(b"\n")
    return count
