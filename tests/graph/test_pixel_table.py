"""Every ref leaves as one row, in refs' order, whatever came first."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline import schema
from pipeline.errors import ErrorCode, ImageError, TransientError
from pipeline.graph.pixel_table import Pixels
from pipeline.tasks.rows import image_array
from tests.store.test_ledger import refs


def image(value: int) -> np.ndarray:
    return np.full((4, 6, 3), value, np.uint8)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_rows_keep_the_order_of_their_refs(order: list[int]) -> None:
    asked = refs(["a", "b", "c", "d"])
    pixels = Pixels(asked, 4, 6)
    for index in order:
        if index == 1:
            pixels.fail(index, ImageError(ErrorCode.EMPTY, "no bytes"))
        elif index == 2:
            pixels.fail(index, TransientError("slow down"))
        else:
            pixels.put(index, image(index), 60, 40, "png")
    table = pixels.table()
    table.validate(full=True)
    assert table.schema == schema.PIXELS
    assert table["uri"] == asked["uri"]
    assert table["error_code"].to_pylist() == [None, "empty", "transient", None]
    assert table["width"].to_pylist() == [60, None, None, 60]
    assert table["pixels"].to_pylist() == [
        image(0).tobytes(),
        None,
        None,
        image(3).tobytes(),
    ]
    found = image_array(table["pixels"], (4, 6, 3))
    assert found[:, 0, 0, 0].tolist() == [0, 3]


def test_a_part_of_the_rows_is_a_table_once_it_is_whole() -> None:
    asked = refs(["a", "b", "c", "d", "e"])
    pixels = Pixels(asked, 4, 6)
    assert pixels.lacks(0, 2)
    for index in (4, 1, 2):
        pixels.put(index, image(index), 60, 40, "png")
        assert pixels.lacks(0, 2)
    pixels.fail(0, ImageError(ErrorCode.EMPTY, "no bytes"))
    assert (pixels.lacks(0, 2), pixels.lacks(2, 2), pixels.lacks(4, 2)) == (False, True, False)
    pixels.put(3, image(3), 60, 40, "png")
    parts = [pixels.table(start, 2) for start in (0, 2, 4)]
    assert [part.num_rows for part in parts] == [2, 2, 1]
    assert pa.concat_tables(parts) == pixels.table()
    for part in parts:
        part.validate(full=True)


def test_a_ref_that_came_to_nothing_is_an_error() -> None:
    pixels = Pixels(refs(["a", "b"]), 4, 6)
    pixels.put(0, image(0), 1, 1, "png")
    with pytest.raises(ValueError, match="1 refs have no outcome"):
        pixels.table()


def test_no_refs_are_no_rows() -> None:
    table = Pixels(refs([]), 4, 6).table()
    assert (table.num_rows, table.schema) == (0, schema.PIXELS)


def test_whole_batches_are_not_copied() -> None:
    pixels = Pixels(refs([1, 2]), 4, 6)
    for index in range(2):
        pixels.put(index, image(index), 6, 4, "png")
    [chunk] = pixels.table()["pixels"].chunks
    assert chunk.buffers()[2].address == pixels._buffer.ctypes.data
    assert isinstance(chunk, pa.LargeBinaryArray)
