"""Loads that are too large or a broker that is gone: everything arrives, and memory stays bounded.

    big.py CASE…   value transaction outage freeze; all of them by default

value        a text of 10 MB, in a create, an update and beside small rows, into both sinks
transaction  ROWS (5000000) rows in one transaction, into both sinks
outage       the broker is killed for OUTAGE seconds (60) under load, and started again
freeze       the broker is stopped by SIGSTOP for OUTAGE seconds under load
Peak resident memory must stay within 64 MB at default settings; a value of 10 MB may add three
times its size. Ends with one JSON line per case.
Exit code 1: a violation; 2: the harness itself failed.
"""

import hashlib
import json
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

import collect
import verdict
import workload
from kit import Kafka, Postgres, Rowtide, connector, cpu_seconds, die, lsn, memory_mb, say

PEAK_MB = 64
VALUE_BYTES = 10_000_000
INDEX = re.compile(rb'^\{"v":"[0-9.]+","id":"[^":]+:[0-9A-F]+/[0-9A-F]+:(\d+)"')


class Setup:
    """A server, perhaps a broker, and rowtide with one connector."""

    def __init__(self, folder, sink, name, tables, settings=()):
        self.folder = folder / f"{name}-{sink}"
        self.folder.mkdir()
        self.name = name
        self.postgres = Postgres(self.folder / "postgres", os.environ.get("PG", "18"),
                                 ["max_wal_size=16GB", *settings])
        self.psql = self.postgres.psql()
        self.kafka = Kafka(self.folder / "kafka") if sink == "kafka" else None
        if self.kafka:
            target = {"type": "kafka", "brokers": self.kafka.brokers}
        else:
            target = {"type": "jsonl", "dir": str(self.folder / "events")}
        self.rowtide = Rowtide(self.folder / "rowtide", name, connector(
            self.postgres.url_by("tcp"), "big", "big", tables, target,
        ))

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


def value(folder, sink):
    """A text of 10 MB."""
    setup = Setup(folder, sink, "value", ["public.texts"])
    try:
        setup.psql.run(
            "create table texts (id int primary key, body text, note text);"
            "alter table texts alter column body set storage external;"
        )
        setup.start()
        text = (
            "(select string_agg(md5(({})::text || g), '')"
            f" from generate_series(1, {VALUE_BYTES // 32}) g)"
        )
        setup.psql.run(
            "insert into texts select g, 'small', 'before' from generate_series(1, 1000) g;"
            f"insert into texts values (2001, {text.format(1)}, 'big');"
            f"update texts set body = {text.format(2)}, note = 'changed' where id = 2001;"
            "update texts set note = 'body not sent' where id = 2001;"
            f"insert into texts values (2002, {text.format(3)}, 'big'),"
            f" (2003, {text.format(4)}, 'big');"
            "insert into texts select g, 'small', 'after' from generate_series(3001, 4000) g;"
        )
        end = setup.end()
        peak, _ = setup.finish(end, 120)
        wrong = []
        got, events = {}, 0
        for _, _, line in setup.records():
            events += 1
            after = json.loads(line)["after"]
            if "body" in after:
                got[after["id"]] = hashlib.md5(after["body"].encode()).hexdigest()
        rows = setup.psql.run("select id || '|' || md5(body) from texts;")
        wanted = {int(row.split("|")[0]): row.split("|")[1] for row in rows}
        if got != wanted:
            wrong.append(f"{len(wanted.items() - got.items())} values are lost or not the same")
        if events != 2005:
            wrong.append(f"{events} events instead of 2005")
    finally:
        setup.close()
    allowed = PEAK_MB + 3 * VALUE_BYTES / 2**20
    if peak > allowed:
        wrong.append(f"the peak is {peak} MB, {allowed:.0f} are allowed")
    return {"events": events, "lost": len(wanted.items() - got.items()), "peak_rss_mb": peak,
            "allowed_mb": round(allowed)}, wrong


def transaction(folder, sink):
    """One transaction of very many rows."""
    rows = int(os.environ.get("ROWS", "5000000"))
    setup = Setup(folder, sink, "transaction", ["public.many"])
    try:
        setup.psql.run("create table many (id bigint primary key, note text, amount numeric);")
        setup.start()
        began = time.monotonic()
        setup.psql.run("insert into many select g, 'row number ' || g, g / 100.0"
                       f" from generate_series(1, {rows}) g;")
        end = setup.end()
        written = time.monotonic()
        peak, cpu = setup.finish(end, 1800)
        drained = time.monotonic()
        say(f"  written in {written - began:.0f} s, drained {drained - written:.0f} s later")
        seen = bytearray(rows)
        repeats = last = 0
        disorder = 0
        for _, _, line in setup.records():
            found = INDEX.match(line)
            index = int(found[1])
            # The raw index is the row's number: one statement wrote them in this order.
            if f'"after":{{"id":{index + 1},'.encode() not in line:
                disorder += 1
            disorder += index < last
            last = index
            repeats += seen[index]
            seen[index] = 1
        lost = rows - sum(seen)
    finally:
        setup.close()
    wrong = []
    if lost or repeats or disorder:
        wrong.append(f"{lost} lost, {repeats} repeated, {disorder} out of order")
    if peak > PEAK_MB:
        wrong.append(f"the peak is {peak} MB, {PEAK_MB} are allowed")
    return {"events": rows, "lost": lost, "duplicates": repeats, "peak_rss_mb": peak,
            "cpu_s_per_m": round(cpu / rows * 1e6, 2), "seconds": round(drained - began, 1)}, wrong


def _interrupt(setup, is_freeze, seconds):
    if is_freeze:
        os.kill(setup.kafka.pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(setup.kafka.pid, signal.SIGCONT)
        return
    setup.kafka.command("halt", "--crash")
    time.sleep(seconds)
    setup.kafka.command("resume")


def gone(folder, is_freeze):
    """The broker is gone for a while under load."""
    seconds = float(os.environ.get("OUTAGE", "60"))
    name = "freeze" if is_freeze else "outage"
    seed = int(os.environ.get("SEED", time.time()))
    setup = Setup(folder, "kafka", name, workload.CAPTURED, ["deadlock_timeout=20ms"])
    try:
        setup.psql.run(workload.SCHEMA)
        setup.start()
        load = workload.Load(setup.postgres, seed, setup.folder, writers=4, pause=0.005)
        time.sleep(5)
        say(f"  the broker is gone for {seconds:.0f} s…")
        _interrupt(setup, is_freeze, seconds)
        back = time.monotonic()
        time.sleep(5)
        load.check()
        transactions = load.stop()
        end = setup.end()
        peak, _ = setup.finish(end, 300)
        caught_up = time.monotonic() - back
        ledger, tables = workload.truth(setup.psql)
        restarts = sum("restart" in json.dumps(line).lower() for line in setup.rowtide.records())
        report = verdict.check(
            setup.records(), ledger, tables,
            # A frozen broker may have kept what it never acknowledged; a replay begins anywhere.
            verdict.Limits([], 32 << 20, seconds + 10, is_anywhere=True),
        )
    finally:
        setup.close()
    wrong = list(report.lines())
    if peak > PEAK_MB:
        wrong.append(f"the peak is {peak} MB, {PEAK_MB} are allowed")
    return {
        "seconds": seconds, "transactions": transactions, "events": report.events,
        "lost": report.count("lost"), "invented": report.count("invented"),
        "duplicates": report.duplicates, "order_violations": report.count("order_violations"),
        "restarts": restarts, "caught_up_s": round(caught_up, 1), "peak_rss_mb": peak,
        "seed": seed,
    }, wrong


CASES = {
    "value": [(sink, lambda folder, sink=sink: value(folder, sink)) for sink in ("jsonl", "kafka")],
    "transaction": [
        (sink, lambda folder, sink=sink: transaction(folder, sink)) for sink in ("jsonl", "kafka")
    ],
    "outage": [("kafka", lambda folder: gone(folder, False))],
    "freeze": [("kafka", lambda folder: gone(folder, True))],
}


def main():
    """Runs the cases."""
    chosen = sys.argv[1:] or list(CASES)
    unknown = set(chosen) - set(CASES)
    if unknown:
        die(f"no such case: {' '.join(unknown)}; there are {' '.join(CASES)}")
    lines, holds = [], True
    for name in chosen:
        for sink, case in CASES[name]:
            say(f"{name} into {sink}")
            with tempfile.TemporaryDirectory(prefix="rowtide-proof.") as folder:
                try:
                    figures, wrong = case(Path(folder))
                except RuntimeError as error:
                    die(f"{name} itself failed: {error}")
            for text in wrong:
                say(f"  VIOLATION {text}")
            holds &= not wrong
            lines.append({"proof": name, "sink": sink, **figures, "holds": not wrong})
    for line in lines:
        print(json.dumps(line), flush=True)
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
