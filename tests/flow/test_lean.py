"""A real graph of Ray Data whose decoders stand still: the listing waits for them."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import ray
import ray.data

from pipeline.flow.lean import keep_lean
from pipeline.flow.placement import DECODE_SHARE, IO_SHARE

SHARDS, BATCHES, AHEAD = 4, 250, 10
LIST_SECONDS = 0.01


class List:
    """Counts what it lists in files, a byte each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, shards: pa.Table) -> Iterator[pa.Table]:
        for shard in shards["shard"].to_pylist():
            with (self._folder / str(shard)).open("ab", buffering=0) as told:
                for batch in range(BATCHES):
                    time.sleep(LIST_SECONDS)
                    told.write(b".")
                    yield pa.table({"batch": [shard * BATCHES + batch]})


class Decode:
    """Tells that it is there, and works once `go` is."""

    def __init__(self, here: Path, go: Path) -> None:
        self._here, self._go = here, go

    def __call__(self, batch: pa.Table) -> pa.Table:
        self._here.touch()
        while not self._go.exists():
            time.sleep(0.05)
        return batch


def _rows(graph: "ray.data.Dataset") -> list[int]:
    return [
        row
        for bundle in graph.iter_internal_ref_bundles()
        for reference in bundle.block_refs
        for row in ray.get(reference)["batch"].to_pylist()
    ]


def _wait_until(come: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not come():
        assert time.monotonic() < until
        time.sleep(0.05)


def _listed(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def test_a_listing_waits_for_the_decoders_and_all_comes_out(
    two_slots: None, tmp_path: Path
) -> None:
    folder, here, go = (tmp_path / name for name in ("listed", "here", "go"))
    folder.mkdir()
    context = ray.data.DataContext.get_current().copy()
    context.target_max_block_size = 1
    keep_lean(context, AHEAD)
    with ray.data.DataContext.current(context):
        shards = [pa.table({"shard": [shard]}) for shard in range(SHARDS)]
        graph = (
            ray.data.from_arrow(shards)
            .map_batches(
                List(folder),
                batch_size=None,
                batch_format="pyarrow",
                compute=ray.data.TaskPoolStrategy(size=2),
                num_cpus=IO_SHARE,
            )
            .map_batches(
                Decode(here, go), batch_size=1, batch_format="pyarrow", num_cpus=DECODE_SHARE
            )
        )
        with ThreadPoolExecutor(1) as reader:
            rows = reader.submit(_rows, graph)
            _wait_until(here.exists)
            time.sleep(1.0)  # Ray holds nothing back before it has counted its nodes
            before = _listed(folder)
            time.sleep(3.0)
            after = _listed(folder)
            go.touch()
            assert sorted(rows.result(60)) == list(range(SHARDS * BATCHES))
    assert AHEAD <= before < SHARDS * BATCHES / 2
    assert after - before <= AHEAD  # of 600 that two listers could have listed meanwhile
    assert _listed(folder) == SHARDS * BATCHES
