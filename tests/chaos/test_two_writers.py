"""Two runs on one store: whatever one does while the other sleeps, the table stays right.

A driver is stopped in the midst of a write, as a machine that is suspended is. Another run
takes over and ends, and then the first wakes up with all that it held to be true.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

import pytest

from tests.chaos.conftest import Worlds
from tests.chaos.processes import Night, night
from tests.chaos.test_kills import WRITES
from tests.chaos.world import World
from tests.integration.conftest import Ran
from tests.parts.servers.faults import FaultProxy, faulty

pytestmark = [pytest.mark.s3, pytest.mark.ray]

SIZE: Final = 400


@pytest.fixture
def world(worlds: Worlds) -> World:
    return worlds(size=SIZE)


class Sleeper:
    """Stops a run at its nth write, and lets the write go on once the run may wake."""

    def __init__(self, proxy: FaultProxy, number: int, path: str, *, held: bool) -> None:
        self.asleep, self.awake = threading.Event(), threading.Event()
        self._held = held
        self._night: Night | None = None
        self._rule = proxy.rule(method=WRITES, path=path, skip=number, times=1, before=self._stop)
        self._proxy = proxy

    def watch(self, running: Night) -> bool:
        """Whether it fell asleep before its end."""
        self._night = running
        while not (self.asleep.is_set() or running.over):
            time.sleep(0.02)
        return self.asleep.is_set()

    def wake(self) -> None:
        assert self._night is not None
        self.awake.set()
        self._night.kill(signal.SIGCONT)

    def _stop(self, request: str) -> None:
        while self._night is None:
            time.sleep(0.01)
        print(f"asleep at {request}, which is {'held back' if self._held else 'done'}")
        self._night.kill(signal.SIGSTOP)
        self.asleep.set()
        if self._held:
            self.awake.wait()


def take_over_at_write(world: World, number: int, path: str, *, held: bool) -> bool:
    """One round; False if the first run made fewer writes."""
    world.change(replaced=20, added=20)
    with faulty(world.found.server) as proxy:
        sleeper = Sleeper(proxy, number, path, held=held)
        with night(world.arguments, {**os.environ, **proxy.env}) as first:
            if not sleeper.watch(first):
                assert first.end(world.scores).code == 0
                return False
            world.change(replaced=20, added=20)
            with night([*world.arguments, "--take-over"]) as second:
                ran = second.end(world.scores)
            assert ran.code == 0, ran.err
            world.look()
            sleeper.wake()
            woken = first.end(world.scores)
    world.scores.count(f"runs taken over in their sleep ({'held back' if held else 'done'})")
    assert woken.code in (0, 1, 5), woken.err
    assert "Traceback" not in woken.err
    world.look()
    return True


@pytest.mark.chaos
@pytest.mark.parametrize("held", [False, True], ids=["done", "held back"])
def test_a_run_wakes_at_each_of_its_writes_after_another_took_over(
    world: World, held: bool
) -> None:
    number = 0
    while take_over_at_write(world, number, ".", held=held):
        number += 1
        world.settle()
    assert number > 10
    world.prove()


def test_a_run_wakes_in_its_merge_after_another_took_over(
    here: Callable[..., Ran], measured_worlds: Worlds
) -> None:
    world = measured_worlds(size=SIZE, run=here)
    world.settle()
    assert take_over_at_write(world, 0, "/labels/recipe(=|%3D)", held=True)
    world.settle()
    world.prove()


@pytest.mark.chaos
def test_three_take_over_from_each_other_at_once(world: World) -> None:
    for _ in range(4):
        world.change(replaced=20, added=100)
        arguments = [*world.arguments, "--take-over"]
        with night(arguments) as one, night(arguments) as two, night(arguments) as three:
            ended = [running.end(world.scores) for running in (one, two, three)]
        world.scores.count("races of three writers")
        codes = sorted(ran.code for ran in ended)
        assert set(codes) <= {0, 1, 5}, [ran.err for ran in ended]
        assert all("Traceback" not in ran.err for ran in ended)
        world.look()
        world.settle()
    world.prove()


@pytest.mark.chaos
def test_compacting_and_labelling_exclude_each_other(world: World) -> None:
    world.settle()
    world.change(replaced=20, added=400)
    with night(world.arguments) as running:
        while not running.over and not world.found.folder.stat("_nightlabel/lease.json"):
            time.sleep(0.02)
        with night(["compact", world.found.dst]) as other:
            refused = other.end(world.scores)
        labelled = running.end(world.scores)
    assert (labelled.code, refused.code) == (0, 5), refused.err
    assert str(running.pid) in refused.err
    world.settle()
    world.prove()
