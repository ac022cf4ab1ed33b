"""What the plans of the differential tests share: sessions with open transactions, who may do what
without waiting, and what happens to the process under test in between.

A plan never looks at the server. Each row belongs to one session, and a statement that locks a whole
table is planned only where no other session's open transaction has touched it: so nothing waits, and a
seed gives the same statements in the same order each time. A statement that waits all the same waits for
a lock that rowtide holds, which it must not.
"""

import copy
import random
from dataclasses import dataclass, field

SESSIONS = 4


@dataclass
class Level:
    """A transaction or a savepoint in it: what a rollback to it brings back."""

    rows: dict = field(default_factory=dict)
    """By table: the session's rows before it first touched the table's group."""
    groups: dict = field(default_factory=dict)
    """By group: its tables before one was changed whole."""
    savepoint: str | None = None


class Session:
    """One connection: its open transaction."""

    def __init__(self, number):
        self.number = number
        self.levels = []
        self.left = 0
        self.prepared = None

    @property
    def is_open(self):
        """Whether it is inside a transaction."""
        return bool(self.levels)


class Sessions:
    """Draws what several sessions do; a server's own planner adds the statements.

    A table has a `name`, a `group` of tables that are changed together, and `live`: by session its rows
    by number.
    """

    def __init__(self, seed, length):
        self.rng = random.Random(seed)
        self.length = length
        self.tables = {}
        self.sessions = [Session(number) for number in range(SESSIONS)]
        self.holders = {}
        """By group: the sessions whose open transactions touched it, and who holds it alone."""
        self.next_number = 1
        self.serial = 0
        self.steps = []
        """("sql", session, text) or ("host", action, number)."""

    # Who may do what now

    def may_touch(self, session, group):
        """Whether a session can change rows of a group without waiting."""
        _, alone = self.holders.get(group, (set(), None))
        return alone in (None, session.number)

    def may_lock(self, session, group):
        """Whether a session can lock a group whole without waiting."""
        holders, _ = self.holders.get(group, (set(), None))
        return holders <= {session.number}

    def touch(self, session, group, alone=False):
        """Notes that the session's transaction has touched a group."""
        if not session.is_open:
            return
        holders, held = self.holders.get(group, (set(), None))
        self.holders[group] = (holders | {session.number}, session.number if alone else held)
        for table in self.tables.values():
            if table.group == group:
                for level in session.levels:
                    level.rows.setdefault(table.name, dict(table.live[session.number]))

    def keep(self, session, group):
        """Keeps how a group's tables are, for a rollback, before they are changed whole."""
        for level in session.levels:
            if group not in level.groups:
                level.groups[group] = {
                    table.name: copy.deepcopy(table)
                    for table in self.tables.values() if table.group == group
                }

    def restore(self, session, level):
        """Everything as it was at a level."""
        for group, tables in level.groups.items():
            for gone in [t.name for t in self.tables.values() if t.group == group]:
                del self.tables[gone]
            self.tables.update(copy.deepcopy(tables))
        for table, rows in level.rows.items():
            if table in self.tables:
                self.tables[table].live[session.number] = dict(rows)

    def release(self, session):
        """The session's transaction is over."""
        for group, (holders, alone) in list(self.holders.items()):
            alone = None if alone == session.number else alone
            self.holders[group] = (holders - {session.number}, alone)
        session.levels = []

    def say(self, session, sql):
        """One step of a session."""
        self.steps.append(("sql", session.number, sql))

    def number(self, count=1):
        """New numbers for rows."""
        first = self.next_number
        self.next_number += count
        return list(range(first, self.next_number))

    def mine(self, session, count):
        """New numbers of a session: equal to its own modulo the number of sessions."""
        while self.next_number % SESSIONS != session.number:
            self.next_number += 1
        numbers = [self.next_number + SESSIONS * at for at in range(count)]
        self.next_number = numbers[-1] + 1
        return numbers

    def some(self, session, table, most=3):
        """Some rows of a session."""
        rows = list(table.live[session.number])
        return self.rng.sample(rows, min(len(rows), self.rng.randint(1, most)))

    def savepoint(self, session):
        """A savepoint is set, released or gone back to."""
        if len(session.levels) > 1 and self.rng.random() < 0.6:
            at = self.rng.randrange(1, len(session.levels))
            level = session.levels[at]
            if self.rng.random() < 0.6:
                self.restore(session, level)
                session.levels = session.levels[:at + 1]
                self.say(session, f"rollback to {level.savepoint};")
            else:
                session.levels = session.levels[:at]
                self.say(session, f"release savepoint {level.savepoint};")
        else:
            self.serial += 1
            session.levels.append(Level(savepoint=f"s{self.serial}"))
            self.say(session, f"savepoint s{self.serial};")

    def hosts(self):
        """Restarts and naps of the process under test, in between."""
        steps, is_up = [], True
        for step in self.steps:
            pick = self.rng.random()
            if pick < 0.012:
                steps.append(("host", self.rng.choice(["kill", "stop"]) if is_up else "start", 0))
                is_up = not is_up
            elif pick < 0.02 and is_up:
                steps.append(("host", "cut", 0))
            elif pick < 0.07:
                steps.append(("host", "nap", self.rng.choice([5, 20, 60, 150])))
            elif pick < 0.09 and not is_up:
                steps.append(("host", "start", 0))
                is_up = True
            steps.append(step)
        return steps

