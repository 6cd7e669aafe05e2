"""Rows of a batch that end their predictor are found, and cost nobody else a label."""

import os

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.errors import NightlabelError
from pipeline.isolation.bisection import IsolatedLabeller, Labeller

#: The largest batch of a GPU, see pipeline/engine/batch_rows.py.
ROWS = 2048


def mortal() -> Labeller:
    """Ends its process at a row of poison."""

    def label(pixels: pa.Table) -> pa.Table:
        if pc.any(pc.equal(pixels["pixels"], b"poison")).as_py():
            os._exit(1)
        return pixels

    return label


def batch(fatal: list[int]) -> pa.Table:
    pixels = [b"poison" if number in fatal else b"well" for number in range(ROWS)]
    nothing = pa.nulls(ROWS, pa.string())
    columns = {"number": range(ROWS), "pixels": pixels}
    return pa.table(columns | {"error_code": nothing, "error_message": nothing})


def test_the_rows_of_a_large_batch_that_end_a_predictor_are_found() -> None:
    fatal = [0, 1, 2]  # in a row, so more children die before one lives
    with IsolatedLabeller(mortal, lambda rows: rows) as careful:
        labelled = careful(batch(fatal))
        again = careful(batch([]))
    assert labelled["number"].to_pylist() == list(range(ROWS))
    crashed = labelled.filter(pc.is_valid(labelled["error_code"]))
    assert crashed["number"].to_pylist() == fatal
    assert set(crashed["error_code"].to_pylist()) == {"crashed"}
    ended = {"predicting this image ended its process (exit 1)"}
    assert set(crashed["error_message"].to_pylist()) == ended
    assert again.equals(batch([]))


def test_a_batch_of_such_rows_is_no_fault_of_theirs() -> None:
    with (
        IsolatedLabeller(mortal, lambda rows: rows, deaths_in_a_row=3) as careful,
        pytest.raises(NightlabelError, match="the model keeps ending its process"),
    ):
        careful(batch(list(range(ROWS))))
