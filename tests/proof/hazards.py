"""Every hazard's tests on every server, and the differential test; a table of both.

    hazards.py pg [VERSION…]      14 15 16 17 18 without any
    hazards.py mysql [SERVER…]    mysql mariadb without any

SEEDS of the differential test (100): dealt out over the versions of PostgreSQL, on each of the other
servers; FIRST_SEED (1); JOBS test threads; KILL=1 with the kill loop of ROUNDS into both sinks too.
A hazard's tests are those whose names begin with its number (h27_…, m27_…); hazards.toml and
hazards_mysql.toml list the hazards. A test that does not apply to a version prints
`not applicable: REASON`.
Ends with one JSON line. Exit code 1: a test failed, or a hazard has none; 2: the proof itself failed.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from kit import ROOT, die, say

LISTED = re.compile(r"^(\S+): test$", re.MULTILINE)
RESULT = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)", re.MULTILINE)
OUTPUT = re.compile(r"^---- (\S+) (?:stdout|stderr) ----\n(.*?)(?=^---- |^failures:|^successes:|\Z)",
                    re.MULTILINE | re.DOTALL)
NOT_APPLICABLE = re.compile(r"not applicable: (.+)")
LONGEST_S = 1800

PASS, FAIL, UNIT, NOT, NONE = "pass", "FAIL", "unit", "n/a", "none"


@dataclass
class Log:
    """A kind of log: its list of hazards, and the servers that have it."""

    name: str
    letter: str
    """What the names of tests begin with."""
    list: str
    title: str
    """What stands before a server's name."""
    servers: list
    started: re.Pattern
    """How a test says which server it started."""
    is_by_server: bool
    """Whether a run of the tests is on one server; else a test goes through those that it wants."""

    @property
    def prefix(self):
        """The numbers that a test's name begins with."""
        return re.compile(rf"(?:{self.letter}\d+_)+")

    def environment(self, server):
        """What tells tests, and the differential test, which server is meant."""
        if self.is_by_server:
            return {"ROWTIDE_TEST_POSTGRES": server, "PG": server, "DB": "postgres"}
        return {"DB": server}


LOGS = {
    "pg": Log("pg", "h", "hazards.toml", "PostgreSQL ", ["14", "15", "16", "17", "18"],
              re.compile(r"^PostgreSQL (\d+) started$", re.MULTILINE), True),
    "mysql": Log("mysql", "m", "hazards_mysql.toml", "", ["mysql", "mariadb"],
                 re.compile(r"^(mysql|mariadb) started$", re.MULTILINE), False),
}


@dataclass
class Binary:
    """A test program and the hazards' tests in it."""

    path: str
    folder: str
    name: str
    tests: list


@dataclass
class Outcome:
    """What became of one test."""

    test: str
    state: str
    detail: str = ""
    servers: tuple = ()
    """Those that it started."""


@dataclass
class Hazard:
    """One line of the list, and its outcomes by server."""

    number: int
    title: str
    applies: bool = True
    since: int = 0
    only: str = ""
    why: str = ""
    outcomes: dict = field(default_factory=dict)

    def cell(self, version):
        """The word in the table for a server."""
        if not self.applies or (self.since and int(version) < self.since):
            return NOT
        if self.only and version != self.only:
            return NOT
        found = [outcome.state for outcome in self.outcomes.get(version, [])]
        for state in (FAIL, PASS, UNIT, NOT):
            if state in found:
                return state
        return NONE


def numbers(log, test):
    """The hazards that a test's name tells of."""
    found = log.prefix.match(test.rsplit("::", 1)[-1])
    return [int(number) for number in re.findall(r"\d+", found[0])] if found else []


def read_hazards(log):
    """The list; each number once, in order."""
    text = (ROOT / "tests/proof" / log.list).read_text()
    hazards = [Hazard(**entry) for entry in tomllib.loads(text)["hazard"]]
    if [hazard.number for hazard in hazards] != list(range(1, len(hazards) + 1)):
        die(f"{log.list} leaves a number out or names it twice")
    return {hazard.number: hazard for hazard in hazards}


def build(log):
    """Builds all tests; the programs that hold tests of hazards."""
    command = ["cargo", "test", "--locked", "--workspace", "--no-run",
               "--message-format=json-render-diagnostics"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if built.returncode != 0:
        die("the tests cannot be built")
    binaries = []
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") != "compiler-artifact" or not message.get("executable"):
            continue
        if not message["profile"]["test"]:
            continue
        folder = str(Path(message["manifest_path"]).parent)
        path = message["executable"]
        listed = subprocess.run([path, "--list", "--format", "terse"], cwd=folder,
                                stdout=subprocess.PIPE, text=True, check=True)
        tests = [name for name in LISTED.findall(listed.stdout) if numbers(log, name)]
        if tests:
            binaries.append(Binary(path, folder, message["target"]["name"], tests))
    return binaries


def run(log, binary, version):
    """Runs a program's tests of hazards, on one server where that is how they are run."""
    command = [binary.path, *binary.tests, "--exact", "--show-output"]
    if os.environ.get("JOBS"):
        command += ["--test-threads", os.environ["JOBS"]]
    environment = dict(os.environ, CI="true", **log.environment(version))
    try:
        done = subprocess.run(
            command, cwd=binary.folder, env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=LONGEST_S, check=False,
        )
        output = done.stdout
    except subprocess.TimeoutExpired as expired:
        output = (expired.stdout or b"").decode(errors="replace")
    results = dict(RESULT.findall(output))
    printed = {}
    for test, text in OUTPUT.findall(output):
        printed[test] = printed.get(test, "") + text
    return [outcome(log, test, results.get(test), printed.get(test, ""), version)
            for test in binary.tests]


def outcome(log, test, result, printed, version):
    """What a test's result and output say."""
    servers = tuple(sorted(set(log.started.findall(printed))))
    if result != "ok":
        return Outcome(test, FAIL, (printed or result or "it did not end").strip(), servers)
    found = NOT_APPLICABLE.search(printed)
    if found:
        return Outcome(test, NOT, found[1].strip())
    if log.is_by_server and servers and version not in servers:
        return Outcome(test, FAIL, f"it started {log.title}{', '.join(servers)} and not {version}")
    return Outcome(test, PASS if servers else UNIT, "", servers)


def of_servers(log, found, version, servers):
    """The servers that an outcome counts for. One without any counts for all."""
    if log.is_by_server:
        return [version]
    return [server for server in servers if not found.servers or server in found.servers]


def table(log, hazards, versions):
    """The lines of the table."""
    width = 4 + max(len(version) for version in versions)
    head = log.letter.upper()
    yield "hazard  " + "".join(version.ljust(width) for version in versions)
    for hazard in hazards.values():
        cells = "".join(hazard.cell(version).ljust(width) for version in versions)
        yield f"{head}-{hazard.number:<5} {cells} {hazard.title}"


def notes(log, hazards, versions):
    """What the table's words leave out: reasons and failures."""
    head = log.letter.upper()
    for hazard in hazards.values():
        if hazard.why:
            since = f" before {hazard.since}" if hazard.applies else ""
            yield f"{head}-{hazard.number}: not applicable{since}: {hazard.why}"
        for version in versions:
            for found in hazard.outcomes.get(version, []):
                if found.state == NOT:
                    yield f"{head}-{hazard.number}: {found.test} on {version}: {found.detail}"
                elif found.state == FAIL:
                    text = "\n    ".join(found.detail.splitlines()[-25:])
                    yield f"{head}-{hazard.number}: FAILED on {version}: {found.test}\n    {text}"


def differential(log, version, first, count, report):
    """The differential test on one server; its figures."""
    command = [sys.executable, "-B", str(ROOT / "tests/proof/differential.py"),
               "--report", str(report), *[str(first + index) for index in range(count)]]
    done = subprocess.run(command, env=dict(os.environ, **log.environment(version)), check=False)
    if done.returncode not in (0, 1):
        die(f"the differential test itself failed on {log.title}{version}")
    return json.loads(report.read_text())


def kill_loop(log, version):
    """The kill loop on one server; whether it holds."""
    command = [sys.executable, "-B", str(ROOT / "tests/proof/kill_loop.py"), "jsonl", "kafka"]
    done = subprocess.run(command, env=dict(os.environ, **log.environment(version)), check=False)
    if done.returncode not in (0, 1):
        die(f"the kill loop itself failed on {log.title}{version}")
    return done.returncode == 0


def hazards_of(log, hazards, binaries, versions):
    """Runs the tests and notes their outcomes; the number of tests, and of those that failed."""
    tests = failed = 0
    # Tests that go through the servers by themselves are run once.
    for version in versions if log.is_by_server else versions[:1]:
        for binary in binaries:
            since = time.monotonic()
            outcomes = run(log, binary, version)
            for found in outcomes:
                tests += 1
                failed += found.state == FAIL
                for number in numbers(log, found.test):
                    for server in of_servers(log, found, version, versions):
                        hazards[number].outcomes.setdefault(server, []).append(found)
            bad = [found.test for found in outcomes if found.state == FAIL]
            words = f"FAILED: {', '.join(bad)}" if bad else "ok"
            where = f"{log.title}{version}" if log.is_by_server else " and ".join(versions)
            say(f"{where}, {binary.name}: {len(outcomes)} tests,"
                f" {time.monotonic() - since:.0f} s, {words}")
    return tests, failed


def main():
    """The command line."""
    log = LOGS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if log is None:
        die(f"one of {' '.join(LOGS)}, and then servers")
    versions = sys.argv[2:] or log.servers
    began = time.monotonic()
    hazards = read_hazards(log)
    tests, failed = hazards_of(log, hazards, build(log), versions)
    seeds, first = int(os.environ.get("SEEDS", "100")), int(os.environ.get("FIRST_SEED", "1"))
    differences, transactions, changes, run_seeds = [], 0, 0, 0
    with tempfile.TemporaryDirectory(prefix="rowtide-proof.") as folder:
        for index, version in enumerate(versions):
            share = seeds
            if log.is_by_server:
                share = seeds // len(versions) + (index < seeds % len(versions))
            if share == 0:
                continue
            report = differential(log, version, first, share, Path(folder) / "report.json")
            first += share if log.is_by_server else 0
            run_seeds += share
            differences += [f"{seed} on {version}" for seed in report["differ"]]
            transactions += report["transactions"]
            changes += report["changes"]
    killed = []
    if os.environ.get("KILL"):
        killed = [version for version in versions if not kill_loop(log, version)]
        tests += len(versions)
    for line in table(log, hazards, versions):
        say(line)
    for line in notes(log, hazards, versions):
        say(line)
    missing = [number for number, hazard in hazards.items()
               if any(hazard.cell(version) == NONE for version in versions)]
    if missing:
        head = log.letter.upper()
        say("without a test: " + ", ".join(f"{head}-{number}" for number in missing))
    say(f"differential test: {run_seeds} seeds, {transactions} transactions, {changes} changes, "
        + (f"DIFFERENT: {', '.join(differences)}" if differences else "no difference"))
    if killed:
        say(f"the kill loop does not hold on {', '.join(killed)}")
    say(json.dumps({
        "proof": log.name, "tests": tests + run_seeds,
        "failed": failed + len(differences) + len(killed),
        "hazards": len(hazards), "without_test": len(missing), "versions": versions,
        "seeds": run_seeds, "differences": len(differences), "changes": changes,
        "seconds": round(time.monotonic() - began),
    }))
    sys.exit(1 if failed or differences or missing or killed else 0)


if __name__ == "__main__":
    main()
