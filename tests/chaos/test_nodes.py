"""A cluster that loses nodes while a run lasts: the run goes on, or ends soon and says why."""

import tempfile
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from pipeline.engine.capacity import PATIENCE_SECONDS
from tests.chaos.conftest import Worlds
from tests.chaos.processes import Night, night
from tests.chaos.world import World
from tests.parts.servers.s3 import S3Process

pytestmark = [pytest.mark.s3, pytest.mark.chaos, pytest.mark.ray]

SIZE: Final = 2000
CPUS: Final = {"num_cpus": 2}
GPU: Final = {"num_cpus": 1, "num_gpus": 1}


@pytest.fixture
def world(worlds: Worlds) -> World:
    return worlds(size=SIZE)


@pytest.fixture
def node() -> dict[str, int]:
    """What each of the two nodes has that may be lost."""
    return CPUS


@pytest.fixture
def cluster(s3: S3Process, node: dict[str, int]) -> Iterator[Any]:
    """A head that runs no tasks, two nodes, and one for decoders if those have GPUs."""
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        found = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "temp_dir": folder},
        )
        try:
            for one in [*([CPUS] if node is GPU else []), node, node]:
                found.add_node(**one)
            yield found
        finally:
            found.shutdown()


def test_nodes_go_and_others_come(world: World, cluster: Any) -> None:
    lost = 0
    for _ in range(10):
        world.change(replaced=200, added=2000)  # fewer are over before a node can go
        with night([*world.arguments, "--address", cluster.address]) as running:
            if _lose_a_node(world, cluster, running, CPUS):
                time.sleep(world.random.uniform(0, 2.0))
                cluster.add_node(num_cpus=2)
                lost += 1
            ran = running.end(world.scores)
        assert ran.code == 0, ran.err
        world.settle()
        cluster.wait_for_nodes()  # till the one that is gone counts no more
    assert lost >= 5
    world.prove()


@pytest.mark.parametrize("node", [CPUS, GPU], ids=["cpus", "gpus"])
def test_a_run_goes_on_without_a_node_that_nothing_replaces(
    world: World, cluster: Any, node: dict[str, int]
) -> None:
    world.change(added=6000)
    with night([*world.arguments, "--address", cluster.address]) as running:
        assert _lose_a_node(world, cluster, running, node)
        ran = running.end(world.scores, PATIENCE_SECONDS)
    assert ran.code == 0, ran.err
    world.settle()
    world.prove()


@pytest.mark.parametrize(
    ("node", "words"),
    [(CPUS, "the cluster has lost nodes"), (GPU, "the cluster has lost nodes: 2 GPUs are needed")],
    ids=["cpus", "gpus"],
)
def test_a_run_that_has_lost_all_nodes_ends_and_the_next_goes_on(
    world: World, cluster: Any, node: dict[str, int], words: str
) -> None:
    world.change(added=6000)
    with night([*world.arguments, "--address", cluster.address]) as running:
        assert _lose_a_node(world, cluster, running, node)
        _remove_one(world, cluster, node)
        ran = running.end(world.scores, 2 * PATIENCE_SECONDS)
    assert ran.code == 1
    assert words in ran.err.splitlines()[-1]
    world.look()
    assert 0 < world.found.delta().num_rows < 8000
    cluster.add_node(**node)
    cluster.wait_for_nodes()
    with night([*world.arguments, "--address", cluster.address]) as running:
        assert running.end(world.scores).code == 0
    world.settle()
    world.prove()


def _lose_a_node(world: World, cluster: Any, running: Night, node: dict[str, int]) -> bool:
    """Any of two, while the run labels; False if it is over before."""
    before = world.found.delta().num_rows
    while not running.over and world.found.delta().num_rows == before:
        time.sleep(0.05)
    time.sleep(world.random.uniform(0, 1.0))
    if running.over:
        return False
    _remove_one(world, cluster, node)
    return True


def _remove_one(world: World, cluster: Any, node: dict[str, int]) -> None:
    having = "num_gpus" if node is GPU else "num_cpus"
    nodes = sorted(
        (one for one in cluster.worker_nodes if getattr(one.get_resource_and_label_spec(), having)),
        key=lambda node: node.unique_id,
    )
    cluster.remove_node(world.random.choice(nodes), allow_graceful=False)
    world.scores.count("Ray node killed")
