"""SIGKILL at random times under load, again and again: nothing lost, nothing invented, order kept,
duplicates only from the in-flight window.

    kill_loop.py SINK…   SINK is jsonl or kafka

ROUNDS (200), SEED (of the time), WRITERS (4), PAUSE seconds between a writer's transactions (0.02),
BIG rows of a large transaction (20000), DB postgres (the default, of version PG, 18), mysql or mariadb;
KEEP a folder for rowtide's log and the saved positions of runs with violations.
--plant NAME   puts a fault into what arrived; the run must then fail (exit code 1)
--self-test    after the checks, plants every fault in turn and demands that each is seen
Ends with one JSON line per sink. Exit code 1: a violation; 2: the harness itself failed.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import collect
import databases
import plants
import verdict
import workload
from kit import Kafka, Rowtide, die, say

NAME = "proof"
MEMORY = 32 << 20
COMMIT_INTERVAL_S = 0.25
SLACK_S = 1.0
SHORTEST_S, LONGEST_S = 0.05, 1.5


def number(name, default):
    """A number from the environment."""
    return type(default)(os.environ.get(name, default))


class Run:
    """Servers, load and rowtide for one sink."""

    def __init__(self, sink, folder, seed):
        self.sink = sink
        self.folder = folder
        self.seed = seed
        self.random = random.Random(f"{seed}/{sink}")
        self.database = databases.chosen()(folder)
        self.database.sql.prepare(self.database.client, number("BIG", 20_000))
        self.kafka = Kafka(folder / "kafka") if sink == "kafka" else None
        section = self.database.connector(NAME, self.target())
        self.rowtide = Rowtide(folder / "rowtide", NAME, section)
        self.saved = []
        self.progressed = 0
        self.violations = []

    def target(self):
        """The sink's section."""
        if self.kafka:
            return {
                "type": "kafka", "brokers": self.kafka.brokers, "topics": {"partitions": 3},
            }
        # Small files, so that kills meet rotation too.
        return {"type": "jsonl", "dir": str(self.folder / "events"), "rotate": {"bytes": "4MiB"}}

    def first_start(self):
        """The slot and its first position, before any load."""
        self.rowtide.start()
        began = time.monotonic()
        while self.rowtide.saved() is None:
            if not self.rowtide.is_running() or time.monotonic() - began > 60:
                die(f"rowtide saved no first position:\n{self.rowtide.tail()}")
            time.sleep(0.05)
        self.rowtide.kill()
        self.saved.append(self.rowtide.saved())

    def round(self, index, rounds):
        """One life of the process."""
        life = self.random.uniform(SHORTEST_S, LONGEST_S)
        self.rowtide.start()
        time.sleep(life)
        if not self.rowtide.is_running():
            self.violations.append(f"round {index}: rowtide ended by itself")
            say(self.rowtide.tail())
        self.rowtide.kill()
        saved, before = self.rowtide.saved(), self.saved[-1]
        confirmed = self.database.told()
        if not confirmed <= saved.confirm or saved.confirm < before.confirm:
            self.violations.append(
                f"round {index}: the server has {confirmed}, {saved} is saved, before {before}"
            )
        self.progressed += saved != before
        self.saved.append(saved)
        where = f" and {saved.next_index} changes" if saved.commit else ""
        moved = self.database.moved(before.confirm, saved.confirm)
        say(f"{self.sink} {index}/{rounds}: killed after {life:.2f} s, {moved}{where}")

    def drain(self):
        """The last life: everything arrives, then an orderly end."""
        end = self.database.end()
        self.rowtide.start()
        self.rowtide.wait_saved(end, 300, poll=0.1)
        code = self.rowtide.stop()
        if code != 0:
            self.violations.append(f"the orderly end had exit code {code}")

    def records(self):
        """What arrived."""
        if self.kafka:
            return collect.from_kafka(self.kafka, f"{NAME}.{self.database.topics}")
        return collect.from_jsonl(self.folder / "events", f"{NAME}.{self.database.topics}")

    def restarts(self):
        """How often a connector of a living process began again by itself."""
        return sum("restarts from its saved position" in record.get("message", "")
                   for record in self.rowtide.records())

    def limits(self):
        """What may come again."""
        if self.sink == "jsonl":
            return verdict.Limits(saved=[], bytes=0, span_s=0)
        return verdict.Limits(self.saved, MEMORY, COMMIT_INTERVAL_S + SLACK_S)

    def close(self):
        """Ends everything."""
        if self.rowtide.is_running():
            self.rowtide.kill()
        self.database.close()
        if self.kafka:
            self.kafka.stop()


def self_test(records, ledger, tables, limits):
    """Every planted fault must be seen; gives the names of those that were not."""
    missed = []
    for name, plant in plants.PLANTS.items():
        tampered = list(records)
        plant(tampered)
        report = verdict.check(tampered, ledger, tables, limits)
        is_seen = bool(plants.EXPECTED[name] & report.wrong.keys())
        say(f"  planted {name}: {'seen' if is_seen else 'NOT SEEN'} ({', '.join(report.wrong)})")
        if not is_seen:
            missed.append(name)
    return missed


def prove(sink, folder, seed, options):
    """The whole proof for one sink; gives whether it holds."""
    rounds = number("ROUNDS", 200)
    run = Run(sink, folder, seed)
    try:
        run.first_start()
        load = workload.Load(
            run.database.sql, run.database.server, seed, folder, number("WRITERS", 4),
            number("PAUSE", 0.02), number("BIG", 20_000),
        )
        for index in range(1, rounds + 1):
            load.check()
            run.round(index, rounds)
        transactions = load.stop()
        run.drain()
        ledger, tables = workload.truth(run.database.sql, run.database.client)
        limits = run.limits()
        records = run.records()
        if options.plant or options.self_test:
            records = list(records)
        if options.plant:
            plants.PLANTS[options.plant](records)
        report = verdict.check(records, ledger, tables, limits)
        for text in run.violations:
            report.add("process", text)
        missed = self_test(records, ledger, tables, limits) if options.self_test else []
    finally:
        run.close()
    for line in report.lines():
        say(line)
    if report.wrong and os.environ.get("KEEP"):
        to = Path(os.environ["KEEP"]) / f"kill.{seed}.{sink}"
        to.mkdir(parents=True, exist_ok=True)
        shutil.copy(run.rowtide.log, to)
        (to / "saved.txt").write_text("\n".join(map(str, run.saved)))
        say(f"kept in {to}")
    rewinds = report.rewinds
    say(json.dumps({
        "proof": "kill", "db": os.environ.get("DB") or "postgres", "sink": sink, "rounds": rounds,
        "rounds_with_progress": run.progressed,
        "transactions": transactions, "events": report.events,
        "lost": report.count("lost"), "invented": report.count("invented"),
        "duplicates": report.duplicates, "order_violations": report.count("order_violations"),
        "other_violations": sum(
            len(found) for kind, found in report.wrong.items()
            if kind not in ("lost", "invented", "order_violations")
        ),
        "restarts_unasked": run.restarts(), "rewinds": len(rewinds),
        "largest_rewind_events": max((rewind.events for rewind in rewinds), default=0),
        "largest_rewind_bytes": max((rewind.bytes for rewind in rewinds), default=0),
        "largest_rewind_s": round(max((rewind.span_us for rewind in rewinds), default=0) / 1e6, 3),
        "seed": seed,
    }))
    if missed:
        say(f"the checks do not see: {', '.join(missed)}")
    if report.wrong:
        chosen = f"DB={os.environ.get('DB') or 'postgres'} SEED={seed} ROUNDS={rounds}"
        say(f"violations; replay with: {chosen} {sys.argv[0]} {sink}")
    return not report.wrong and not missed


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("sinks", nargs="*", default=["kafka", "jsonl"])
    parser.add_argument("--plant", choices=sorted(plants.PLANTS))
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    seed = number("SEED", int(time.time()))
    holds = True
    for sink in options.sinks:
        with tempfile.TemporaryDirectory(prefix="rowtide-proof.") as folder:
            say(f"kill loop into {sink}, seed {seed}")
            try:
                holds &= prove(sink, Path(folder), seed, options)
            except RuntimeError as error:
                die(f"the kill loop itself failed (SEED={seed}): {error}")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
