"""PostgreSQL end to end, side by side with pg_recvlogical in the same run. See README.md.

SIZE (1) scales the workloads, ROUNDS (2) the repetitions, CASES (all) chooses among
narrow single wide full toast toast_bytea unix validation cold_start idle, MODES those of Rowtide
beside its defaults ("" for none), IDLE_SECONDS (60), PG (18).
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
from measure import Bench, Contender, Mode  # noqa: E402
from workloads import all_workloads  # noqa: E402

CASES = ["narrow", "single", "wide", "full", "toast", "toast_bytea", "unix", "validation",
         "cold_start", "idle"]
LIMITS = ["plain", "binary", "streaming", "binary+streaming", "1GB", "binary+1GB"]
"""How pg_recvlogical can be served; the first is the limit that noise is seen by."""
MODES = ["binary", "streaming", "binary+1GB"]
"""Of Rowtide, beside its defaults."""
SPREAD_MAX = 0.10
"""Rounds whose two limit runs differ by more say nothing: the machine was not quiet."""
EXTRA_ROUNDS = 3
"""How many discarded rounds are run again, for each group."""


def spread(values):
    """The largest over the smallest, less one."""
    return max(values) / min(values) - 1


def modes_of(workload, names):
    """Of these modes, those that make a difference for the workload."""
    modes = [Mode.named(mode) for mode in names]
    return [mode for mode in modes if workload.is_large or not (mode.streaming or mode.work_mem)]


class Group:
    """Contenders over one backlog, in turn and back again, between two runs of each limit."""

    def __init__(self, bench, backlog, label, contenders, limits):
        self.bench = bench
        self.backlog = backlog
        self.label = label
        self.contenders = contenders
        self.limits = limits
        self.limit = limits[0]
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
        order = [*self.limits, *self.contenders]
        done = {contender: [] for contender in order}
        for contender in [*order, *reversed(self.contenders), *reversed(self.limits)]:
            run = self.bench.run(self.backlog, contender)
            done[contender].append(run)
            say(f"  {self.label:<11} {name(contender):<32} {run.wall:6.2f} s"
                f"  own CPU {run.cpu:5.2f} s  walsender {run.server_cpu:5.2f} s"
                f"  peak {run.peak_rss:5.1f} MB")
        return done

    def best(self):
        """The fastest of the limits."""
        return min(self.limits, key=lambda limit: median(self.runs(limit), "wall"))

    def runs(self, contender):
        """All runs of one contender."""
        return [run for done in self.rounds for run in done[contender]]

    def ratios(self, contender, limit):
        """Of each round: the limit's time over the contender's."""
        return [
            sum(run.wall for run in done[limit]) / sum(run.wall for run in done[contender])
            for done in self.rounds
        ]

    def _speed(self, runs, prefix=""):
        """Events in a second, and MB of large values."""
        workload, wall = self.backlog.workload, median(runs, "wall")
        speed = {f"{prefix}events_per_s": round(workload.events / wall)}
        if workload.bytes:
            speed[f"{prefix}mb_per_s"] = round(workload.bytes / 2**20 / wall)
        return speed

    def line(self, contender):
        """The JSON of a case."""
        runs = self.runs(contender)
        millions = self.backlog.workload.events / 1e6
        best = self.best()
        ratios, to_best = self.ratios(contender, self.limit), self.ratios(contender, best)
        limit = self.runs(self.limit)
        return {
            "bench": "pg", "workload": self.label, "sink": contender.sink, "headers": "none",
            "transport": contender.transport, "validation": contender.validation,
            "mode": str(contender.mode),
            "ratio_to_limit": round(statistics.median(ratios), 3),
            "ratio_min": round(min(ratios), 3), "ratio_max": round(max(ratios), 3),
            "best_limit": str(best.mode),
            "ratio_to_best": round(statistics.median(to_best), 3),
            "ratio_to_best_min": round(min(to_best), 3),
            "ratio_to_best_max": round(max(to_best), 3),
            **self._speed(runs), **self._speed(limit, "limit_"),
            **self._speed(self.runs(best), "best_limit_"),
            "cpu_s_per_m": round(median(runs, "cpu") / millions, 3),
            "limit_cpu_s_per_m": round(median(limit, "cpu") / millions, 3),
            "walsender_cpu_s_per_m": round(median(runs, "server_cpu") / millions, 3),
            "peak_rss_mb": round(max(run.peak_rss for run in runs), 1),
            "runs": len(runs), "discarded_rounds": self.discarded, "noisy_rounds": self.noisy,
        }

    def limit_line(self, limit):
        """The JSON of a limit."""
        runs = self.runs(limit)
        millions = self.backlog.workload.events / 1e6
        ratios = self.ratios(limit, self.limit)
        return {
            "bench": "pg", "workload": self.label, "limit": "pg_recvlogical",
            "transport": limit.transport, "mode": str(limit.mode),
            "ratio_to_plain": round(statistics.median(ratios), 3),
            "ratio_min": round(min(ratios), 3), "ratio_max": round(max(ratios), 3),
            **self._speed(runs),
            "cpu_s_per_m": round(median(runs, "cpu") / millions, 3),
            "walsender_cpu_s_per_m": round(median(runs, "server_cpu") / millions, 3),
            "runs": len(runs), "discarded_rounds": self.discarded, "noisy_rounds": self.noisy,
        }

    def lines(self):
        """The JSON of all, the limits first."""
        limits = [self.limit_line(limit) for limit in self.limits]
        return limits + [self.line(contender) for contender in self.contenders]


def median(runs, field):
    """The median of a field."""
    return statistics.median(getattr(run, field) for run in runs)


def name(contender):
    """For the table."""
    mode = "" if contender.mode == Mode() else f" {contender.mode}"
    if contender.sink is None:
        return f"pg_recvlogical{mode}"
    off = "" if contender.validation == "always" else f" {contender.validation}"
    return f"rowtide {contender.sink}{mode}{off}"


def throughput(bench, workload, cases, rounds):
    """The groups of one workload; gives the JSON lines."""
    lines = []
    say(f"{workload.name}: loading {workload.events} events")
    backlog = bench.load(workload)
    label = "full" if workload.name == "full_rows" else workload.name
    limits = [Contender(None, mode=mode) for mode in modes_of(workload, LIMITS)]
    if label in cases:
        # The broker's and the server's caches are warm, and the broker's code compiled, for all.
        bench.run(backlog, Contender("kafka"))
        contenders = [Contender(sink) for sink in ("discard", "jsonl", "kafka")]
        chosen = os.environ.get("MODES", " ".join(MODES)).replace(",", " ").split()
        for mode in modes_of(workload, chosen):
            contenders += [Contender("discard", mode=mode), Contender("kafka", mode=mode)]
        group = Group(bench, backlog, label, contenders, limits)
        group.measure(rounds)
        lines += group.lines()
    if label == "narrow" and "unix" in cases:
        contenders = [Contender("discard", "unix"), Contender("kafka", "unix")]
        group = Group(bench, backlog, label, contenders, [Contender(None, "unix")])
        group.measure(rounds)
        lines += group.lines()
    if label in ("narrow", "wide") and "validation" in cases:
        lines.append(validation(bench, backlog, label, rounds))
    bench.drop(backlog)
    return lines


def validation(bench, backlog, label, rounds):
    """What validation costs: own CPU with it over own CPU without, same sink, same backlog."""
    on, off = Contender("discard"), Contender("discard", validation="off")
    group = Group(bench, backlog, label, [on, off], [Contender(None)])
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
    say(f"\n{'workload':<12}{'via':<6}{'who':<16}{'mode':<18}{'ratio':>7}{'(min–max)':>12}"
        f"{'of best':>9}{'(min–max)':>12}{'events/s':>10}{'MB/s':>6}{'CPU s/M':>9}{'server':>8}"
        f"{'peak MB':>9}")
    for line in lines:
        if "limit" in line:
            ratio, of_best, who, peak = line["ratio_to_plain"], f"{'':>21}", line["limit"], ""
        elif "ratio_to_limit" in line:
            span = f"{line['ratio_to_best_min']:.2f}–{line['ratio_to_best_max']:.2f}"
            ratio, of_best = line["ratio_to_limit"], f"{line['ratio_to_best']:>9.3f}{span:>12}"
            who, peak = line["sink"], f"{line['peak_rss_mb']:.1f}"
        else:
            continue
        span = f"{line['ratio_min']:.2f}–{line['ratio_max']:.2f}"
        say(f"{line['workload']:<12}{line['transport']:<6}{who:<16}{line['mode']:<18}"
            f"{ratio:>7.3f}{span:>12}{of_best}{line['events_per_s']:>10}"
            f"{line.get('mb_per_s', ''):>6}{line['cpu_s_per_m']:>9.2f}"
            f"{line['walsender_cpu_s_per_m']:>8.2f}{peak:>9}")
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
        # Large values fill the disk soon: what was delivered and counted may go.
        kafka = Kafka(folder / "kafka", [
            "log.retention.bytes=268435456", "log.segment.bytes=134217728",
            "log.retention.check.interval.ms=10000",
        ])
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
