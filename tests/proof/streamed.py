"""Transactions that are streamed while they run (`streaming: on`): cases of big.py."""

import itertools
import json
import os
import random
import subprocess
import threading
import time

from kit import say, tool
from testbed import Setup, check_peak, check_rows

FIRST_EVENT_S = 1.0
"""From the return of COMMIT to the first event of the transaction in the broker's log."""
MANY = "create table many (id bigint primary key, note text, amount numeric);"
ROWS = """insert into many select g, 'row number ' || g, g / 100.0
  from generate_series(1, {}) g;"""


class Spool(threading.Thread):
    """Watches the folder that open transactions are set aside in."""

    def __init__(self, setup, every=0.1):
        super().__init__(daemon=True)
        self.folder = setup.rowtide.folder / "state" / "spool"
        self.every = every
        self.peak = 0
        self.is_over = threading.Event()
        self.start()

    def files(self):
        """Every file in it, with its size."""
        sizes = {}
        for path in self.folder.rglob("*"):
            try:
                if path.is_file():
                    sizes[path.name] = path.stat().st_size
            except FileNotFoundError:
                continue
        return sizes

    def run(self):
        while not self.is_over.wait(self.every):
            self.peak = max(self.peak, sum(self.files().values()))

    def end(self, wrong):
        """What stays is wrong; gives the figures. Rowtide must still run: it empties the folder when
        it ends.
        """
        self.is_over.set()
        self.join()
        left = self.files()
        if left:
            wrong.append(f"{len(left)} files stay in the spool folder")
        if self.peak == 0:
            raise RuntimeError("nothing was set aside: the case would prove nothing")
        return {"spool_peak_mb": round(self.peak / 2**20, 1), "spool_left": len(left)}


def _setup(folder, name, *, settings=(), **source):
    """Kafka, whose log tells when it took a record, and a connector that asks for streaming."""
    topics = {"config": {"message.timestamp.type": "LogAppendTime"}}
    work_mem = os.environ.get("WORK_MEM")
    if work_mem:
        source.setdefault("logical_decoding_work_mem", work_mem)
    return Setup(folder, "kafka", name, ["public.many"], settings=settings, topics=topics,
                 source={"streaming": "on", **source})


def _started(setup, row):
    """Starts rowtide; a first row makes the topic."""
    setup.start()
    setup.psql.run(row)
    setup.rowtide.wait_saved(setup.end(), 60)
    return Spool(setup)


def _behind(setup):
    """MB of log that the server has not read for the slot."""
    query = ("select round(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), sent_lsn) / 2^20)"
             " from pg_stat_replication where application_name = 'rowtide';")
    return int(setup.psql.one(query) or -1)


def _hold(setup, rows):
    """Writes the rows in a transaction that stays open; gives its session."""
    seconds = float(os.environ.get("HELD", "30"))
    began = time.monotonic()
    session = setup.postgres.psql()
    session.run("begin;" + ROWS.format(rows))
    say(f"  written in {time.monotonic() - began:.0f} s, {_behind(setup)} MB of log not sent yet;"
        f" open for {seconds:.0f} s more")
    time.sleep(seconds)
    say(f"  {_behind(setup)} MB of log not sent yet")
    return session


def _appended(setup, offset):
    """When the broker appended the record at that offset, in seconds since 1970, at the latest."""
    answer = subprocess.run(
        [tool("kcat"), "-b", setup.kafka.brokers, "-C", "-q", "-t", f"{setup.name}.public.many",
         "-p", "0", "-o", str(offset), "-c", "1", "-f", "%T"],
        stdout=subprocess.PIPE, text=True, check=True,
    )
    # Whole milliseconds.
    return int(answer.stdout) / 1000 + 0.001


def held(folder):
    """A large transaction that is open for long, then committed."""
    rows = int(os.environ.get("ROWS", "10000000"))
    setup = _setup(folder, "held")
    wrong = []
    try:
        setup.psql.run(MANY)
        spool = _started(setup, "insert into many values (0, 'first', 0);")
        session = _hold(setup, rows)
        behind = _behind(setup)
        session.run("commit;")
        committed = time.time()
        session.close()
        end = setup.end()
        drained = setup.rowtide.wait_saved(end, 1800, poll=0.1)
        figures = spool.end(wrong)
        first = _appended(setup, 1) - committed
        say(f"  first event {first:.3f} s after the commit, the last {drained - committed:.0f} s")
        peak, cpu = setup.finish(end, 60)
        counts, wrong_rows = check_rows(itertools.islice(setup.records(), 1, None), rows)
    finally:
        setup.close()
    wrong += wrong_rows
    if first > FIRST_EVENT_S:
        wrong.append(f"the first event came {first:.3f} s after the commit,"
                     f" {FIRST_EVENT_S:.0f} s are allowed")
    check_peak(peak, wrong)
    return {**counts, "first_event_s": round(first, 3), "drained_s": round(drained - committed, 1),
            "log_behind_mb": behind, **figures, "peak_rss_mb": peak,
            "cpu_s_per_m": round(cpu / rows * 1e6, 2)}, wrong


def aborted(folder):
    """A large transaction that is open for long, then rolled back."""
    rows = int(os.environ.get("ROWS", "10000000"))
    setup = _setup(folder, "aborted")
    wrong = []
    try:
        setup.psql.run(MANY)
        spool = _started(setup, "insert into many values (0, 'first', 0);")
        session = _hold(setup, rows)
        session.run("rollback;")
        session.close()
        setup.psql.run("insert into many values (-1, 'after', 0), (-2, 'after', 0);")
        end = setup.end()
        setup.rowtide.wait_saved(end, 600, poll=0.1)
        figures = spool.end(wrong)
        peak, cpu = setup.finish(end, 60)
        arrived = [json.loads(line)["after"]["id"] for _, _, line in setup.records()]
    finally:
        setup.close()
    if arrived != [0, -1, -2]:
        wrong.append(f"{len(arrived)} events instead of 3: {arrived[:5]}")
    check_peak(peak, wrong)
    return {"rows": rows, "events": len(arrived), **figures, "peak_rss_mb": peak,
            "cpu_s_per_m": round(cpu / rows * 1e6, 2)}, wrong


class Many:
    """Transactions that are open at once, each in a session of its own."""

    ROUNDS = 20
    ROWS = 100
    """Of one statement."""

    def __init__(self, setup, count, seed):
        self.random = random.Random(seed)
        self.sessions = [setup.postgres.psql() for _ in range(count)]
        self.expected = []
        """The rows of each committed transaction, in the order of the commits."""
        self.rolled_back = 0

    def write(self):
        """A statement of each in turn, again and again."""
        for number, session in enumerate(self.sessions):
            # Some are subtransactions of their own from the first change on.
            session.run("begin;" + ("savepoint a;" if number % 7 == 0 else ""))
        for step in range(self.ROUNDS):
            for number, session in self._shuffled():
                session.run(self._statement(number, step))

    def _shuffled(self):
        return self.random.sample(list(enumerate(self.sessions)), len(self.sessions))

    def _statement(self, number, step):
        first = step * self.ROWS
        insert = ("insert into many select {}, g, md5(g::text) from generate_series({}, {}) g;")
        statement = insert.format(number, first, first + self.ROWS - 1)
        if number % 5 == 0 and step % 6 == 2:
            undone = insert.format(number, first + 1_000_000, first + 1_000_000 + self.ROWS)
            statement += f"savepoint s; {undone} rollback to s;"
        return statement

    def finish(self):
        """Ends them one after another, each fourth by a rollback."""
        for number, session in self._shuffled():
            if number % 4 == 3:
                session.run("rollback;")
                self.rolled_back += 1
            else:
                session.run("commit;")
                self.expected.append(number)
            session.close()

    def check(self, records):
        """Every committed transaction whole and once, in the order of the commits."""
        rows = ((after["tx"], after["n"]) for after in map(_after, records))
        wanted = ((number, n) for number in self.expected for n in range(self.ROUNDS * self.ROWS))
        events = 0
        for got, want in itertools.zip_longest(rows, wanted):
            if got != want:
                return events, [f"event {events} is {got}, {want} is expected"]
            events += 1
        return events, []


def _after(record):
    return json.loads(record[2])["after"]


def concurrent(folder):
    """Very many transactions that are open and streamed at once."""
    count = int(os.environ.get("CONNECTIONS", "200"))
    seed = int(os.environ.get("SEED", time.time()))
    setup = _setup(folder, "concurrent", settings=[f"max_connections={count + 50}"],
                   logical_decoding_work_mem="64kB")
    wrong = []
    try:
        setup.psql.run("create table many (tx int, n int, note text, primary key (tx, n));")
        spool = _started(setup, "insert into many values (-1, 0, 'first');")
        many = Many(setup, count, seed)
        began = time.monotonic()
        many.write()
        written = time.monotonic()
        open_files = len(spool.files())
        many.finish()
        end = setup.end()
        setup.rowtide.wait_saved(end, 600, poll=0.1)
        drained = time.monotonic()
        figures = spool.end(wrong)
        streamed = int(setup.psql.one("select stream_txns from pg_stat_replication_slots;"))
        peak, _ = setup.finish(end, 60)
        events, wrong_rows = many.check(itertools.islice(setup.records(), 1, None))
    finally:
        setup.close()
    say(f"  written in {written - began:.0f} s, drained {drained - written:.0f} s later")
    wrong += wrong_rows
    check_peak(peak, wrong)
    return {"transactions": count, "rolled_back": many.rolled_back, "streamed": streamed,
            "events": events, "lost_or_wrong": len(wrong_rows), "spool_files": open_files,
            **figures, "peak_rss_mb": peak, "seed": seed}, wrong
