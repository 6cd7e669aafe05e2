"""A cluster that stays too small for its graph is noticed; one that recovers is waited for."""

import pytest

from pipeline.engine.capacity import Capacity
from pipeline.engine.placement import place
from pipeline.errors import PlacementError

FULL, SHRUNK = {"CPU": 4.0}, {"CPU": 2.0}


class Cluster:
    """Its totals by the second."""

    def __init__(self) -> None:
        self.now, self.total, self.blocks = 0.0, FULL, 0
        self.capacity = Capacity(
            place(FULL, None), lambda: self.total, patience=300.0, clock=lambda: self.now
        )

    def live(self, seconds: int, total: dict[str, float], every: int = 10**9) -> None:
        """With a block of rows `every` so many seconds."""
        self.total = total
        for second in range(seconds):
            self.now += 1.0
            self.blocks += second % every == every - 1
            self.capacity.check(self.blocks)


def test_a_node_that_comes_back_in_time_is_waited_for() -> None:
    cluster = Cluster()
    for _ in range(3):
        cluster.live(100, FULL)
        cluster.live(290, SHRUNK)
    cluster.live(100, FULL)


def test_one_that_does_not_ends_the_run() -> None:
    cluster = Cluster()
    cluster.live(100, FULL)
    with pytest.raises(PlacementError, match=r"lost nodes: 3.92 CPUs are needed and 2 are there"):
        cluster.live(330, SHRUNK)
    assert 400 < cluster.now < 430


def test_a_run_that_goes_on_with_less_is_let_go_on() -> None:
    cluster = Cluster()
    cluster.live(100, FULL)
    cluster.live(10_000, SHRUNK, every=200)
    with pytest.raises(PlacementError, match="lost nodes"):
        cluster.live(330, SHRUNK)
    assert 10_400 < cluster.now < 10_430
