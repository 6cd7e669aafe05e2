"""A graph on a Ray of our own, without the actors that Ray Data keeps on a cluster."""

import os

import pyarrow as pa
import ray
import ray.data

from pipeline.engine.ray_compat import find
from pipeline.engine.single_node import INSTEAD, alone
from tests.parts.processes.process_tree import below, title

NUMBERS = 20
KEPT = ("_StatsActor", "_AutoscalingCoordinatorActor", "ActorLocationTracker")


class Double:
    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.table({"number": [2 * number for number in batch["number"].to_pylist()]})


def _titles() -> list[str]:
    return [title(pid) for pid in below(os.getpid())]


def _doubled() -> list[int]:
    numbers = [pa.table({"number": [number]}) for number in range(NUMBERS)]
    graph = ray.data.from_arrow(numbers).map_batches(
        Double,
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=0.5,
        max_restarts=-1,
        max_task_retries=-1,
    )
    # As a run reads it: by rows, a slow graph starts the actor of statistics for its reader.
    blocks = (block.ref for bundle in graph.iter_internal_ref_bundles() for block in bundle.blocks)
    return sorted(
        number for block in ray.get(list(blocks)) for number in block["number"].to_pylist()
    )


def _now() -> list[object]:
    return [find(name) for name in INSTEAD]


def test_a_graph_runs_without_ray_datas_own_actors(two_slots: None) -> None:
    before = _now()
    with alone():
        assert _doubled() == [2 * number for number in range(NUMBERS)]
        titles = _titles()
        assert any("raylet" in title for title in titles)
        assert not [title for title in titles if any(name in title for name in KEPT)]
    assert _now() == before


def test_ray_data_still_keeps_them_where_it_may(two_slots: None) -> None:
    """Else `alone` may go. One may not have got as far as its name when the graph ends."""
    assert _doubled() == [2 * number for number in range(NUMBERS)]
    titles = " ".join(_titles())
    assert sum(f"ray::{name}" in titles for name in KEPT) >= 2
