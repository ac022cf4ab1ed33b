"""PostgreSQL end to end, side by side with pg_recvlogical in the same run. See README.md.

SIZE (1) scales the workloads, ROUNDS (2) the repetitions, CASES (all) chooses among
narrow single wide full toast toast_bytea unix validation cold_start idle, MODES those of Rowtide
beside its defaults ("" for none), IDLE_SECONDS (60), PG (18).
Ends with one JSON line per case.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "proof"))

# pylint: disable=wrong-import-position
import small  # noqa: E402
from kit import Postgres, say  # noqa: E402
from measure import PRODUCER, Contender  # noqa: E402
from pg_measure import Mode, PostgresBench  # noqa: E402
from rounds import Group, median, run, table, words  # noqa: E402
from workloads import all_workloads  # noqa: E402

CASES = ["narrow", "single", "wide", "full", "toast", "toast_bytea", "unix", "validation",
         "cold_start", "idle"]
LIMITS = ["plain", "binary", "streaming", "binary+streaming", "1GB", "binary+1GB"]
"""How pg_recvlogical can be served; the first is the limit that noise is seen by."""
MODES = "binary streaming binary+1GB"
"""Of Rowtide, beside its defaults."""


def modes_of(workload, names):
    """Of these modes, those that make a difference for the workload."""
    modes = [Mode.named(name) for name in names]
    return [str(mode) for mode in modes
            if workload.is_large or not (mode.streaming or mode.work_mem)]


def throughput(bench, workload, cases, rounds):
    """The groups of one workload; gives the JSON lines."""
    lines = []
    say(f"{workload.name}: loading {workload.events} events")
    backlog = bench.load(workload)
    label = workload.label
    limits = [Contender(None, mode=mode) for mode in modes_of(workload, LIMITS)]
    if label in cases:
        # The broker's and the server's caches are warm, and the broker's code compiled, for all.
        bench.run(backlog, Contender("kafka"))
        contenders = [Contender(sink) for sink in ("discard", "jsonl", "kafka")]
        if label == "narrow":
            bench.record(backlog)
            contenders.append(Contender(PRODUCER))
        for mode in modes_of(workload, words("MODES", MODES)):
            contenders += [Contender("discard", mode=mode), Contender("kafka", mode=mode)]
        lines += Group(bench, backlog, label, contenders, limits).measure(rounds).lines()
    if label == "narrow" and "unix" in cases:
        contenders = [Contender("discard", "unix"), Contender("kafka", "unix")]
        limits = [Contender(None, "unix")]
        lines += Group(bench, backlog, label, contenders, limits).measure(rounds).lines()
    if label in ("narrow", "wide") and "validation" in cases:
        lines.append(validation(bench, backlog, label, rounds))
    bench.drop(backlog)
    return lines


def validation(bench, backlog, label, rounds):
    """What validation costs: own CPU with it over own CPU without, same sink, same backlog."""
    on, off = Contender("discard"), Contender("discard", validation="off")
    group = Group(bench, backlog, label, [on, off], [Contender(None)]).measure(rounds)
    always, never = median(group.runs(on), "cpu"), median(group.runs(off), "cpu")
    return {
        "bench": "pg", "workload": "validation_overhead", "of": label, "sink": "discard",
        "cpu_s_per_m_always": group.per_million(group.runs(on), "cpu"),
        "cpu_s_per_m_off": group.per_million(group.runs(off), "cpu"),
        "overhead": round(always / never - 1, 3),
    }


def measure(cases, folder, kafka, rounds, facts):
    """Runs the cases."""
    lines = []
    postgres = Postgres(
        folder / "postgres", os.environ.get("PG", "18"),
        ["max_wal_size=32GB", "checkpoint_timeout=1h", "shared_buffers=256MB",
         "autovacuum=off"],
    )
    try:
        bench = PostgresBench(postgres, kafka, folder)
        facts["server"] = bench.psql.one("select split_part(version(), ' on ', 1)")
        for workload in all_workloads(float(os.environ.get("SIZE", "1"))):
            extra = {"narrow": {"unix", "validation"}, "wide": {"validation"}}
            if (extra.get(workload.label, set()) | {workload.label}) & set(cases):
                lines += throughput(bench, workload, cases, rounds)
        if "cold_start" in cases:
            lines.append(small.cold_start(bench))
        if "idle" in cases:
            lines.append(small.idle(bench, float(os.environ.get("IDLE_SECONDS", "60"))))
    finally:
        postgres.stop()
    table(lines, PostgresBench.sender)
    return lines


if __name__ == "__main__":
    run("pg", CASES, measure)
