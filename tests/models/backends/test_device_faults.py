"""Errors of a device, by their words, from wherever they show."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.models.backends.base import DeviceLostError
from pipeline.models.backends.transfer import Results, Transfer
from tests.models import tiny
from tests.models.backends.test_torch_engine import load

#: Words of PyTorch, and of what is below it, at an error.
LOST = (
    "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be",
    "CUDA error: device-side assert triggered",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "Triton Error [CUDA]: an illegal instruction was encountered",
    "HIP error: unspecified launch failure",
    "No CUDA GPUs are available",
    "CUDA unknown error - this may be due to an incorrectly set up environment",
)
NO_MEMORY = (
    "CUDA out of memory. Tried to allocate 2 MiB",
    "CUDA error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
)
#: Where it comes out: a copy to the device, a computation, or the wait for results.
POINTS = ("Transfer.batches", "Results.__init__", "Results.wait")


def _fails_once(monkeypatch: pytest.MonkeyPatch, point: str, error: Exception) -> None:
    kind, _, name = point.partition(".")
    owner = {"Transfer": Transfer, "Results": Results}[kind]
    plain, left = getattr(owner, name), [error]

    def call(*arguments: Any) -> Any:
        if left:
            raise left.pop()
        return plain(*arguments)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("words", LOST)
def test_a_lost_device_is_told_from_wherever_it_shows(
    vit: Path, monkeypatch: pytest.MonkeyPatch, point: str, words: str
) -> None:
    engine = load(vit)
    _fails_once(monkeypatch, point, RuntimeError(words))
    with pytest.raises(DeviceLostError, match=re.escape(words.splitlines()[0])):
        engine.predict(tiny.images(9))


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("words", NO_MEMORY)
def test_no_memory_halves_the_batch_from_wherever_it_shows(
    vit: Path, monkeypatch: pytest.MonkeyPatch, point: str, words: str
) -> None:
    engine, pixels = load(vit), tiny.images(9)
    expected = engine.predict(pixels)
    _fails_once(monkeypatch, point, RuntimeError(words))
    indices, scores = engine.predict(pixels)
    assert engine.batch_size == 2
    np.testing.assert_array_equal(indices, expected[0])
    np.testing.assert_allclose(scores, expected[1], rtol=0, atol=1e-6)


def test_a_device_lost_while_the_exact_network_loads_is_told(
    vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the few rows that overflow: in the midst of a night."""
    engine = load(vit, precision="bf16")

    def fails(*_: object) -> Any:
        raise RuntimeError(LOST[0])

    monkeypatch.setattr("pipeline.models.backends.torch_engine.load_weights", fails)
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        _ = engine.exact


def test_a_mistake_of_ours_is_no_fault_of_a_device(
    vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(vit)
    _fails_once(monkeypatch, "Results.wait", RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        engine.predict(tiny.images(1))
