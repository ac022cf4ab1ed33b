"""The load of the proofs: writers whose every committed change is listed in a ledger.

Every captured row carries `ver`, a counter of its key that only a holder of the key's lock raises,
and `op_id`, unique for ever. The ledger is written in the transaction that it lists, so that after
the run it holds exactly what was committed, whatever became of a session.

What the statements are in a server's own SQL is in pg_load.py and my_load.py, which offer the same
names; `sql` is one of them.
"""

import random
import re
import threading
import time

KEYS = 400
"""Keys that any transaction may touch; those above are for long transactions alone."""
LONG_KEYS = 40
LARGE_EVERY_S = 4
TABLES = ["items", "items_full"]


class Writer(threading.Thread):
    """A session that runs transactions at random until it is told to stop."""

    def __init__(self, sql, server, number, seed, folder, pause, big):
        super().__init__(daemon=True)
        self.sql = sql
        self.random = random.Random(f"{seed}/{number}")
        self.number = number
        self.pause = pause
        self.big = big
        self.next_large = time.monotonic() + 1
        self.batch = number * 1_000_000
        self.batches = []
        self.log = folder / f"writer-{number}.log"
        self.client = sql.session(server, self.log)
        self.is_over = threading.Event()
        self.failure = None
        self.transactions = 0

    def run(self):
        try:
            self.client.run(self.sql.seeded(self.random.random()))
            while not self.is_over.is_set():
                if self.big and time.monotonic() >= self.next_large:
                    self.client.run(self.large())
                    self.next_large = time.monotonic() + LARGE_EVERY_S
                else:
                    self.client.run(self.transaction())
                self.transactions += 1
                self.is_over.wait(self.random.random() * 2 * self.pause)
            self.client.close()
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def transaction(self):
        """One transaction's statements."""
        pick, sql = self.random, self.sql
        table = pick.choice(TABLES)
        kind = pick.random()
        some = sql.call("ops", table, pick.randint(1, 12), 1, KEYS)
        special = sql.special(pick, f"{self.number}-{self.transactions}", some)
        if special:
            return special
        if kind < 0.30:
            return sql.alone(sql.call("ops", table, 1, 1, KEYS))
        if kind < 0.60:
            return f"begin; {some} commit;"
        if kind < 0.68:
            return f"begin; {some} rollback;"
        if kind < 0.76:
            return f"begin; {some} savepoint s; {some} rollback to s; {some} commit;"
        if kind < 0.84:
            first = pick.randint(1, KEYS - 30)
            return sql.alone(sql.call("sweep", table, first, first + pick.randint(1, 30)))
        if kind < 0.90:
            return sql.several(self.next_batch(), pick.randint(2, 60))
        if kind < 0.95:
            first = KEYS + 1 + self.number % 8 * 5
            long = sql.call("ops", table, 3, first, first + 4)
            return f"begin; {long} {sql.nap(pick.random() * 0.4)} {some} {long} commit;"
        if self.batches and pick.random() < 0.5:
            return sql.alone(sql.call("forget", self.batches.pop(0)))
        return sql.alone(sql.call("many", pick.randint(2, 100), self.next_batch()))

    def large(self):
        """A transaction of many rows, now and then given up at its end."""
        end = "rollback" if self.random.random() < 0.2 else "commit"
        many = self.sql.call("many", self.big, self.next_batch())
        return f"begin; {many} {self.sql.call('ops', 'items', 5, 1, KEYS)} {end};"

    def next_batch(self):
        """A number for rows that come and go together."""
        self.batch += 1
        self.batches.append(self.batch)
        return self.batch

    def stop(self):
        """Ends after the transaction of now; gives what went wrong beyond the expected."""
        self.is_over.set()
        self.join(60)
        wrong = [f"{self.failure}"] if self.failure else []
        for line in self.log.read_text(errors="replace").splitlines():
            if re.search(self.sql.IS_ERROR, line) and not self.sql.EXPECTED_ERRORS.search(line):
                wrong.append(line)
        return wrong


class Load:
    """Several writers at once."""

    def __init__(self, sql, server, seed, folder, writers=4, pause=0.02, big=20_000):
        self.writers = [
            Writer(sql, server, number, seed, folder, pause, big if number == 0 else 0)
            for number in range(writers)
        ]
        self.began = time.monotonic()
        for writer in self.writers:
            writer.start()

    def check(self):
        """Raises when a writer has failed: then the proof would prove less than it says."""
        for writer in self.writers:
            if writer.failure:
                raise RuntimeError(f"writer {writer.number}: {writer.failure}")

    def stop(self):
        """Ends all of them; gives the number of transactions."""
        for writer in self.writers:
            writer.is_over.set()
        wrong = [line for writer in self.writers for line in writer.stop()]
        if wrong:
            raise RuntimeError("the load itself went wrong:\n" + "\n".join(wrong[:10]))
        return sum(writer.transactions for writer in self.writers)


def truth(sql, client):
    """What was committed: changes in the order of each key, and the tables as they are now."""
    ledger = {}
    for table, key, op, op_id in sql.ledger_rows(client):
        ledger.setdefault((table, int(key)), []).append((op, int(op_id)))
    return ledger, {(table, key): row for table, key, row in sql.table_rows(client)}
