"""Loads that are too large or a broker that is gone: everything arrives, and memory stays bounded.

    big.py CASE…   value transaction held aborted concurrent outage freeze; all of them by default

value        a text of 10 MB, in a create, an update and beside small rows, into both sinks
transaction  ROWS (5000000) rows in one transaction, into both sinks
held         with streaming on: ROWS (10000000) rows in one transaction that stays open for HELD
             seconds (30) after its last statement; the first event is in the broker's log within 1 s
             of the commit, and the spool folder is empty in the end
aborted      the same, rolled back: nothing arrives and nothing stays on the disk, and what is
             committed later arrives
concurrent   with streaming on: CONNECTIONS (200) transactions at once, written in turn, each above
             logical_decoding_work_mem, some of them rolled back, or in part
             (WORK_MEM is that of held and aborted where it is not to be the default)
outage       the broker is killed for OUTAGE seconds (60) under load, and started again
freeze       the broker is stopped by SIGSTOP for OUTAGE seconds under load
Peak resident memory must stay within 64 MB at default settings; a value of 10 MB may add three
times its size. Ends with one JSON line per case.
Exit code 1: a violation; 2: the harness itself failed.
"""

import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import pg_load
import streamed
import verdict
import workload
from kit import die, say
from testbed import PEAK_MB, Setup, check_peak, check_rows

VALUE_BYTES = 10_000_000


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
        figures, wrong = check_rows(setup.records(), rows)
    finally:
        setup.close()
    check_peak(peak, wrong)
    return {**figures, "peak_rss_mb": peak, "cpu_s_per_m": round(cpu / rows * 1e6, 2),
            "seconds": round(drained - began, 1)}, wrong


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
    settings = ["deadlock_timeout=20ms"]
    setup = Setup(folder, "kafka", name, pg_load.CAPTURED, settings=settings)
    try:
        setup.psql.run(pg_load.SCHEMA)
        setup.start()
        load = workload.Load(pg_load, setup.postgres, seed, setup.folder, writers=4, pause=0.005)
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
        ledger, tables = workload.truth(pg_load, setup.psql)
        restarts = sum("restart" in json.dumps(line).lower() for line in setup.rowtide.records())
        report = verdict.check(
            setup.records(), ledger, tables,
            # A frozen broker may have kept what it never acknowledged; a replay begins anywhere.
            verdict.Limits([], 32 << 20, seconds + 10, is_anywhere=True),
        )
    finally:
        setup.close()
    wrong = list(report.lines())
    check_peak(peak, wrong)
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
    "held": [("kafka", streamed.held)],
    "aborted": [("kafka", streamed.aborted)],
    "concurrent": [("kafka", streamed.concurrent)],
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
