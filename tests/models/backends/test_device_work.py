"""When a device worked, as the engine measures it."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.models.backends.device_time import DeviceTime
from pipeline.models.backends.transfer import Work, _CudaWork
from tests.models import tiny
from tests.models.backends.test_torch_engine import load


def test_the_time_of_a_device_is_measured_for_who_asks(
    vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, pixels = load(vit), tiny.images(40)
    marks, mark = list[int](), Work.mark
    monkeypatch.setattr(Work, "mark", lambda work: (marks.append(1), mark(work)))
    engine.predict(pixels)
    assert marks == []
    began = time.perf_counter()
    device = DeviceTime(3)

    def call(part: np.ndarray) -> None:
        with device.call():
            engine.predict(part)

    with ThreadPoolExecutor(3) as callers:
        list(callers.map(call, np.split(pixels, 8)))
    seconds = device.take()
    took = time.perf_counter() - began
    assert len(marks) == 2 * 8 * 2  # eight calls of two batches
    assert 0 < seconds["works"] < sum(seconds.values()) <= took


class Passed:
    """A timing event, passed at a moment of the device's clock."""

    def __init__(self, milliseconds: float) -> None:
        self.at = milliseconds

    def elapsed_time(self, later: "Passed") -> float:
        return later.at - self.at


def test_events_of_a_gpu_become_times_of_the_host() -> None:
    work = _CudaWork()
    work._events = [Passed(at) for at in (1000, 1020, 1025, 1050)]  # type: ignore[misc]
    spans = work.spans(Passed(1060), 7.0)  # type: ignore[arg-type]
    np.testing.assert_allclose(spans, [(6.94, 6.96), (6.965, 6.99)])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_tells_when_it_worked(vit: Path) -> None:
    engine, pixels = load(vit, batch_size=64), tiny.images(1000)
    engine.predict(pixels)
    device, began = DeviceTime(1), time.perf_counter()
    with device.call():
        engine.predict(pixels)
    seconds = device.take()
    assert 0 < seconds["works"] < sum(seconds.values()) <= time.perf_counter() - began
