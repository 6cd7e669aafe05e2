"""Vectors as a column: rounding, what does not fit, how near is near enough."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from pipeline.errors import BadModelError
from pipeline.tasks import vectors


def some(count: int = 4, dim: int = 8, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 3, (count, dim)).astype(np.float32)


def row(vector: Any, precision: str = "fp32") -> dict[str, Any]:
    return {"uri": "a.jpg", "embedding": vector, "precision": precision}


def test_numbers_are_those_of_half_floats_in_a_list_of_floats() -> None:
    found, exact = some(), vectors.vector_array(some(), "float32")
    halves = vectors.vector_array(found, "float16")
    assert halves.type == exact.type == vectors.COLUMN.type
    np.testing.assert_array_equal(vectors.matrix(exact), found)
    np.testing.assert_array_equal(vectors.matrix(halves), found.astype(np.float16))
    assert vectors.vector_array(found[:0], "float16").to_pylist() == []


def test_what_half_floats_cannot_hold_says_the_way_out() -> None:
    large = some()
    large[2, 3] = 70_000
    with pytest.raises(BadModelError, match="--vector-dtype float32"):
        vectors.vector_array(large, "float16")
    assert vectors.vector_array(large, "float32")[2].as_py()[3] == 70_000
    large[2, 3] = np.nan
    with pytest.raises(BadModelError, match="not finite, in fp32 as well"):
        vectors.vector_array(large, "float32")


def test_a_stored_column_is_rounded_and_keeps_its_nulls() -> None:
    found = some()
    place = pa.array([0, None, 1, 2, None])
    column = pa.chunked_array(
        [vectors.vector_array(found, "float32").take(place), pa.array([None], vectors.COLUMN.type)]
    )
    halves = vectors.halved(column)
    assert halves.type == vectors.COLUMN.type
    assert halves.is_valid().to_pylist() == [True, False, True, True, False, False]
    np.testing.assert_array_equal(
        vectors.matrix(halves.drop_null()), found[:3].astype(np.float16).astype(np.float32)
    )


@pytest.mark.parametrize(
    ("spoil", "precision", "decode", "agrees"),
    [
        (lambda v: v, "fp32", "exact", True),
        (vectors.rounded, "fp32", "exact", True),
        (lambda v: v * 1.001, "fp32", "exact", True),
        (lambda v: v * 1.05, "fp32", "exact", False),
        (lambda v: v * 1.05, "fp32", "fast", True),
        (lambda v: v * 2, "int8", "fast", False),
        (lambda v: -v, "fp32", "exact", False),
        (lambda v: v[::-1], "int8", "fast", False),
        (lambda v: v + 0.1 * some(1, 64, 9)[0], "fp32", "exact", False),
        (lambda v: v + 0.1 * some(1, 64, 9)[0], "bf16", "exact", True),
        (lambda v: v + 0.1 * some(1, 64, 9)[0], "fp32", "fast", True),
        (lambda v: np.zeros_like(v), "fp32", "exact", False),
        (lambda v: v[:-1], "fp32", "exact", False),
        (lambda v: v + np.nan, "fp32", "exact", False),
    ],
)
def test_agreement(spoil: Any, precision: str, decode: str, agrees: bool) -> None:
    truth = some(1, 64)[0]
    stored = row(spoil(truth).astype(np.float32).tolist(), precision)
    found = vectors.difference(stored, truth, decode)
    assert (found is None) == agrees
    if found is not None:
        assert found.words().startswith("a.jpg")
        assert "\n" not in found.words()


@pytest.mark.parametrize("stored", [None, [None] * 64, []])
def test_what_is_no_vector_agrees_with_nothing(stored: Any) -> None:
    found = vectors.difference(row(stored), some(1, 64)[0], "exact")
    assert found is not None
    assert "no vector" in found.words()


def test_two_vectors_of_nothing_are_the_same() -> None:
    assert vectors.difference(row([0.0] * 8), np.zeros(8, np.float32), "exact") is None


def test_summary() -> None:
    column = vectors.vector_array(np.array([[3, 4], [6, 8]], np.float32), "float32")
    rows = pa.table({"embedding": column.take(pa.array([0, None, 1]))})
    assert vectors.summary(rows) == "dim 2, mean norm 7.5"
    assert vectors.summary(rows.slice(1, 1)) == "none"
