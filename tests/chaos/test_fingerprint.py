"""A run without predictors is killed as any other: no row lost, none twice."""

import time
from pathlib import Path

import pytest

from tests.chaos.processes import night
from tests.chaos.scores import SEED, Scores
from tests.chaos.world import MeasuredWorld, World
from tests.parts.servers.s3 import S3Process

pytestmark = [pytest.mark.s3, pytest.mark.chaos, pytest.mark.ray]


@pytest.fixture
def world(s3: S3Process, scores: Scores) -> World:
    return MeasuredWorld(s3, Path("unused"), scores, size=2000, seed=SEED)


def test_killed_at_any_moment(world: World) -> None:
    """Three runs in a row are killed, the fourth goes to its end."""
    for number in range(8):
        world.change(replaced=100, added=200)
        moment = time.monotonic() + world.random.uniform(0.5, 10.0)
        with night(world.arguments) as running:
            if running.kill_at(moment, everyone=bool(number % 2)):
                world.scores.count("driver of a fingerprint killed, any moment")
            running.end(world.scores)
        world.look()
        if number % 4 == 3:
            world.settle()
    world.prove()


def test_a_run_survives_its_decoders(world: World) -> None:
    """Three a run, which is what a block's retries allow."""
    killed = 0
    for _ in range(3):
        world.change(replaced=200, added=600)
        with night(world.arguments) as running:
            for _ in range(3):
                time.sleep(world.random.uniform(0, 0.5))
                killed += running.kill_one("ray::MapBatches(Decode)")
            ran = running.end(world.scores)
        assert ran.code == 0, ran.err
        world.settle()
    world.scores.count("decoder of a fingerprint killed", killed)
    assert killed >= 3
    world.prove()
