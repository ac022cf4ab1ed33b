"""Every hazard's tests on every version of the server, and the differential test; a table of both.

    hazards.py [VERSION…]   14 15 16 17 18 without any

SEEDS of the differential test, dealt out over the versions (100); FIRST_SEED (1); JOBS test threads.
A hazard's tests are those whose names begin with its number (h27_…); hazards.toml lists the hazards.
A test that does not apply to a version prints `not applicable: REASON`.
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

VERSIONS = ["14", "15", "16", "17", "18"]
NUMBERS = re.compile(r"(?:h\d\d_)+")
LISTED = re.compile(r"^(\S+): test$", re.MULTILINE)
RESULT = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)", re.MULTILINE)
OUTPUT = re.compile(r"^---- (\S+) (?:stdout|stderr) ----\n(.*?)(?=^---- |^failures:|^successes:|\Z)",
                    re.MULTILINE | re.DOTALL)
STARTED = re.compile(r"^PostgreSQL (\d+) started$", re.MULTILINE)
NOT_APPLICABLE = re.compile(r"not applicable: (.+)")
LONGEST_S = 1800

PASS, FAIL, UNIT, NOT, NONE = "pass", "FAIL", "unit", "n/a", "none"


@dataclass
class Binary:
    """A test program and the hazards' tests in it."""

    path: str
    folder: str
    name: str
    tests: list


@dataclass
class Outcome:
    """What became of one test on one version."""

    test: str
    state: str
    detail: str = ""


@dataclass
class Hazard:
    """One line of hazards.toml, and its outcomes by version."""

    number: int
    title: str
    applies: bool = True
    since: int = 0
    why: str = ""
    outcomes: dict = field(default_factory=dict)

    def cell(self, version):
        """The word in the table for a version."""
        if not self.applies or int(version) < self.since:
            return NOT
        found = [outcome.state for outcome in self.outcomes.get(version, [])]
        for state in (FAIL, PASS, UNIT, NOT):
            if state in found:
                return state
        return NONE


def numbers(test):
    """The hazards that a test's name tells of."""
    found = NUMBERS.match(test.rsplit("::", 1)[-1])
    return [int(number) for number in re.findall(r"\d\d", found[0])] if found else []


def read_hazards():
    """The list; each number once, in order."""
    text = (ROOT / "tests/proof/hazards.toml").read_text()
    hazards = [Hazard(**entry) for entry in tomllib.loads(text)["hazard"]]
    if [hazard.number for hazard in hazards] != list(range(1, len(hazards) + 1)):
        die("hazards.toml leaves a number out or names it twice")
    return {hazard.number: hazard for hazard in hazards}


def build():
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
        tests = [name for name in LISTED.findall(listed.stdout) if numbers(name)]
        if tests:
            binaries.append(Binary(path, folder, message["target"]["name"], tests))
    return binaries


def run(binary, version):
    """Runs a program's tests of hazards on one version."""
    command = [binary.path, *binary.tests, "--exact", "--show-output"]
    if os.environ.get("JOBS"):
        command += ["--test-threads", os.environ["JOBS"]]
    environment = dict(os.environ, CI="true", ROWTIDE_TEST_POSTGRES=version)
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
    return [outcome(test, results.get(test), printed.get(test, ""), version)
            for test in binary.tests]


def outcome(test, result, printed, version):
    """What a test's result and output say."""
    if result != "ok":
        return Outcome(test, FAIL, (printed or result or "it did not end").strip())
    found = NOT_APPLICABLE.search(printed)
    if found:
        return Outcome(test, NOT, found[1].strip())
    servers = set(STARTED.findall(printed))
    if servers and version not in servers:
        other = ", ".join(sorted(servers))
        return Outcome(test, FAIL, f"it started PostgreSQL {other} and not {version}")
    return Outcome(test, PASS if servers else UNIT)


def table(hazards, versions):
    """The lines of the table."""
    width = 4 + max(len(version) for version in versions)
    yield "hazard  " + "".join(version.ljust(width) for version in versions)
    for hazard in hazards.values():
        cells = "".join(hazard.cell(version).ljust(width) for version in versions)
        yield f"H-{hazard.number:<5} {cells} {hazard.title}"


def notes(hazards, versions):
    """What the table's words leave out: reasons and failures."""
    for hazard in hazards.values():
        if hazard.why:
            since = f" before {hazard.since}" if hazard.applies else ""
            yield f"H-{hazard.number}: not applicable{since}: {hazard.why}"
        for version in versions:
            for found in hazard.outcomes.get(version, []):
                if found.state == NOT:
                    yield f"H-{hazard.number}: {found.test} on {version}: {found.detail}"
                elif found.state == FAIL:
                    text = "\n    ".join(found.detail.splitlines()[-25:])
                    yield f"H-{hazard.number}: FAILED on {version}: {found.test}\n    {text}"


def differential(version, first, count, report):
    """The differential test on one version; the number of seeds that differed."""
    command = [sys.executable, "-B", str(ROOT / "tests/proof/differential.py"),
               "--report", str(report), *[str(first + index) for index in range(count)]]
    done = subprocess.run(command, env=dict(os.environ, PG=version), check=False)
    if done.returncode not in (0, 1):
        die(f"the differential test itself failed on PostgreSQL {version}")
    return json.loads(report.read_text())


def main():
    """The command line."""
    versions = sys.argv[1:] or VERSIONS
    began = time.monotonic()
    hazards = read_hazards()
    binaries = build()
    tests = failed = 0
    for version in versions:
        for binary in binaries:
            since = time.monotonic()
            outcomes = run(binary, version)
            for found in outcomes:
                tests += 1
                failed += found.state == FAIL
                for number in numbers(found.test):
                    hazards[number].outcomes.setdefault(version, []).append(found)
            bad = [found.test for found in outcomes if found.state == FAIL]
            words = f"FAILED: {', '.join(bad)}" if bad else "ok"
            say(f"PostgreSQL {version}, {binary.name}: {len(outcomes)} tests,"
                f" {time.monotonic() - since:.0f} s, {words}")
    seeds, first = int(os.environ.get("SEEDS", "100")), int(os.environ.get("FIRST_SEED", "1"))
    differences, transactions, changes = [], 0, 0
    with tempfile.TemporaryDirectory(prefix="rowtide-proof.") as folder:
        for index, version in enumerate(versions):
            share = seeds // len(versions) + (index < seeds % len(versions))
            if share == 0:
                continue
            report = differential(version, first, share, Path(folder) / "report.json")
            first += share
            differences += [f"{seed} on {version}" for seed in report["differ"]]
            transactions += report["transactions"]
            changes += report["changes"]
    for line in table(hazards, versions):
        say(line)
    for line in notes(hazards, versions):
        say(line)
    missing = [number for number, hazard in hazards.items()
               if any(hazard.cell(version) == NONE for version in versions)]
    if missing:
        say("without a test: " + ", ".join(f"H-{number}" for number in missing))
    say(f"differential test: {seeds} seeds, {transactions} transactions, {changes} changes, "
        + (f"DIFFERENT: {', '.join(differences)}" if differences else "no difference"))
    say(json.dumps({
        "proof": "pg", "tests": tests + seeds, "failed": failed + len(differences),
        "hazards": len(hazards), "without_test": len(missing), "versions": versions,
        "seeds": seeds, "differences": len(differences), "changes": changes,
        "seconds": round(time.monotonic() - began),
    }))
    sys.exit(1 if failed or differences or missing else 0)


if __name__ == "__main__":
    main()
