"""A server, perhaps a broker, and rowtide between them, for one case of the proof of large loads."""

import os
import re
import time

import collect
from kit import Kafka, Postgres, Rowtide, connector, cpu_seconds, lsn, memory_mb

PEAK_MB = 64
"""What rowtide may hold at its default settings."""
INDEX = re.compile(rb'^\{"v":"[0-9.]+","id":"[^":]+:[0-9A-F]+/[0-9A-F]+:(\d+)"')


class Setup:
    """A server, perhaps a broker, and rowtide with one connector.

    `settings` are the server's; `source` and `topics` are more of the connector's.
    """

    def __init__(self, folder, sink, name, tables, *, settings=(), source=None, topics=None):
        self.folder = folder / f"{name}-{sink}"
        self.folder.mkdir()
        self.name = name
        self.postgres = Postgres(self.folder / "postgres", os.environ.get("PG", "18"),
                                 ["max_wal_size=16GB", *settings])
        self.psql = self.postgres.psql()
        self.kafka = Kafka(self.folder / "kafka") if sink == "kafka" else None
        if self.kafka:
            target = {"type": "kafka", "brokers": self.kafka.brokers, "topics": topics or {}}
        else:
            target = {"type": "jsonl", "dir": str(self.folder / "events")}
        section = connector(self.postgres.url_by("tcp"), "big", "big", tables, target)
        section["source"].update(source or {})
        self.rowtide = Rowtide(self.folder / "rowtide", name, section)

    def start(self):
        """Starts rowtide and waits until its slot stands."""
        self.rowtide.start()
        deadline = time.monotonic() + 60
        while self.rowtide.saved() is None:
            if not self.rowtide.is_running() or time.monotonic() > deadline:
                raise RuntimeError(f"rowtide did not start:\n{self.rowtide.tail()}")
            time.sleep(0.05)

    def end(self):
        """The end of the log so far; where nothing is left to deliver, the position passes it."""
        return lsn(self.psql.one("select pg_current_wal_insert_lsn()"))

    def finish(self, end, seconds):
        """Waits for the end of the load, then stops; gives the peak and the CPU time."""
        self.rowtide.wait_saved(end, seconds, poll=0.1)
        peak = memory_mb(self.rowtide.pid, "VmHWM")
        cpu = cpu_seconds(self.rowtide.pid)
        code = self.rowtide.stop()
        if code != 0:
            raise RuntimeError(f"rowtide ended with {code}:\n{self.rowtide.tail()}")
        return round(peak, 1), round(cpu, 2)

    def records(self):
        """What arrived."""
        if self.kafka:
            return collect.from_kafka(self.kafka, f"{self.name}.public.")
        return collect.from_jsonl(self.folder / "events", f"{self.name}.public.")

    def close(self):
        """Ends everything."""
        if self.rowtide.is_running():
            self.rowtide.kill()
        self.psql.close()
        self.postgres.stop()
        if self.kafka:
            self.kafka.stop()


def check_rows(records, rows):
    """The records of one transaction that one statement wrote, rows 1 to `rows`, against what it
    must be; gives figures, and what is wrong in words.
    """
    seen = bytearray(rows)
    repeats = last = disorder = 0
    for _, _, line in records:
        found = INDEX.match(line)
        index = int(found[1])
        # The raw index is the row's number: the statement wrote them in this order.
        if f'"after":{{"id":{index + 1},'.encode() not in line:
            disorder += 1
        disorder += index < last
        last = index
        repeats += seen[index]
        seen[index] = 1
    lost = rows - sum(seen)
    wrong = []
    if lost or repeats or disorder:
        wrong.append(f"{lost} lost, {repeats} repeated, {disorder} out of order")
    return {"events": rows, "lost": lost, "duplicates": repeats}, wrong


def check_peak(peak, wrong):
    """Adds a peak that is too high to what is wrong."""
    if peak > PEAK_MB:
        wrong.append(f"the peak is {peak} MB, {PEAK_MB} are allowed")
