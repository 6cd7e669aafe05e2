"""Steps one after another, each with a time limit; one that fails is told, the others go on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import report
from tests.parts.archives.real_archives import ROOT

#: A step that is out of time may tidy up for so long.
GRACE = 10.0
LINES = 3


@dataclass(frozen=True)
class Step:
    """A command and the seconds that it may take. `tests`: it is pytest, whose last line tells."""

    name: str
    seconds: float
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    tests: bool = False


@dataclass(frozen=True)
class Group:
    """Steps whose rows are one table. `left`: columns of words. `note` stands below the title."""

    title: str
    head: Sequence[str]
    steps: Sequence[Step]
    note: str = ""
    left: int = 1


@dataclass(frozen=True)
class Outcome:
    """`found`: what a step printed; or `failure`, why there is none."""

    step: Step
    took: float
    found: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""


def ran(step: Step, until: float) -> Outcome:
    """In a process of its own, to its limit or to `until`, by `time.monotonic`."""
    began = time.monotonic()
    limit = min(step.seconds, until - began - GRACE)
    if limit <= 0:
        return Outcome(step, 0.0, failure="not run: no time was left")
    process = subprocess.Popen(
        step.command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, **step.env},
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        said = _ended(process)
        failure = f"out of time after {limit:.0f} s"
        return Outcome(step, time.monotonic() - began, failure=f"{failure}{_last(said)}")
    took = time.monotonic() - began
    if step.tests:
        words, passed = verdict(said)
        rows = {"rows": [[step.name, words]]}
        good = passed and process.returncode == 0
        return Outcome(step, took, rows, "" if good else f"failed: {words}")
    if process.returncode:
        return Outcome(step, took, failure=f"ended with {process.returncode}{_last(said)}")
    return Outcome(step, took, json.loads(said.splitlines()[-1]))


def verdict(said: str) -> tuple[str, bool]:
    """pytest's last line, and whether something was run and nothing failed."""
    found = re.findall(r"^=*\s*((?:\d+ \w+(?:, )?)+) in [\d.]+s", said, re.MULTILINE)
    if not found:
        return "no result", False
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", found[-1])}
    bad = counts.get("failed", 0) + counts.get("error", 0) + counts.get("errors", 0)
    return found[-1], not bad and bool(counts.get("passed") or counts.get("skipped"))


def all_of(
    groups: Iterable[Group], seconds: float, say: Callable[[str], None]
) -> list[tuple[Group, list[Outcome]]]:
    until = time.monotonic() + seconds
    found = list[tuple[Group, list[Outcome]]]()
    for group in groups:
        outcomes = list[Outcome]()
        for step in group.steps:
            outcome = ran(step, until)
            outcomes.append(outcome)
            say(f"{step.name}: {outcome.failure or 'done'}, {outcome.took:.0f} s")
        found.append((group, outcomes))
    return found


def told(group: Group, outcomes: Sequence[Outcome]) -> str:
    """The group as Markdown: its table, and what failed."""
    rows = [row for one in outcomes if not one.failure for row in one.found.get("rows", ())]
    parts = [f"### {group.title}", group.note]
    parts += [report.table(group.head, rows, left=group.left)] if rows else []
    failed = [f"- **{one.step.name}**: {one.failure}" for one in outcomes if one.failure]
    parts += ["\n".join(failed)]
    return "\n\n".join(part for part in parts if part)


def step_of(rig: str, name: str, title: str, seconds: float, argument: str = "") -> Step:
    command = [sys.executable, "-m", "benchmarks.acceptance.steps", rig, name, argument]
    return Step(title, seconds, command)


def pytest_of(title: str, seconds: float, *options: str) -> Step:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    return Step(title, seconds, command, tests=True)


def _ended(process: "subprocess.Popen[str]") -> str:
    """Its output, once its whole group has ended."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        said, _ = process.communicate(timeout=GRACE / 2)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
    return said


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "".join(f"; {line}" for line in lines[-LINES:])[:600]
