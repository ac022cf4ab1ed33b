"""One run of a contender over a backlog that is there already.

Both contenders are timed between the same two points: from the moment the server was asked for its
log to the moment the end of the backlog was reached: for the limit its exit, for rowtide the save of a
position at or past the end, which it does only after the sink holds every event. Neither includes the
start of the process. How the first moment is known, pg_measure.py and my_measure.py say.
"""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from kit import Rowtide, Sampler, cpu_seconds, memory_mb, tool


PRODUCER = "kcat"
"""The sink of who is no rowtide, and reads no server: librdkafka's own client, which writes the records
that rowtide wrote, from a file.
"""
PRODUCER_SETTINGS = {
    "acks": "all", "enable.idempotence": "true", "compression.codec": "lz4", "linger.ms": "2",
    "batch.size": "1000000", "queue.buffering.max.messages": "10000",
}
"""As rowtide's, and a bound to its memory."""


@dataclass(frozen=True)
class Contender:
    """Who reads the backlog; without a sink it is the limit, the server's own client."""

    sink: str | None
    transport: str = "tcp"
    validation: str = "always"
    mode: str = "plain"


@dataclass
class Run:
    """What one run gave. Times in seconds, memory in MB of 2^20 bytes."""

    wall: float
    cpu: float
    """Of the contender, its start included."""
    server_cpu: float
    """Of what serves this connection, to some 20 ms."""
    peak_rss: float = 0.0


@dataclass
class Backlog:
    """A loaded table, and what a saved position passes at its end."""

    workload: object
    end: int
    topic: str = field(default="", kw_only=True)
    """What the producer writes to,"""
    records: Path | None = field(default=None, kw_only=True)
    """and the keys and values that it writes."""


class Bench:
    """A server and a broker, and a folder to work in. The rest is for each kind of server to say."""

    names = {}
    """What names the benchmark in each line."""
    limit = ""
    """The server's own client."""
    sender = ""
    """What the server sends its log by, in a word."""
    prefix = "bench"
    """Of the names of runs."""
    beyond = 0
    """How many events there are behind the end of a backlog."""

    def __init__(self, server, kafka, folder):
        self.server = server
        self.kafka = kafka
        self.folder = folder
        self.runs = 0

    def load(self, workload):
        """Creates the table, then writes the backlog, which it gives."""
        raise NotImplementedError

    def drop(self, backlog):
        """Lets go of what the backlog holds."""
        raise NotImplementedError

    def open(self, backlog, name):
        """What the server has for a run."""

    def close(self, name):
        """Removes it."""

    def place(self, backlog, rowtide):
        """Makes rowtide begin where the backlog does, where the server does not see to it."""

    def limit_command(self, backlog, contender, name):
        """The command of the limit, and what is added to its environment."""
        raise NotImplementedError

    def limit_started(self, name, since, is_running):
        """Once a limit streams whose process was started at `since`: the process or thread that
        serves it, by its folder in /proc, and the time that counts as its start.
        """
        raise NotImplementedError

    def rowtide_started(self, name, rowtide):
        """The same for rowtide."""
        raise NotImplementedError

    def section(self, backlog, contender, name, sink):
        """The connector's section."""
        raise NotImplementedError

    def run(self, backlog, contender):
        """A run from the start of the backlog, of which nothing is left after it."""
        self.runs += 1
        name = f"{self.prefix}_{self.runs}"
        self.open(backlog, name)
        try:
            if contender.sink is None:
                return self._limit(backlog, contender, name)
            if contender.sink == PRODUCER:
                return self._producer(backlog)
            return self._rowtide(backlog, contender, name)
        finally:
            self.close(name)

    def _limit(self, backlog, contender, name):
        """The server's own client reads to the end and throws everything away."""
        command, environment = self.limit_command(backlog, contender, name)
        since = time.time()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )
        task, began = self.limit_started(name, since, lambda: is_alive(process.pid))
        sampler = Sampler(task)
        ended, cpu, _ = wait_end(process, self.limit)
        # Where the start is an estimate, as little as nothing may be left.
        return Run(max(ended - began, 0.001), cpu, sampler.stop())

    def record(self, backlog):
        """Reads back what the last run wrote into Kafka, for the producer to write it again."""
        topics = f"{self.prefix}_{self.runs}.{backlog.workload.space}."
        backlog.topic = next(topic for topic in self.kafka.topics() if topic.startswith(topics))
        backlog.records = self.folder / "records"
        with open(backlog.records, "wb") as file:
            subprocess.run(
                [tool("kcat"), "-b", self.kafka.brokers, "-C", "-q", "-e", "-o", "beginning",
                 "-t", backlog.topic, "-f", "%k\t%s\n"],
                stdin=subprocess.DEVNULL, stdout=file, check=True,
            )

    def _producer(self, backlog):
        """librdkafka's own client writes the records that were read back."""
        before = self.kafka.end_offset(backlog.topic)
        options = [word for setting in PRODUCER_SETTINGS.items()
                   for word in ("-X", "=".join(setting))]
        began = time.time()
        process = subprocess.Popen(
            [tool("kcat"), "-b", self.kafka.brokers, "-P", "-t", backlog.topic, "-K", "\t", *options,
             "-l", str(backlog.records)],
            stdin=subprocess.DEVNULL,
        )
        ended, cpu, peak_rss = wait_end(process, PRODUCER)
        written = self.kafka.end_offset(backlog.topic) - before
        if not 0 <= written - backlog.workload.events <= self.beyond:
            raise RuntimeError(f"{PRODUCER} wrote {written} records")
        return Run(ended - began, cpu, 0.0, peak_rss)

    def _rowtide(self, backlog, contender, name):
        """rowtide reads to the end, until its position is saved."""
        folder = self.folder / name
        section = self.section(backlog, contender, name, self.sink(contender.sink, folder))
        rowtide = Rowtide(folder, name, section)
        self.place(backlog, rowtide)
        rowtide.start()
        try:
            task, began = self.rowtide_started(name, rowtide)
            sampler = Sampler(task)
            ended = rowtide.wait_saved(backlog.end, 600)
            run = Run(
                ended - began, cpu_seconds(rowtide.pid), sampler.stop(),
                memory_mb(rowtide.pid, "VmHWM"),
            )
            code = rowtide.stop()
        finally:
            if rowtide.is_running():
                rowtide.kill()
        self._check(rowtide, code, backlog.workload, contender.sink)
        shutil.rmtree(folder)
        return run

    def sink(self, kind, folder):
        """A sink's section, with the defaults; the header mode is named."""
        if kind == "jsonl":
            return {"type": "jsonl", "dir": str(folder / "events")}
        if kind == "kafka":
            return {"type": "kafka", "brokers": self.kafka.brokers, "headers": "none"}
        return {"type": kind}

    def _check(self, rowtide, code, workload, sink):
        """Every event went through; else the figure is worth nothing."""
        if code != 0:
            raise RuntimeError(f"rowtide ended with {code}:\n{rowtide.tail()}")
        topics = f"{rowtide.name}.{workload.space}."
        if sink == "kafka":
            counted = sum(
                self.kafka.end_offset(topic, partition)
                for topic, partitions in self.kafka.topics().items()
                if topic.startswith(topics)
                for partition in range(partitions)
            )
        elif sink == "jsonl":
            files = (rowtide.folder / "events").glob(f"{topics}*/*.jsonl")
            counted = sum(count_lines(file) for file in files)
        else:
            # The newest line with a count is the one of the end.
            counts = [line["events"] for line in rowtide.records() if "events" in line]
            counted = counts[-1] if counts else 0
        # What is behind the end may have come too.
        if not 0 <= counted - workload.events <= self.beyond:
            raise RuntimeError(f"{counted} events instead of {workload.events} in {sink}")


def is_alive(pid):
    """Whether a process of ours has not ended. What it used can still be asked for, once."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def wait_end(process, name):
    """Waits for the end of a process of ours, which must be good; gives when it was, the CPU seconds that
    the process used, and the peak of its memory in MB of 2^20 bytes.
    """
    _, status, usage = os.wait4(process.pid, 0)
    ended = time.time()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{name} failed")
    return ended, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def count_lines(path):
    """Line feeds of a file."""
    count = 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            count += chunk.count(b"\n")
    return count
