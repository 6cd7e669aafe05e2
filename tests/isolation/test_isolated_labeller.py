"""A batch that loses its device in a child is halved; an image is blamed only for its own row."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import NightlabelError
from pipeline.isolation.bisection import IsolatedLabeller, Labeller
from pipeline.models.backends.base import DeviceLostError

LOST = "cuda:A GPU: CUDA error: an illegal memory access was encountered"
COLUMNS = {"number": pa.int64(), "pixels": pa.int64()}
ERRORS = {"error_code": pa.string(), "error_message": pa.string()}


def rows(count: int) -> pa.Table:
    columns = {"number": range(count), "pixels": range(count)}
    empty = dict.fromkeys(ERRORS, [None] * count)
    return pa.table(columns | empty, schema=pa.schema(COLUMNS | ERRORS))


def _label(poison: int, pixels: pa.Table) -> pa.Table:
    if poison in pixels["number"].to_pylist():
        raise DeviceLostError(LOST)
    return pixels


def _load(poison: int, told: Path, faults: int) -> Labeller:
    """In a child: the first `faults` times the device fails as it loads."""
    before = len(told.read_text())
    told.write_text("x" * (before + 1))
    if before < faults:
        raise DeviceLostError(LOST)
    return partial(_label, poison)


@pytest.fixture
def loading(tmp_path: Path) -> Callable[[int, int], Callable[[], Labeller]]:
    told = tmp_path / "told"
    told.write_text("")
    return lambda poison, faults: partial(_load, poison, told, faults)


Loading = Callable[[int, int], Callable[[], Labeller]]


def test_an_image_that_loses_the_device_costs_its_row(loading: Loading) -> None:
    with IsolatedLabeller(loading(5, 0), lambda row: row) as label:
        found = label(rows(8))
    assert found["number"].to_pylist() == list(range(8))
    lost = f"predicting this image lost its device ({LOST})"
    assert found["error_message"].to_pylist() == [None] * 5 + [lost] + [None] * 2
    assert found["pixels"].null_count == 1


def test_a_device_that_fails_as_a_child_loads_is_no_fault_of_an_image(loading: Loading) -> None:
    with IsolatedLabeller(loading(-1, 2), lambda row: row) as label:
        assert label(rows(1)) == rows(1)


def test_a_device_that_fails_in_each_child_ends_it(loading: Loading, tmp_path: Path) -> None:
    with (
        IsolatedLabeller(loading(-1, 99), lambda row: row, deaths_in_a_row=3) as label,
        pytest.raises(NightlabelError, match=r"keeps ending its process .*illegal memory access"),
    ):
        label(rows(8))
    assert (tmp_path / "told").read_text() == "x" * 4
