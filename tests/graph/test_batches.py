"""Batches as rows: nothing changes on the way, and nothing is copied."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from pipeline import schema
from pipeline.errors import ErrorCode, ImageError
from pipeline.graph.batches import evenly, pack, unpack
from pipeline.graph.pixel_table import Pixels
from tests.store.test_ledger import refs, uris


def _decoded(names: list[str | int]) -> pa.Table:
    """PIXELS, the second of which failed."""
    pixels = Pixels(refs(names), 4, 4)
    for index in range(len(names)):
        if index == 1:
            pixels.fail(index, ImageError(ErrorCode.UNDECODABLE, "no"))
        else:
            pixels.put(index, np.full((4, 4, 3), index, np.uint8), 4, 4, "JPEG")
    return pixels.table()


@pytest.mark.parametrize("names", [[], [1], [1, 2, 3]], ids=len)
def test_a_batch_is_one_row_and_comes_out_as_it_was(names: list[str | int]) -> None:
    packed = pack(_decoded(names))
    assert packed.num_rows == 1
    assert unpack(packed).equals(_decoded(names))
    assert unpack(packed).schema == schema.PIXELS


def test_batches_come_out_one_after_the_other() -> None:
    several = pa.concat_tables([pack(refs([1, 2])), pack(refs([])), pack(refs([3]))])
    assert uris(unpack(several)) == ["1", "2", "3"]
    assert uris(unpack(several.slice(2))) == ["3"]
    assert unpack(several.slice(0, 0)).num_rows == 0


def test_pixels_are_not_copied() -> None:
    pixels = _decoded([1, 2, 3])
    again = unpack(pack(pixels))
    [before], [after] = pixels["pixels"].chunks, again["pixels"].chunks
    assert before.buffers()[2].address == after.buffers()[2].address


@pytest.mark.parametrize("sizes", [[], [0], [5], [1, 1, 1], [0, 7, 0, 2, 12, 1], [4, 4]], ids=str)
def test_tables_are_cut_evenly(sizes: list[int]) -> None:
    ends = np.cumsum([0, *sizes])
    tables = [refs(list(range(a, b))) for a, b in pairwise(ends)]
    batches = list(evenly(tables, 4))
    assert [name for batch in batches for name in uris(batch)] == [str(n) for n in range(ends[-1])]
    assert all(batch.num_rows == 4 for batch in batches[:-1])
    assert all(0 < batch.num_rows <= 4 for batch in batches)
