"""A run of vectors is killed as any other: one row each, and each its own image's vector."""

import time
from pathlib import Path

import numpy as np
import pytest

from tests.chaos.processes import night
from tests.chaos.scores import SEED, Scores
from tests.chaos.world import World
from tests.parts.servers.s3 import S3Process

pytestmark = [pytest.mark.s3, pytest.mark.chaos]


class EmbeddedWorld(World):
    """The same archive, as vectors."""

    @property
    def arguments(self) -> list[object]:
        ends = [self.found.src, self.found.dst]
        return ["embed", *ends, "--model", self.model, "--json", "--commit-seconds", 0.5]


@pytest.fixture
def world(s3: S3Process, scores: Scores, tiny_model: Path) -> World:
    return EmbeddedWorld(s3, tiny_model, scores, size=600, seed=SEED)


def test_killed_three_times(world: World) -> None:
    for number in range(3):
        world.change(replaced=60, added=120)
        moment = time.monotonic() + world.random.uniform(3.0, 12.0)
        with night(world.arguments) as running:
            if running.kill_at(moment, everyone=bool(number % 2)):
                world.scores.count("driver of vectors killed, any moment")
            running.end(world.scores)
        world.look()
    world.settle()
    world.prove()
    rows = world.found.delta(["uri", "embedding"])
    found = rows["embedding"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
    assert len(np.unique(found, axis=0)) == len(rows), "an image has another's vector"
