"""Benchmarks add up: where they tell an account of time, it is all there."""

import os
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.account import NOBODY, account
from benchmarks.device import AHEAD, Calls, Device
from benchmarks.race import Contender
from pipeline.models.backends.torch_engine import CUDA_BATCH

#: Takes two seconds of a core between the first row and the last of 11: 200 ms for each of ten.
BUSY = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
first, end = datetime.now(UTC), time.thread_time() + 2
while time.thread_time() < end: pass
Path(sys.argv[1]).mkdir()
times = pa.array([first] + 10 * [datetime.now(UTC)])
pq.write_table(pa.table({"labelled_at": times}), Path(sys.argv[1]) / "0.parquet")
"""


def test_an_account_tells_who_took_the_cores_and_what_nobody_took(tmp_path: Path) -> None:
    contender = Contender("busy", lambda images, model, out: [sys.executable, "-c", BUSY, out])
    spent = account(contender, tmp_path, tmp_path)
    assert spent["driver"] == pytest.approx(200, rel=0.6)  # looks are half a second apart, or more
    assert spent[NOBODY] >= 200 * (os.cpu_count() or 1) - spent["driver"] - 1


def test_a_contender_that_fails_has_no_account_and_says_why(tmp_path: Path) -> None:
    fails = Contender("fails", lambda *_: [sys.executable, "-c", "raise SystemExit('no disk')"])
    with pytest.raises(RuntimeError, match="ended with 1:\nno disk"):
        account(fails, tmp_path, tmp_path)


ROWS = 50


def calls_of(spans: dict[str, tuple[float, float]], seconds: float) -> Calls:
    """Devices that work without a pause from a time to another, a call every `seconds`."""
    calls = Calls()
    for device, (since, until) in spans.items():
        for n in range(round((until - since) / seconds)):
            calls.add(device, ROWS, since + n * seconds, since + (n + 1) * seconds, 0)
    return calls


def test_devices_that_never_wait_are_busy_at_their_rate() -> None:
    rate, busy = calls_of({"one": (1000.05, 1030.05), "two": (1003.0, 1030.0)}, 0.25).steady()
    assert busy == pytest.approx(1.0, abs=0.01)
    assert rate == pytest.approx(2 * ROWS / 0.25, rel=0.05)


def test_a_device_that_waits_is_not_busy_and_the_start_does_not_count() -> None:
    calls = calls_of({"one": (0.0, 60.0)}, 0.5)
    calls.add("two", ROWS, 0.0, 0.5, 0)
    for second in range(30, 60):
        calls.add("two", ROWS, second, second + 0.5, 0)
    rate, busy = calls.steady()
    assert busy == pytest.approx(0.75, abs=0.02)
    assert rate == pytest.approx(150, rel=0.05)


def test_devices_that_never_work_side_by_side_are_no_measurement() -> None:
    with pytest.raises(ValueError, match="too few images"):
        calls_of({"one": (0.0, 1.0), "two": (2.0, 3.0)}, 0.5).steady()


def test_a_simulated_device_makes_its_rate_and_holds_only_so_many_batches() -> None:
    device, batches = Device(10_000.0, 8), AHEAD + 2
    began = time.time()
    device.predict(np.zeros((batches * CUDA_BATCH, *device.image_shape), np.uint8))
    spans = device.here.spans
    assert sum(rows for rows, _, _ in spans) == batches * CUDA_BATCH
    assert all(
        over - start == pytest.approx(CUDA_BATCH / 10_000, abs=1e-5) for _, start, over in spans
    )
    assert all(one[2] <= next_one[1] for one, next_one in pairwise(spans))
    assert began <= spans[0][1]
    assert time.time() >= spans[-1][2]
