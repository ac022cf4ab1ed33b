"""One seed of the differential test, whatever the server is."""

import signal
import time

import collect
import differ
import planner
from kit import Rowtide

NAME = "diff"
# Told to stop before it could listen.
UNPREPARED = -signal.SIGTERM


class Differs(Exception):
    """What is not as it should be."""

    def __init__(self, found):
        super().__init__("\n".join(found))
        self.found = found


class Run:
    """One seed on a server. A server's own run adds its sessions, the second opinion of its log and the
    fold; what it must offer is called here.
    """

    def __init__(self, seed, folder, plan, source, chooser):
        self.seed, self.folder, self.plan = seed, folder, plan
        self.chosen = {}
        """Settings that were drawn, to be shown."""
        self.restarts = 0
        section = {
            "source": source, "snapshot": "never",
            "sink": {"type": "jsonl", "dir": str(folder / "events"), "rotate": {"bytes": "1MiB"}},
        }
        self.rowtide = Rowtide(
            folder / "host", NAME, section, commit_interval=chooser.choice(["20ms", "250ms"]),
            memory=chooser.choice(["32MiB", "16MiB"]),
        )
        self.sql = []

    def first_start(self):
        """Starts rowtide and waits until its first position is saved."""
        self.start()
        while self.rowtide.saved() is None:
            self.alive()
            time.sleep(0.01)

    def start(self):
        """Starts rowtide where it does not run."""
        if not self.rowtide.is_running():
            self.rowtide.start()
            self.restarts += 1

    def alive(self):
        """Raises where rowtide ended by itself."""
        if not self.rowtide.is_running():
            raise Differs([f"rowtide ended by itself:\n{self.rowtide.tail()}"])

    def host(self, action, number):
        """What happens to rowtide in between."""
        if action == "start":
            self.start()
        elif action == "nap":
            time.sleep(number / 1000)
        elif action == "cut":
            self.cut()
        elif self.rowtide.is_running():
            if action == "kill":
                self.rowtide.kill()
            elif self.rowtide.stop() not in (0, UNPREPARED):
                raise Differs([f"an orderly end failed:\n{self.rowtide.tail()}"])
        elif self.rowtide.process.returncode not in (0, UNPREPARED, -signal.SIGKILL):
            self.alive()

    def work(self):
        """Goes through the plan, and lets everything arrive."""
        sessions = [self.session(f"session{number}") for number in range(planner.SESSIONS)]
        for kind, what, detail in self.plan.steps:
            if kind == "host":
                self.host(what, detail)
            else:
                sessions[what].run(detail)
        end = self.last_change()
        complaints = [line for sql in self.sql for line in sql.unexpected()]
        if complaints:
            raise RuntimeError("the plan itself went wrong:\n" + "\n".join(complaints[:5]))
        self.start()
        try:
            self.rowtide.wait_saved(end, 60)
        except RuntimeError as error:
            raise Differs([f"not everything arrived: {error}"]) from error
        code = self.rowtide.stop()
        if code != 0:
            raise Differs([f"the orderly end had exit code {code}:\n{self.rowtide.tail()}"])

    @staticmethod
    def compare(wanted, events):
        """Differences of events in their order."""
        return differ.compare(wanted, events)

    def lines(self):
        """What arrived, stream by stream."""
        return list(collect.from_jsonl(self.folder / "events", f"{NAME}.{self.topics}"))

    def examine(self, lines, transactions, rows):
        """All differences of what arrived; the number of events; how many of the differences are not
        the fold's.
        """
        events, found, streams = [], [], {}
        for stream, _, line in lines:
            if b'"op":"' not in line[:200]:
                continue
            try:
                event = self.arrived(line)
            except (differ.Wrong, KeyError, TypeError, ValueError, AttributeError) as error:
                found.append(f"an event in {stream} cannot be read: {error!r}")
                continue
            if stream.endswith("dead_letter"):
                found.append(f"a dead letter: {differ.show(event)}")
            elif event.op in "cudt":
                if streams.get(stream, (0,)) >= event.place:
                    found.append(f"out of order in {stream}: {differ.show(event)}")
                streams[stream] = event.place
                events.append(event)
        events.sort(key=lambda event: event.place)
        found += self.number(events, transactions)[:5]
        wanted = self.expected(transactions)
        only_events = [event for event in wanted if isinstance(event, differ.Event)]
        found += self.compare(only_events, events)
        compared = len(found)
        found += self.folded(wanted, events, rows)[:5]
        return found, len(events), compared
