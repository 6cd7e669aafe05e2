"""Small results of a real Ray's tasks lie in the driver; they are bundled, and none is lost."""

import pyarrow as pa
import pytest
import ray

from pipeline.graph.batches import pack, unpack
from pipeline.graph.commit_buffer import BUNDLE_BYTES, SMALL_BYTES, CommitBuffer

NAME_BYTES = 200


def _block(first: int, rows: int) -> pa.Table:
    names = [f"{number:0{NAME_BYTES}}" for number in range(first, first + rows)]
    return pack(pa.table({"name": names}))


def _numbers(blocks: list[pa.Table]) -> list[int]:
    return [int(name) for block in blocks for name in unpack(block)["name"].to_pylist()]


@pytest.mark.parametrize(("rows", "blocks", "most"), [(64, 400, 100), (1000, 5, 5)])
def test_all_that_is_held_is_taken_once(two_slots: None, rows: int, blocks: int, most: int) -> None:
    make = ray.remote(_block)
    sizes = rows * NAME_BYTES
    assert (sizes < SMALL_BYTES) == (blocks > 5)
    held = CommitBuffer()
    for number in range(blocks):
        held.add(make.remote(number * rows, rows), sizes)
    assert held
    assert held.size_bytes == blocks * sizes
    taken = held.take()
    assert not held
    assert held.size_bytes == 0
    assert len(taken) <= most
    assert sorted(_numbers(ray.get(taken))) == list(range(blocks * rows))
    assert held.take() == []


def test_no_more_than_a_bundle_lies_loose(two_slots: None) -> None:
    make = ray.remote(_block)
    held = CommitBuffer()
    for number in range(400):
        held.add(make.remote(number * 64, 64), 64 * NAME_BYTES)
    sizes = [block.nbytes for block in ray.get(held.take())]
    assert sum(size for size in sizes if size < SMALL_BYTES) <= BUNDLE_BYTES
    assert max(sizes) < 2 * BUNDLE_BYTES
