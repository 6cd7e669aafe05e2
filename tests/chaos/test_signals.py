"""Every way to stop a run before its end: its exit code, its rows, its summary, the next run."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.graph.progress import STAGES
from pipeline.store.runs import RunSummary, load_runs
from tests.integration.conftest import Archive, Ran, command, measure, nightlabel, uris_of
from tests.parts.models.tiny import archive
from tests.parts.servers.faults import FaultProxy, faulty
from tests.parts.servers.s3 import S3Server

pytestmark = [pytest.mark.s3, pytest.mark.ray]

#: Where a run is when this request is on its way: rules of the proxy.
CHECK = {"method": "GET", "path": "list-type=2&prefix=photos"}
START = {"method": "PUT", "path": "/_nightlabel/runs/"}
LISTING = {"method": "GET", "path": "list-type=2&prefix=photos", "skip": 2}
MERGE = {"method": "PUT", "path": "/labels/recipe(=|%3D)"}


def label(found: Archive, model: Path, *more: object) -> list[object]:
    return ["label", found.src, found.dst, "--model", model, "--json", *more]


def last_run(found: Archive) -> RunSummary:
    return list(load_runs(found.folder))[-1]


def completes(found: Archive, job: list[object], run: Callable[..., Ran] = nightlabel) -> None:
    rest = run(*job)
    assert rest.code == 0, rest.err
    assert uris_of(found.delta()) == uris_of(found.plain()) == found.uris()


def stopped(
    job: list[object], proxy: FaultProxy, moment: dict[str, Any], *numbers: int
) -> tuple[Ran, float]:
    """A run of `job` that is sent `numbers` at `moment`; how it ended, and how long after that."""
    process: list[subprocess.Popen[str]] = []
    sent: list[float] = []

    def send(_: str) -> None:
        sent.append(time.monotonic())
        for number in numbers:
            process[0].send_signal(number)
            time.sleep(0.5)  # what asked waits: the signal finds the run in this very stage

    proxy.rules.clear()
    proxy.rule(**moment, times=1, before=send)
    process.append(
        subprocess.Popen(
            command(*job),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **proxy.env},
        )
    )
    process[0].wait(300)
    took = time.monotonic()
    out, err = process[0].communicate()
    assert sent, err
    return Ran(process[0].returncode, out, err), took - sent[0]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.chaos),
    ],
    ids=["TERM", "INT"],
)
def test_a_signal_at_every_stage(
    here: Callable[..., Ran], s3: S3Server, number: signal.Signals, code: int
) -> None:
    """While it checks, before Ray, while that starts, and in the merge; the next run goes on."""
    found = Archive(s3, archive(60))
    job = measure(found)  # none of these stages knows a network
    with faulty(s3) as proxy:
        early, took = stopped(job, proxy, CHECK, number)
        assert (early.code, took < 10) == (code, True), early.err
        assert list(found.folder.list()) == []

        starting, took = stopped(job, proxy, START, number)
        assert (starting.code, took < 10) == (code, True), starting.err
        assert found.delta().num_rows == 0
        assert found.folder.stat("_nightlabel/lease.json") is None
        assert last_run(found).exit_code == code

        process = subprocess.Popen(command(*job), stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        while STAGES["starting"] not in process.stderr.readline():
            assert process.poll() is None
        sent = time.monotonic()
        process.send_signal(number)
        process.wait(60)
        assert (process.returncode, time.monotonic() - sent < 10) == (code, True)
        process.communicate()
        assert found.delta().num_rows == 0

        merging, took = stopped(job, proxy, MERGE, number)
        assert (merging.code, took < 10) == (code, True), merging.err
        assert uris_of(found.delta()) == found.uris()
        assert last_run(found).status == json.loads(merging.out)["status"] == "interrupted"
        assert last_run(found).counts.labelled == 60
        for ended in (early, starting, merging):
            assert "Traceback" not in ended.err
    completes(found, job, here)
    assert last_run(found).counts.done == 60


@pytest.mark.chaos
@pytest.mark.parametrize("numbers", [(signal.SIGTERM,), (signal.SIGTERM, signal.SIGTERM)])
def test_a_signal_while_tasks_list(
    s3: S3Server, tiny_model: Path, numbers: tuple[int, ...]
) -> None:
    """Once is stopped in good order; twice in a row ends at once, with the same code."""
    found = Archive(s3, archive(60) | {f"t/{n:04}.txt": b"no image" for n in range(1100)})
    images = [uri for uri in found.uris() if uri.endswith(".jpg")]
    with faulty(s3) as proxy:
        moment = {"method": "GET", "path": "list-type=2&prefix=photos.*start-after", "skip": 1}
        ended, took = stopped(label(found, tiny_model), proxy, moment, *numbers)
    assert (ended.code, took < 10) == (143, True), ended.err
    assert "Traceback" not in ended.err
    assert last_run(found).status == "interrupted"
    assert len(set(uris_of(found.delta()))) == found.delta().num_rows
    rest = nightlabel(*label(found, tiny_model))
    assert rest.code == 0, rest.err
    assert uris_of(found.delta()) == uris_of(found.plain()) == images


@pytest.mark.chaos
def test_a_signal_while_the_store_hangs(s3: S3Server, tiny_model: Path) -> None:
    """The write of a part is not answered: the run does not wait for it."""
    found = Archive(s3, archive(60))
    with faulty(s3) as proxy:
        moment = {"method": "PUT", "path": "/_parts/"}
        proxy.rules.clear()
        ended, took = stopped(label(found, tiny_model), proxy, moment | {"after": _hang(60)}, 15)
    assert (ended.code, took < 10) == (143, True), ended.err
    completes(found, label(found, tiny_model))


def _hang(seconds: float) -> Callable[[str], None]:
    return lambda _: time.sleep(seconds)


@pytest.mark.chaos
def test_a_number_of_errors_is_a_gate_too(s3: S3Server, tiny_model: Path) -> None:
    broken = {f"a/broken{n}.jpg": b"no image" for n in range(12)}
    found = Archive(s3, archive(200) | broken)
    gate = nightlabel(*label(found, tiny_model, "--max-errors", 11, "--commit-seconds", 1))
    assert gate.code == 3, gate.err
    summary = last_run(found)
    assert (summary.status, summary.exit_code) == ("gate", 3)
    assert (summary.reason or "").startswith("12 errors, over the 11 allowed of ")
    assert found.delta().num_rows == summary.counts.labelled + summary.counts.failed > 11
    within = nightlabel(*label(found, tiny_model, "--max-errors", 12, "--retry-errors"))
    assert within.code == 0, within.err
    assert within.json["counts"]["retried"] == 12
    assert uris_of(found.delta()) == uris_of(found.plain()) == found.uris()


@pytest.mark.chaos
def test_a_deadline_before_anything_is_labelled(s3: S3Server, tiny_model: Path) -> None:
    found = Archive(s3, archive(60))
    late = nightlabel(*label(found, tiny_model, "--deadline", "1s"))
    assert late.code == 4, late.err
    assert (last_run(found).status, last_run(found).exit_code) == ("incomplete", 4)
    soft = nightlabel(*label(found, tiny_model, "--deadline", "1s", "--partial-ok"))
    assert (soft.code, soft.json["status"]) == (0, "incomplete")
    assert soft.json["reason"] == "the deadline was reached"
    completes(found, label(found, tiny_model))


@pytest.mark.chaos
def test_a_deadline_by_the_clock(s3: S3Server, slow_model: Path) -> None:
    found = Archive(s3, archive(8000))
    # A deadline is a whole minute: begin as long before it as Ray may take to start.
    while not 25 <= (now := datetime.now().astimezone()).second < 35:
        time.sleep(1)
    at = (now + timedelta(minutes=1)).replace(second=0, microsecond=0)
    ran = nightlabel(*label(found, slow_model, "--deadline", f"{at:%H:%M}", "--commit-seconds", 1))
    after = datetime.now().astimezone() - at
    assert ran.code == 4, ran.err
    assert timedelta(0) <= after < timedelta(seconds=15)
    assert ran.json["reason"] == "the deadline was reached"
    assert found.delta().num_rows == ran.json["counts"]["labelled"] < 8000
    assert len(set(uris_of(found.delta()))) == found.delta().num_rows
