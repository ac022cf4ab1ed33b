"""Real servers, their clients and the rowtide process, for the proofs and the benchmark.

Standard library only. What is started here ends with the process that started it.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVERS = ROOT / "tests" / "servers"
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def say(text):
    """A line of progress."""
    print(text, flush=True)


def die(text):
    """Ends with exit code 2: the harness could not do its work, which says nothing of rowtide."""
    print(text, file=sys.stderr, flush=True)
    sys.exit(2)


def tool(name):
    """The path of a client program; run.sh has fetched it and put it into the environment."""
    path = os.environ.get("PROOF_" + name.upper())
    return path or die(f"{name} is not known: start this through its run.sh")


def lsn(text):
    """An LSN as a number, from the server's own form."""
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def commit_number(text):
    """What names a transaction, as a number that grows with the order of commits: an LSN, a GTID of
    MySQL (`uuid:7`) or MariaDB (`0-1-7`), or the place in the binlog of one that has no GTID.
    """
    if "/" in text:
        return lsn(text)
    if re.fullmatch(r"\d+-\d+-\d+", text):
        return int(text.rsplit("-", 1)[1])
    name, _, number = text.rpartition(":")
    if re.fullmatch(r"[0-9a-f-]{36}", name):
        return int(number)
    return place_number(name, int(number))


def place_number(file, offset):
    """A place in the binlog as a number."""
    return int(file.rsplit(".", 1)[1]) << 40 | offset


def behind_gtids(gtids):
    """The first number that no transaction of a set of GTIDs has. The set has no gaps, because one
    server wrote it alone.
    """
    last = re.fullmatch(r"(?:[0-9a-f-]{36}:1(?:-(\d+))?|\d+-\d+-(\d+)|)", gtids)
    if not last:
        raise RuntimeError(f"GTIDs with gaps or of several servers: {gtids}")
    return int(last[1] or last[2] or bool(gtids)) + 1


def _start(script, arguments):
    command = [str(SERVERS / script), "start", *arguments, "--owner", str(os.getpid())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        die(f"{script} could not start its server")
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


class Client:
    """A server's own client, kept open: statements go in, rows come out."""

    END = "end-of-answer-of-this-script"

    def __init__(self, command, log, environment=None):
        self.log = open(log, "ab") if log else None
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            env=environment,
        )

    def run(self, script):
        """Runs statements and gives all rows."""
        end = f"\nselect '{self.END}';\n"
        try:
            self.process.stdin.write((script + end).encode("utf-8", "surrogateescape"))
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise RuntimeError(f"the client ended: {script[:200]}") from error
        rows = []
        for line in self.process.stdout:
            line = line.rstrip(b"\n").decode("utf-8", "surrogateescape")
            if line == self.END:
                return rows
            rows.append(line)
        raise RuntimeError(f"the client ended: {script[:200]}")

    def one(self, statement):
        """The only value of a query; None where there is no row."""
        rows = self.run(statement if statement.rstrip().endswith(";") else statement + ";")
        return rows[0] if rows else None

    def close(self):
        """Ends the client."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.wait(10)
        if self.log:
            self.log.close()


class Psql(Client):
    """One psql. Statements may be psql's own commands, with inline COPY data, and must not end inside a
    transaction that failed.

    `log` takes what the server complains about; without it a complaint is an error.
    """

    def __init__(self, url, log=None):
        command = [tool("psql"), "-X", "-q", "-A", "-t", "-d", url]
        if not log:
            command += ["-v", "ON_ERROR_STOP=1"]
        super().__init__(command, log, dict(os.environ, PGOPTIONS="-c client_min_messages=warning"))


class MysqlClient(Client):
    """The client of MySQL or MariaDB; the columns of its rows are apart by tabs and nothing is escaped.

    `log` takes what the server complains about, and statements after it are run all the same; without
    it a complaint is an error.
    """

    def __init__(self, server, log=None, database="mysql"):
        command = [server.client, "--no-defaults", "--user=root", f"--socket={server.socket}",
                   "--batch", "--raw", "--skip-column-names", "--unbuffered",
                   "--default-character-set=utf8mb4", "--max-allowed-packet=64M", database]
        if log:
            command.insert(2, "--force")
        super().__init__(command, log)


class Mysql:
    """A throwaway MySQL or MariaDB."""

    def __init__(self, folder, flavor, settings=()):
        self.folder = folder
        self.flavor = flavor
        env = _start(f"{flavor}.sh", [str(folder), *settings])
        self.pid = int(env["PID"])
        self.url = env["URL"]
        self.socket = env["SOCKET"]
        self.client = env["CLIENT"]
        self.binlog = env["BINLOG"]
        self.data = Path(env["DATA"])
        self.log = env["LOG"]

    def session(self, log=None, database="mysql"):
        """A client of its own."""
        return MysqlClient(self, log, database)

    def stop(self):
        """Ends it and removes its data."""
        command = [str(SERVERS / f"{self.flavor}.sh"), "stop", str(self.folder)]
        subprocess.run(command, check=False)


class Postgres:
    """A throwaway PostgreSQL."""

    def __init__(self, folder, version="18", settings=()):
        self.folder = folder
        env = _start("postgres.sh", [version, str(folder), *settings])
        self.port = env["PORT"]
        self.socket = env["SOCKET"]
        self.pid = int(env["PID"])
        self.url = env["URL"]
        self.log = env["LOG"]

    def url_by(self, transport):
        """The URL by "tcp" or by the "unix" socket."""
        if transport == "tcp":
            return f"{self.url}?sslmode=disable"
        return f"postgres://postgres@/postgres?host={self.socket}&port={self.port}"

    def psql(self, log=None):
        """A psql of its own."""
        return Psql(self.url, log)

    def stop(self):
        """Ends it and removes its data."""
        subprocess.run([str(SERVERS / "postgres.sh"), "stop", str(self.folder)], check=False)


class Kafka:
    """A throwaway Kafka broker."""

    def __init__(self, folder, settings=()):
        self.folder = folder
        env = _start("kafka.sh", [str(folder), *settings])
        self.brokers = env["BROKERS"]
        self.pid = int(env["PID"])

    def command(self, *arguments):
        """kafka.sh with another command; its new PID is noted."""
        command = [str(SERVERS / "kafka.sh"), *arguments, str(self.folder)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = re.search(r"^PID=(\d+)$", done.stdout, re.MULTILINE)
        if found:
            self.pid = int(found[1])

    def topics(self):
        """Every topic and the number of its partitions."""
        listing = subprocess.run(
            [tool("kcat"), "-b", self.brokers, "-L", "-J"],
            stdout=subprocess.PIPE, check=True,
        )
        topics = json.loads(listing.stdout)["topics"]
        return {topic["topic"]: len(topic["partitions"]) for topic in topics}

    def end_offset(self, topic, partition=0):
        """The number of records ever written to a partition."""
        answer = subprocess.run(
            [tool("kcat"), "-b", self.brokers, "-Q", "-t", f"{topic}:{partition}:-1"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
        )
        found = re.search(r"offset (\d+)", answer.stdout)
        return int(found[1]) if found else 0

    def stop(self):
        """Ends it and removes its data."""
        subprocess.run([str(SERVERS / "kafka.sh"), "stop", str(self.folder)], check=False)


def cpu_seconds(pid):
    """User and system time of a process and its threads; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def memory_mb(pid, field):
    """A field of /proc/PID/status (VmRSS, VmHWM) or smaps_rollup (Pss), in MB of 2^20 bytes."""
    file = "smaps_rollup" if field == "Pss" else "status"
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/{file}").read_text(), re.M)
    return int(found[1]) / 1024


def config(connectors, **top):
    """A configuration as JSON text."""
    return json.dumps({"connectors": connectors, **top}, indent=1)


def connector(url, slot, publication, tables, sink, **more):
    """One connector's section, for a PostgreSQL source."""
    source = {
        "type": "postgres", "url": url, "slot": slot, "publication": publication,
        "tables": {"include": tables},
    }
    return {"source": source, "snapshot": "never", "sink": sink, **more}


@dataclass(frozen=True)
class Saved:
    """A saved position, in numbers as `commit_number` makes them."""

    confirm: int
    """Above every whole transaction: the end of the last one, or the number of the next."""
    commit: int = 0
    """Inside a transaction: its commit,"""
    next_index: int = 0
    """and how many of its changes are delivered."""

    @staticmethod
    def of(position):
        """From its JSON."""
        if "confirm" in position:
            confirm = lsn(position["confirm"])
        elif "gtids" in position:
            confirm = behind_gtids(position["gtids"])
        else:
            confirm = place_number(position["file"], position["pos"])
        inside = position.get("in_tx")
        if not inside:
            return Saved(confirm)
        commit = commit_number(inside.get("commit") or inside["id"])
        return Saved(confirm, commit, inside["next_index"])

    def covers(self, place):
        """Whether an event at (commit, index, part) was delivered before this was saved."""
        commit, index = place[0], place[1]
        return commit < self.confirm or (commit == self.commit and index < self.next_index)


class Rowtide:
    """The process under test, with one connector. It can be started again and again."""

    def __init__(self, folder, name, section, **top):
        self.folder = folder
        self.name = name
        self.section = section
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "rowtide.json"
        self.config.write_text(config({name: section}, state=str(folder / "state"), **top))
        self.log = folder / "rowtide.log"
        self.process = None
        sink = section["sink"]
        if sink["type"] == "jsonl":
            self.position_file = Path(sink["dir"]) / "manifest.json"
        else:
            self.position_file = folder / "state" / f"{name}.json"

    def start(self):
        """Starts it."""
        command = [os.environ["ROWTIDE"], "run", "--config", str(self.config)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*command, "--log-format", "json"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                env={k: v for k, v in os.environ.items() if k != "RUST_LOG"},
            )
        return self

    @property
    def pid(self):
        """Its process id."""
        return self.process.pid

    def is_running(self):
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds=60):
        """SIGTERM; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"rowtide did not stop within {seconds} s") from None

    def saved(self):
        """The saved position; None before there is one."""
        return self._look()[0]

    def _look(self):
        """The saved position, and when it was put in place (by rename, after its sync)."""
        try:
            with open(self.position_file, "rb") as file:
                changed = os.fstat(file.fileno()).st_ctime
                position = json.loads(file.read())["position"]
        except FileNotFoundError:
            return None, 0.0
        return Saved.of(position) if position else None, changed

    def wait_saved(self, end, seconds, poll=0.005):
        """Waits until the saved position is at or past `end`; gives the time of that save.

        The time is the position file's own, so that it does not depend on how often one looks.
        """
        return self._wait(lambda saved: saved.confirm >= end, seconds, poll)

    def wait_moved(self, before, seconds, poll=0.002):
        """Waits for another position than `before`; gives the time of that save."""
        return self._wait(lambda saved: saved != before, seconds, poll)

    def _wait(self, is_reached, seconds, poll):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            saved, changed = self._look()
            if saved and is_reached(saved):
                return changed
            if not self.is_running():
                raise RuntimeError(f"rowtide ended by itself:\n{self.tail()}")
            time.sleep(poll)
        raise RuntimeError(f"not drained after {seconds} s:\n{self.tail()}")

    def tail(self, lines=15):
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def records(self):
        """Its log, line by line, as objects."""
        for line in self.log.read_text(errors="replace").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


class Sampler(threading.Thread):
    """Notes the CPU time of a process until it is gone."""

    def __init__(self, pid, every=0.02):
        super().__init__(daemon=True)
        self.target_pid = pid
        self.every = every
        self.first = self.last = cpu_seconds(pid) or 0.0
        self.is_over = threading.Event()
        self.start()

    def run(self):
        while not self.is_over.wait(self.every):
            now = cpu_seconds(self.target_pid)
            if now is None:
                return
            self.last = now

    def stop(self):
        """CPU seconds from the beginning on."""
        self.is_over.set()
        self.join()
        now = cpu_seconds(self.target_pid)
        return (self.last if now is None else now) - self.first
