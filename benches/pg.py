"""PostgreSQL end to end, side by side with pg_recvlogical in the same run. See README.md.

SIZE (1) scales the workloads, ROUNDS (2) the repetitions, CASES (all) chooses among
narrow single wide full unix validation cold_start idle, IDLE_SECONDS (60), PG (18).
Ends with one JSON line per case.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "proof"))

# pylint: disable=wrong-import-position
import small  # noqa: E402
from kit import ROOT, Kafka, Postgres, die, say  # noqa: E402
from measure import Bench, Contender  # noqa: E402
from workloads import all_workloads  # noqa: E402

CASES = ["narrow", "single", "wide", "full", "unix", "validation", "cold_start", "idle"]
SPREAD_MAX = 0.10
"""Rounds whose two limit runs differ by more say nothing: the machine was not quiet."""
EXTRA_ROUNDS = 3
"""How many discarded rounds are run again, for each group."""


def spread(values):
    """The largest over the smallest, less one."""
    return max(values) / min(values) - 1


class Group:
    """Contenders over one backlog, in turn and back again, between two runs of the limit."""

    def __init__(self, bench, backlog, label, contenders, limit):
        self.bench = bench
        self.backlog = backlog
        self.label = label
        self.contenders = contenders
        self.limit = limit
        self.rounds = []
        self.discarded = 0
        self.noisy = 0

    def measure(self, rounds):
        """Rounds until there are enough quiet ones; a noisy machine is said and counted."""
        noisy = []
        for _ in range(rounds + EXTRA_ROUNDS):
            if len(self.rounds) == rounds:
                break
            done = self._round()
            walls = [run.wall for run in done[self.limit]]
            if spread(walls) > SPREAD_MAX:
                say(f"  discarded: the limit took {walls[0]:.2f} and {walls[1]:.2f} s")
                self.discarded += 1
                noisy.append(done)
            else:
                self.rounds.append(done)
        if len(self.rounds) < rounds:
            say(f"  {self.label}: never quiet enough; discarded rounds are counted after all")
            counted = noisy[: rounds - len(self.rounds)]
            self.noisy = len(counted)
            self.discarded -= self.noisy
            self.rounds.extend(counted)

    def _round(self):
        order = [self.limit, *self.contenders, *reversed(self.contenders), self.limit]
        done = {contender: [] for contender in order}
        for contender in order:
            run = self.bench.run(self.backlog, contender)
            done[contender].append(run)
            say(f"  {self.label:<8} {name(contender):<22} {run.wall:6.2f} s"
                f"  own CPU {run.cpu:5.2f} s  walsender {run.server_cpu:5.2f} s"
                f"  peak {run.peak_rss:5.1f} MB")
        return done

    def runs(self, contender):
        """All runs of one contender."""
        return [run for done in self.rounds for run in done[contender]]

    def ratios(self, contender):
        """Of each round: the limit's time over the contender's."""
        return [
            sum(run.wall for run in done[self.limit]) / sum(run.wall for run in done[contender])
            for done in self.rounds
        ]

    def line(self, contender):
        """The JSON of a case."""
        runs = self.runs(contender)
        millions = self.backlog.workload.events / 1e6
        ratios = self.ratios(contender)
        limit = self.runs(self.limit)
        return {
            "bench": "pg", "workload": self.label, "sink": contender.sink, "headers": "none",
            "transport": contender.transport, "validation": contender.validation,
            "ratio_to_limit": round(statistics.median(ratios), 3),
            "ratio_min": round(min(ratios), 3), "ratio_max": round(max(ratios), 3),
            "events_per_s": round(millions * 1e6 / median(runs, "wall")),
            "limit_events_per_s": round(millions * 1e6 / median(limit, "wall")),
            "cpu_s_per_m": round(median(runs, "cpu") / millions, 3),
            "limit_cpu_s_per_m": round(median(limit, "cpu") / millions, 3),
            "walsender_cpu_s_per_m": round(median(runs, "server_cpu") / millions, 3),
            "peak_rss_mb": round(max(run.peak_rss for run in runs), 1),
            "runs": len(runs), "discarded_rounds": self.discarded, "noisy_rounds": self.noisy,
        }


def median(runs, field):
    """The median of a field."""
    return statistics.median(getattr(run, field) for run in runs)


def name(contender):
    """For the table."""
    if contender.sink is None:
        return "pg_recvlogical"
    off = "" if contender.validation == "always" else f" {contender.validation}"
    return f"rowtide {contender.sink}{off}"


def throughput(bench, workload, cases, rounds):
    """The groups of one workload; gives the JSON lines."""
    lines = []
    say(f"{workload.name}: loading {workload.events} events")
    backlog = bench.load(workload)
    label = "full" if workload.name == "full_rows" else workload.name
    sinks = [Contender(sink) for sink in ("discard", "jsonl", "kafka")]
    if label in cases:
        # The broker's and the server's caches are warm, and the broker's code compiled, for all.
        bench.run(backlog, Contender("kafka"))
        group = Group(bench, backlog, label, sinks, Contender(None))
        group.measure(rounds)
        lines += [group.line(contender) for contender in sinks]
    if label == "narrow" and "unix" in cases:
        own = Contender("discard", "unix")
        group = Group(bench, backlog, label, [own], Contender(None, "unix"))
        group.measure(rounds)
        lines.append(group.line(own))
    if label in ("narrow", "wide") and "validation" in cases:
        lines.append(validation(bench, backlog, label, rounds))
    bench.drop(backlog)
    return lines


def validation(bench, backlog, label, rounds):
    """What validation costs: own CPU with it over own CPU without, same sink, same backlog."""
    on, off = Contender("discard"), Contender("discard", validation="off")
    group = Group(bench, backlog, label, [on, off], Contender(None))
    group.measure(rounds)
    always, never = median(group.runs(on), "cpu"), median(group.runs(off), "cpu")
    millions = backlog.workload.events / 1e6
    return {
        "bench": "pg", "workload": "validation_overhead", "of": label, "sink": "discard",
        "cpu_s_per_m_always": round(always / millions, 3),
        "cpu_s_per_m_off": round(never / millions, 3),
        "overhead": round(always / never - 1, 3),
    }


def machine():
    """Where and what: a figure without it says nothing."""
    def output(*command):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
        return done.stdout.strip()

    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    memory = Path("/proc/meminfo").read_text().split()[1]
    changed = " with changes" if output("git", "status", "--porcelain", "-uno") else ""
    return {
        "bench": "pg", "workload": "machine", "cpu": cpu[0].split(":")[1].strip() if cpu else "?",
        "cores": os.cpu_count(), "memory_gb": round(int(memory) / 2**20, 1),
        "system": " ".join(os.uname()[i] for i in (0, 2, 4)),
        "load_average": round(os.getloadavg()[0], 2),
        "rowtide": output(os.environ["ROWTIDE"], "--version"),
        "commit": output("git", "rev-parse", "--short", "HEAD") + changed,
        "rustc": output("rustc", "--version"),
    }


def table(lines):
    """The throughput lines for people."""
    say(f"\n{'workload':<9}{'via':<6}{'sink':<9}{'ratio':>7}{'(min–max)':>14}{'events/s':>10}"
        f"{'limit/s':>10}{'CPU s/M':>9}{'limit':>7}{'server':>8}{'peak MB':>9}")
    for line in lines:
        if "ratio_to_limit" in line:
            span = f"{line['ratio_min']:.2f}–{line['ratio_max']:.2f}"
            say(f"{line['workload']:<9}{line['transport']:<6}{line['sink']:<9}"
                f"{line['ratio_to_limit']:>7.3f}{span:>14}{line['events_per_s']:>10}"
                f"{line['limit_events_per_s']:>10}{line['cpu_s_per_m']:>9.2f}"
                f"{line['limit_cpu_s_per_m']:>7.2f}{line['walsender_cpu_s_per_m']:>8.2f}"
                f"{line['peak_rss_mb']:>9.1f}")
    say("")


def main():
    """Runs the cases."""
    cases = os.environ.get("CASES", "").replace(",", " ").split() or CASES
    unknown = set(cases) - set(CASES)
    if unknown:
        die(f"no such case: {' '.join(sorted(unknown))}; there are {' '.join(CASES)}")
    rounds = int(os.environ.get("ROUNDS", "2"))
    facts = machine()
    lines = []
    with tempfile.TemporaryDirectory(prefix="rowtide-bench.") as scratch:
        folder = Path(scratch)
        postgres = Postgres(
            folder / "postgres", os.environ.get("PG", "18"),
            ["max_wal_size=32GB", "checkpoint_timeout=1h", "shared_buffers=256MB",
             "autovacuum=off"],
        )
        kafka = Kafka(folder / "kafka")
        try:
            bench = Bench(postgres, kafka, folder)
            facts["server"] = bench.psql.one("select split_part(version(), ' on ', 1)")
            facts["broker"] = small.kafka_version()
            for label, workload in all_workloads(float(os.environ.get("SIZE", "1"))).items():
                extra = {"narrow": {"unix", "validation"}, "wide": {"validation"}}.get(label, set())
                if (extra | {label}) & set(cases):
                    lines += throughput(bench, workload, cases, rounds)
            if "cold_start" in cases:
                lines.append(small.cold_start(bench))
            if "idle" in cases:
                lines.append(small.idle(bench, float(os.environ.get("IDLE_SECONDS", "60"))))
        finally:
            postgres.stop()
            kafka.stop()
    table(lines)
    for line in [facts, *lines]:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
