"""MySQL and MariaDB end to end, side by side with mysqlbinlog or mariadb-binlog in the same run. See
README.md.

DB (mysql) chooses the servers: mysql, mariadb or both, SIZE (1) scales the workloads, ROUNDS (2) the
repetitions, CASES (all) chooses among narrow full wide compressed. Ends with one JSON line per case.
"""

import functools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "proof"))

# pylint: disable=wrong-import-position
from kit import say  # noqa: E402
from measure import PRODUCER, Contender  # noqa: E402
from my_measure import FLAVORS, MysqlBench  # noqa: E402
from my_workloads import all_workloads  # noqa: E402
from rounds import Group, chosen, run, table  # noqa: E402

CASES = ["narrow", "full", "wide", "compressed"]
LIMITS = ["plain", "raw"]
"""How the tool reads: with -v, which is the limit, and without a look at what it reads."""
SINKS = ["discard", "jsonl", "kafka"]
RATIOS = {"discard": 0.5, "jsonl": 0.4, "kafka": 0.2}
"""The aims, of which it is only said whether they are met: speed over that of the tool with -v, by sink,"""
CPU_MAX = 2.0
"""own CPU seconds per million narrow events into Kafka,"""
PEAK_MAX = 64
"""and the peak of the memory in MB."""


def throughput(bench, workload, rounds):
    """One workload into each sink; gives the JSON lines."""
    say(f"{workload.name}: loading {workload.events} events")
    backlog = bench.load(workload)
    # The caches are warm, and the broker's code compiled, for all.
    bench.run(backlog, Contender("kafka"))
    contenders = [Contender(sink) for sink in SINKS]
    if workload.label == "narrow":
        bench.record(backlog)
        contenders.append(Contender(PRODUCER))
    limits = [Contender(None, mode=mode) for mode in LIMITS]
    group = Group(bench, backlog, workload.label, contenders, limits).measure(rounds)
    bench.drop(backlog)
    return group.lines()


def aims(line, producers):
    """The aims of a case: what was measured, what is aimed at, whether it is met. What only writing the
    records takes, the CPU's aim does not count: it is said beside it.
    """
    ratio, aim = line["ratio_to_limit"], RATIOS[line["sink"]]
    yield "speed", f"{ratio} of {aim}", ratio >= aim
    if (line["workload"], line["sink"]) == ("narrow", "kafka"):
        cpu = line["cpu_s_per_m"]
        alone = ", ".join(f"{name} alone {taken}" for name, taken in producers.items())
        yield "CPU", f"{cpu} of at most {CPU_MAX} s a million ({alone})", cpu <= CPU_MAX
    peak = line["peak_rss_mb"]
    yield "memory", f"{peak} of at most {PEAK_MAX} MB", peak <= PEAK_MAX


def say_aims(lines):
    """Says which aims are met."""
    producers = {line["producer"]: line["cpu_s_per_m"] for line in lines if "producer" in line}
    for line in lines:
        if "sink" in line:
            told = [f"{what} {figures}{'' if is_met else ' MISSED'}"
                    for what, figures, is_met in aims(line, producers)]
            say(f"{line['db']} {line['workload']} {line['sink']}: {', '.join(told)}")
    say("")


def measure(servers, cases, folder, kafka, rounds, facts):
    """Runs the cases on each server."""
    facts["server"] = []
    lines = []
    for flavor in servers:
        bench = MysqlBench(flavor, kafka, folder)
        try:
            facts["server"].append(bench.version())
            own = []
            for workload in all_workloads(float(os.environ.get("SIZE", "1")), flavor):
                if workload.label in cases:
                    own += throughput(bench, workload, rounds)
        finally:
            bench.stop()
        say(f"\n{facts['server'][-1]}:")
        table(own, MysqlBench.sender)
        say_aims(own)
        lines += own
    facts["server"] = ", ".join(facts["server"])
    return lines


if __name__ == "__main__":
    run("mysql", CASES, functools.partial(measure, chosen("DB", list(FLAVORS), "server", "mysql")))
