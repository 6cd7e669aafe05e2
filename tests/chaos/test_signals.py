"""Signals while a run starts and while it lists: its exit code, its rows, its summary."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.store.runs import RunSummary, load_runs
from tests.integration.conftest import Archive, Ran, command, nightlabel, uris_of
from tests.parts.faults import FaultProxy, faulty
from tests.parts.s3 import S3Server
from tests.parts.tiny import archive

pytestmark = pytest.mark.s3

#: Where a run is when this request is on its way: rules of the proxy.
CHECK = {"method": "GET", "path": "list-type=2&prefix=photos"}
START = {"method": "PUT", "path": "/_nightlabel/runs/"}


def label(found: Archive, model: Path, *more: object) -> list[object]:
    return ["label", found.src, found.dst, "--model", model, "--json", *more]


def last_run(found: Archive) -> RunSummary:
    return list(load_runs(found.folder))[-1]


def stopped(
    found: Archive, model: Path, proxy: FaultProxy, moment: dict[str, Any], *numbers: int
) -> tuple[Ran, float]:
    """A run that is sent `numbers` at `moment`; how it ended, and how long after that."""
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
            command(*label(found, model)),
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
def test_a_signal_before_anything_is_labelled(
    s3: S3Server, tiny_model: Path, number: signal.Signals, code: int
) -> None:
    """While it checks, before Ray, and while that starts: no row yet, and no traceback."""
    found = Archive(s3, archive(60))
    with faulty(s3) as proxy:
        early, took = stopped(found, tiny_model, proxy, CHECK, number)
        assert (early.code, took < 10) == (code, True), early.err
        assert list(found.folder.list()) == []

        starting, took = stopped(found, tiny_model, proxy, START, number)
        assert (starting.code, took < 10) == (code, True), starting.err
        assert found.delta().num_rows == 0
        assert found.folder.stat("_nightlabel/lease.json") is None
        assert last_run(found).exit_code == code

        process = subprocess.Popen(
            command(*label(found, tiny_model)), stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        while process.stderr.readline() != "starting\n":
            assert process.poll() is None
        sent = time.monotonic()
        process.send_signal(number)
        process.wait(60)
        assert (process.returncode, time.monotonic() - sent < 10) == (code, True)
        process.communicate()
        assert found.delta().num_rows == 0

        for ended in (early, starting):
            assert "Traceback" not in ended.err


@pytest.mark.chaos
def test_two_signals_while_tasks_list(s3: S3Server, tiny_model: Path) -> None:
    """The second ends the run at once, with the code of the first."""
    found = Archive(s3, archive(60) | {f"t/{n:04}.txt": b"no image" for n in range(1100)})
    images = [uri for uri in found.uris() if uri.endswith(".jpg")]
    with faulty(s3) as proxy:
        moment = {"method": "GET", "path": "list-type=2&prefix=photos.*start-after", "skip": 1}
        ended, took = stopped(found, tiny_model, proxy, moment, signal.SIGTERM, signal.SIGTERM)
    assert (ended.code, took < 10) == (143, True), ended.err
    assert "Traceback" not in ended.err
    assert last_run(found).status == "interrupted"
    assert not last_run(found).listing_complete
    assert len(set(uris_of(found.delta()))) == found.delta().num_rows
    rest = nightlabel(*label(found, tiny_model))
    assert rest.code == 0, rest.err
    assert uris_of(found.delta()) == uris_of(found.plain()) == images
