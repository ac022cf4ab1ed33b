"""What rowtide says of a random workload against what the server's own tool says of the same log, and
against the tables.

    differential.py SEED…   each seed alone gives the same statements and restarts again

Several sessions change tables of all types in transactions of all sorts while rowtide is killed,
stopped and cut off; then each event is compared, in order and value by value, with what test_decoding
(on a second slot) or mysqlbinlog says of the same log, and the events brought together must be the
tables as SQL reads them. The workloads are in mixed.py and my_mixed.py, the second opinions in oracle.py and my_oracle.py,
the comparisons in differ.py and my_differ.py.

DB postgres (the default, of version PG, 18), mysql or mariadb; LENGTH statements of the workload (400);
KEEP a folder for the plan, both opinions and the log of seeds that differ.
--self-test     plants faults into what arrived for each seed and demands that each is seen
--report FILE   writes the figures there, as JSON
Exit code 1: a difference; 2: the test itself failed.
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

import faults
import my_run
import pg_run
from kit import die, say
from runs import Differs


def self_test(run, lines, transactions, rows):
    """The names of planted faults that were not seen."""
    missed = []
    for name, plant in faults.PLANTS.items():
        tampered = plant(list(lines), random.Random(run.seed))
        if tampered is None:
            continue
        found, _, compared = run.examine(tampered, transactions, rows)
        is_seen = compared > 0
        by_fold = len(found) > compared
        say(f"  planted {name}: {'seen' if is_seen else 'NOT SEEN'}"
            f"{', by the fold too' if by_fold else ''}")
        if not is_seen or (name in faults.SEEN_BY_FOLD and not by_fold):
            missed.append(name)
    return missed


def prove(bench, seed, options):
    """One seed: whether nothing differs, and how much there was."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"rowtide-differential.{seed}."))
    run = bench.run(seed, folder, options.length)
    found, transactions, events, missed = [], [], 0, []
    try:
        run.prepare()
        run.work()
        transactions = run.second_opinion()
        rows = run.final_rows(transactions)
        lines = run.lines()
        found, events, _ = run.examine(lines, transactions, rows)
        if options.self_test and not found:
            missed = self_test(run, lines, transactions, rows)
    except Differs as error:
        found = error.found
    except RuntimeError:
        keep(run, bench)
        raise
    finally:
        if found:
            keep(run, bench)
        run.close()
        shutil.rmtree(folder, ignore_errors=True)
    chosen = "".join(f", {name} {value}" for name, value in run.chosen.items())
    say(f"seed {seed} on {bench.title}: {len(transactions)} transactions, {events} events, "
        f"{run.restarts} lives{chosen}, {time.monotonic() - began:.1f} s: "
        + ("DIFFERENT" if found else "no difference"))
    for text in found:
        say(f"    {text}")
    if missed:
        say(f"the checks do not see: {', '.join(missed)}")
    if found or missed:
        say(f"again with: {bench.again} LENGTH={options.length} tests/proof/run.sh differential {seed}")
    return not found and not missed, len(transactions), events


def keep(run, bench):
    """Keeps what helps to understand a difference."""
    if not os.environ.get("KEEP"):
        return
    to = Path(os.environ["KEEP"]) / f"{run.seed}.{bench.title.replace(' ', '')}"
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(run.folder, to)
    steps = "\n".join(
        f"-- session {what}\n{detail}" if kind == "sql" else f"-- rowtide: {what} {detail}"
        for kind, what, detail in run.plan.steps)
    (to / "plan.sql").write_text(f"{run.plan.schema}\n{steps}\n")
    run.keep(to)
    say(f"kept in {to}")


def benches():
    """What the seeds run on, by DB."""
    name = os.environ.get("DB") or "postgres"
    if name == "postgres":
        return pg_run.Bench
    if name in ("mysql", "mariadb"):
        return lambda folder: my_run.Bench(folder, name)
    return die(f"DB is postgres, mysql or mariadb, not {name}")


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--length", type=int, default=int(os.environ.get("LENGTH", "400")))
    options = parser.parse_args()
    figures = {"seeds": options.seeds, "differ": [], "transactions": 0, "changes": 0}
    with tempfile.TemporaryDirectory(prefix="rowtide-proof.") as folder:
        bench, seed = None, None
        try:
            bench = benches()(Path(folder))
            for seed in options.seeds:
                holds, transactions, changes = prove(bench, seed, options)
                figures["transactions"] += transactions
                figures["changes"] += changes
                if not holds:
                    figures["differ"].append(seed)
        except (RuntimeError, BrokenPipeError) as error:
            if bench and os.environ.get("KEEP"):
                shutil.copy(bench.log, Path(os.environ["KEEP"]) / "server.log")
            die(f"the differential test itself failed (seed {seed}): {error}")
        finally:
            if bench:
                bench.close()
    if options.report:
        options.report.write_text(json.dumps(figures))
    say(json.dumps({
        "proof": "differential", "version": bench.title, "seeds": len(options.seeds),
        "differences": len(figures["differ"]), "transactions": figures["transactions"],
        "changes": figures["changes"],
    }))
    sys.exit(1 if figures["differ"] else 0)


if __name__ == "__main__":
    main()
