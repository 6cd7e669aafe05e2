"""A real graph of Ray Data, a stage of which stands still: what is before it waits."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
import ray
import ray.data

from pipeline.engine.placement import IO_SHARE, Bounds
from pipeline.graph import backpressure
from pipeline.graph.backpressure import Live, limit_graph

SHARDS, BATCHES, AHEAD = 4, 40, 10
LIST_SECONDS = 0.01
STILL_SECONDS = 1.5


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
    """Tells of each batch that it is there, and works once `go` is."""

    def __init__(self, here: Path, go: Path) -> None:
        self._here, self._go = here, go

    def __call__(self, batch: pa.Table) -> pa.Table:
        (self._here / str(batch["batch"][0])).touch()
        while not self._go.exists():
            time.sleep(0.05)
        return batch


class Predict:
    """Works once `go` is there."""

    def __init__(self, go: Path) -> None:
        self._go = go

    def __call__(self, batch: pa.Table) -> pa.Table:
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


def _once_it_stands_still(look: Callable[[], tuple[int, int]]) -> tuple[int, int]:
    """What does not change any more, in a time in which all could have been listed."""
    until, seen, since = time.monotonic() + 60.0, look(), time.monotonic()
    while time.monotonic() - since < STILL_SECONDS:
        assert time.monotonic() < until, "nothing is held back"
        time.sleep(0.05)
        if (now := look()) != seen:
            seen, since = now, time.monotonic()
    return seen


def _count_listed(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _listed(listed: Path) -> "ray.data.Dataset":
    shards = [pa.table({"shard": [shard]}) for shard in range(SHARDS)]
    return ray.data.from_arrow(shards).map_batches(
        List(listed), batch_size=None, batch_format="pyarrow", num_cpus=IO_SHARE
    )


def _predicted(before: "ray.data.Dataset", actor: type, *told: object) -> "ray.data.Dataset":
    return before.map_batches(
        actor,
        fn_constructor_args=told,
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=1, max_tasks_in_flight_per_actor=2),
        num_cpus=0.49,
    )


def _graph(listed: Path, decode: Decode, go: Path) -> "ray.data.Dataset":
    decoded = _listed(listed).map_batches(
        decode, batch_size=1, batch_format="pyarrow", num_cpus=0.48
    )
    return _predicted(decoded, Predict, go)


@pytest.mark.parametrize("stands_still", ["decoders", "predictor"])
def test_each_stage_waits_for_the_next_and_all_comes_out(
    two_slots: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stands_still: str
) -> None:
    monkeypatch.setattr(backpressure, "LISTING_ALONE", 0.0)
    listed, here, go = (tmp_path / name for name in ("listed", "here", "go"))
    listed.mkdir()
    here.mkdir()
    context = ray.data.DataContext.get_current().copy()
    context.target_max_block_size = 1
    limit_graph(context, Live(Bounds(listing=2, listed=AHEAD, decoding=4, decoded=6)))
    with ray.data.DataContext.current(context):
        decode = Decode(here, go if stands_still == "decoders" else tmp_path)
        with ThreadPoolExecutor(1) as reader:
            rows = reader.submit(_rows, _graph(listed, decode, go))
            _wait_until(lambda: _count(here) > 0)
            ahead, decoding = _once_it_stands_still(lambda: (_count_listed(listed), _count(here)))
            shards_at_once = _count(listed)
            go.touch()
            assert sorted(rows.result(120)) == list(range(SHARDS * BATCHES))
    assert _count(listed) == SHARDS
    assert shards_at_once == 2
    assert AHEAD <= ahead < SHARDS * BATCHES / 2
    # The predictor has taken two; the decoders' slots take three at a time.
    assert decoding <= (8 if stands_still == "predictor" else 4)
    assert _count_listed(listed) == SHARDS * BATCHES


def test_where_actors_decode_the_listing_waits_for_them(
    two_slots: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no stage between: what is listed waits at the actors. Here one lister stays alone,
    as all do at first."""
    monkeypatch.setattr(backpressure, "LISTING_ALONE", 3600.0)
    listed, here, go = (tmp_path / name for name in ("listed", "here", "go"))
    listed.mkdir()
    here.mkdir()
    context = ray.data.DataContext.get_current().copy()
    context.target_max_block_size = 1
    limit_graph(context, Live(Bounds(listing=2, listed=AHEAD, decoding=2, decoded=2)))
    with ray.data.DataContext.current(context), ThreadPoolExecutor(1) as reader:
        rows = reader.submit(_rows, _predicted(_listed(listed), Decode, here, go))
        _wait_until(lambda: _count(here) > 0)
        ahead, working = _once_it_stands_still(lambda: (_count_listed(listed), _count(here)))
        shards_at_once = _count(listed)
        go.touch()
        assert sorted(rows.result(120)) == list(range(SHARDS * BATCHES))
    assert shards_at_once == working == 1
    assert AHEAD <= ahead < SHARDS * BATCHES / 2


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())
