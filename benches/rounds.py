"""What the benchmarks share: rounds that go there and back, their figures, and who is measured where."""

import json
import os
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

from kit import ROOT, Kafka, die, say
from measure import PRODUCER

SPREAD_MAX = 0.10
"""Rounds whose two limit runs differ by more say nothing: the machine was not quiet."""
EXTRA_ROUNDS = 3
"""How many discarded rounds are run again, for each group."""


def spread(values):
    """The largest over the smallest, less one."""
    return max(values) / min(values) - 1


def median(runs, field):
    """The median of a field."""
    return statistics.median(getattr(run, field) for run in runs)


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
        return self

    def _round(self):
        order = [*self.limits, *self.contenders]
        done = {contender: [] for contender in order}
        for contender in [*order, *reversed(self.contenders), *reversed(self.limits)]:
            run = self.bench.run(self.backlog, contender)
            done[contender].append(run)
            say(f"  {self.label:<11} {self._title(contender):<32} {run.wall:6.2f} s"
                f"  own CPU {run.cpu:5.2f} s  {self.bench.sender} {run.server_cpu:5.2f} s"
                f"  peak {run.peak_rss:5.1f} MB")
        return done

    def _title(self, contender):
        """For the progress."""
        mode = "" if contender.mode == "plain" else f" {contender.mode}"
        if contender.sink is None:
            return f"{self.bench.limit}{mode}"
        if contender.sink == PRODUCER:
            return f"{PRODUCER}, the same records"
        off = "" if contender.validation == "always" else f" {contender.validation}"
        return f"rowtide {contender.sink}{mode}{off}"

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

    def per_million(self, runs, field):
        """The median of a field, for a million events."""
        return round(median(runs, field) * 1e6 / self.backlog.workload.events, 3)

    def _speed(self, runs, prefix=""):
        """Events in a second, and MB of large values."""
        workload, wall = self.backlog.workload, median(runs, "wall")
        speed = {f"{prefix}events_per_s": round(workload.events / wall)}
        if workload.bytes:
            speed[f"{prefix}mb_per_s"] = round(workload.bytes / 2**20 / wall)
        return speed

    def _sender(self, runs):
        return {f"{self.bench.sender}_cpu_s_per_m": self.per_million(runs, "server_cpu")}

    def _counts(self, runs):
        return {"runs": len(runs), "discarded_rounds": self.discarded, "noisy_rounds": self.noisy}

    def line(self, contender):
        """The JSON of a case."""
        runs, limit, best = self.runs(contender), self.runs(self.limit), self.best()
        return {
            **self.bench.names, "workload": self.label, "sink": contender.sink, "headers": "none",
            "transport": contender.transport, "validation": contender.validation,
            "mode": contender.mode,
            **of_rounds(self.ratios(contender, self.limit), "ratio_to_limit", "ratio"),
            "best_limit": best.mode,
            **of_rounds(self.ratios(contender, best), "ratio_to_best", "ratio_to_best"),
            **self._speed(runs), **self._speed(limit, "limit_"),
            **self._speed(self.runs(best), "best_limit_"),
            "cpu_s_per_m": self.per_million(runs, "cpu"),
            "limit_cpu_s_per_m": self.per_million(limit, "cpu"),
            **self._sender(runs),
            "peak_rss_mb": round(max(run.peak_rss for run in runs), 1),
            **self._counts(runs),
        }

    def limit_line(self, limit):
        """The JSON of a limit."""
        runs = self.runs(limit)
        return {
            **self.bench.names, "workload": self.label, "limit": self.bench.limit,
            "transport": limit.transport, "mode": limit.mode,
            **of_rounds(self.ratios(limit, self.limit), "ratio_to_plain", "ratio"),
            **self._speed(runs),
            "cpu_s_per_m": self.per_million(runs, "cpu"),
            **self._sender(runs),
            **self._counts(runs),
        }

    def producer_line(self, producer):
        """The JSON of who only writes."""
        runs = self.runs(producer)
        return {
            **self.bench.names, "workload": self.label, "producer": producer.sink,
            "headers": "none", "transport": producer.transport,
            **self._speed(runs),
            "cpu_s_per_m": self.per_million(runs, "cpu"),
            "peak_rss_mb": round(max(run.peak_rss for run in runs), 1),
            **self._counts(runs),
        }

    def lines(self):
        """The JSON of all, the limits first."""
        limits = [self.limit_line(limit) for limit in self.limits]
        return limits + [
            self.producer_line(contender) if contender.sink == PRODUCER else self.line(contender)
            for contender in self.contenders
        ]


def of_rounds(values, name, prefix):
    """The median over the rounds, the smallest and the largest."""
    return {name: round(statistics.median(values), 3),
            f"{prefix}_min": round(min(values), 3), f"{prefix}_max": round(max(values), 3)}


def machine(name):
    """Where and what: a figure without it says nothing."""
    def output(*command):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
        return done.stdout.strip()

    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    memory = Path("/proc/meminfo").read_text().split()[1]
    changed = " with changes" if output("git", "status", "--porcelain", "-uno") else ""
    return {
        "bench": name, "workload": "machine", "cpu": cpu[0].split(":")[1].strip() if cpu else "?",
        "cores": os.cpu_count(), "memory_gb": round(int(memory) / 2**20, 1),
        "system": " ".join(os.uname()[i] for i in (0, 2, 4)),
        "load_average": round(os.getloadavg()[0], 2),
        "rowtide": output(os.environ["ROWTIDE"], "--version"),
        "commit": output("git", "rev-parse", "--short", "HEAD") + changed,
        "rustc": output("rustc", "--version"),
    }


def kafka_version():
    """The version of the broker, by its jar."""
    cache = Path(os.environ["ROWTIDE_CACHE"]) / "servers" / "kafka" / "libs"
    names = [re.search(r"kafka_2\.\d+-(\d[\d.]*)\.jar", jar.name) for jar in cache.glob("kafka_2*")]
    return "Apache Kafka " + next((found[1] for found in names if found), "?")


def table(lines, sender):
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
        elif "producer" in line:
            say(f"{line['workload']:<12}{line['transport']:<6}{line['producer']:<16}"
                f"{'same records':<18}{line['events_per_s']:>50}{'':>6}{line['cpu_s_per_m']:>9.2f}"
                f"{'':>8}{line['peak_rss_mb']:>9.1f}")
            continue
        else:
            continue
        span = f"{line['ratio_min']:.2f}–{line['ratio_max']:.2f}"
        say(f"{line['workload']:<12}{line['transport']:<6}{who:<16}{line['mode']:<18}"
            f"{ratio:>7.3f}{span:>12}{of_best}{line['events_per_s']:>10}"
            f"{line.get('mb_per_s', ''):>6}{line['cpu_s_per_m']:>9.2f}"
            f"{line[f'{sender}_cpu_s_per_m']:>8.2f}{peak:>9}")
    say("")


def words(variable, default):
    """The words of an environment variable."""
    return os.environ.get(variable, default).replace(",", " ").split()


def chosen(variable, known, what, default=""):
    """The words of an environment variable, each of which must be known; all where there are none."""
    names = words(variable, "") or default.split() or known
    unknown = set(names) - set(known)
    if unknown:
        die(f"no such {what}: {' '.join(sorted(unknown))}; there are {' '.join(known)}")
    return names


def run(name, cases, measure):
    """Runs those of the cases that CASES chooses, then prints their JSON, that of the machine first.

    `measure` is given the cases, a folder, a broker, how many rounds, and the facts of the machine to
    add its server to; it gives the lines.
    """
    cases = chosen("CASES", cases, "case")
    rounds = int(os.environ.get("ROUNDS", "2"))
    facts = machine(name)
    with tempfile.TemporaryDirectory(prefix="rowtide-bench.") as scratch:
        folder = Path(scratch)
        # Large values fill the disk soon: what was delivered and counted may go.
        kafka = Kafka(folder / "kafka", [
            "log.retention.bytes=268435456", "log.segment.bytes=134217728",
            "log.retention.check.interval.ms=10000",
        ])
        try:
            lines = measure(cases, folder, kafka, rounds, facts)
            facts["broker"] = kafka_version()
        finally:
            kafka.stop()
    for line in [facts, *lines]:
        print(json.dumps(line))
