"""Every process of a run is killed, at every moment that matters: no row lost, none twice.

A seed decides the random ones; it is printed, and CHAOS_SEED sets it.
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.chaos.conftest import Worlds
from tests.chaos.processes import Night, night
from tests.chaos.world import World
from tests.integration.conftest import Ran, nightlabel
from tests.parts.clusters.cluster import logical_gpus
from tests.parts.servers.faults import FaultProxy, faulty
from tests.parts.servers.s3 import S3Process

pytestmark = [pytest.mark.s3, pytest.mark.ray]

SIZE: Final = 2000

WRITES: Final = "PUT|POST|DELETE"
#: A file that lands when the next run is under way: its driver has been dead for so long.
LATE_SECONDS: Final = 4.0

Deed = Callable[[str], object]


@pytest.fixture
def world(worlds: Worlds) -> World:
    """Labelled once, to its end."""
    found = worlds(size=SIZE)
    found.settle()
    return found


def _unheard(deed: Deed) -> dict[str, Any]:
    return {"before": deed, "reset": True}


def _done(deed: Deed) -> dict[str, Any]:
    return {"after": deed, "lose_answer": True}


def _late(deed: Deed) -> dict[str, Any]:
    def then_wait(request: str) -> None:
        deed(request)
        time.sleep(LATE_SECONDS)

    return {"before": then_wait}


#: What became of the write during which the driver died.
FATES: Final = {"unheard": _unheard, "done": _done, "late": _late}


def kill_at_write(
    world: World, proxy: FaultProxy, arguments: list[object], number: int, fate: str, path: str
) -> bool:
    """SIGKILL the driver at its nth write to `path`; False if it made fewer."""
    with night(arguments, {**os.environ, **proxy.env}) as running:
        fault = FATES[fate](lambda _: running.kill())
        rule = proxy.rule(method=WRITES, path=path, skip=number, times=1, **fault)
        ran = running.end(world.scores)
    proxy.rules.clear()
    if not proxy.fired:
        assert ran.code == 0, ran.err
        return False
    [(method, target, _)] = proxy.fired
    proxy.fired.clear()
    assert rule.times == 0
    assert ran.code == -9, ran.err
    night_of = "label --delete" if "--delete" in arguments else arguments[0]
    world.scores.count(f"driver killed at a write of `{night_of}` ({fate})")
    print(f"write {number}, {fate}: {method} {target}")
    world.look()
    return True


Day = Callable[[World], list[object]]


def _changes(world: World) -> list[object]:
    """Some images replaced, some new."""
    world.change(replaced=20, added=10)
    return world.arguments


def _deletions(world: World) -> list[object]:
    """Some images gone, and their rows to go too. Nothing to label, so Ray is not needed."""
    world.change(replaced=0, added=0, removed=5)
    return [*world.arguments, "--delete"]


def _compaction(world: World) -> list[object]:
    """Two files at rest to be made one, once the last compaction has been done again."""
    again = nightlabel("compact", world.found.dst)
    assert again.code == 0, again.err
    world.change(replaced=0, added=5)
    world.settle()
    return ["compact", world.found.dst]


@pytest.mark.chaos
@pytest.mark.parametrize("fate", ["unheard", "done"])
@pytest.mark.parametrize("day", [_changes, _deletions, _compaction])
def test_the_driver_is_killed_at_each_of_its_writes(world: World, day: Day, fate: str) -> None:
    _at_each_write(world, day, fate, path=".")


@pytest.mark.chaos
def test_what_a_dead_driver_wrote_lands_when_the_next_run_is_under_way(world: World) -> None:
    _at_each_write(world, _changes, "late", path="/_parts/|/_delta_log/")


def _at_each_write(world: World, day: Day, fate: str, path: str) -> None:
    number = 0
    with faulty(world.found.server) as proxy:
        while kill_at_write(world, proxy, day(world), number, fate, path):
            number += 1
            _go_on(world, late=fate == "late")
    assert number > 2
    world.settle()
    world.prove()


def _go_on(world: World, *, late: bool) -> None:
    if late:
        # A commit of the dead driver that lands now fences this run off.
        with night(world.arguments) as running:
            assert running.end(world.scores).code in (0, 1)
        world.look()
    world.settle()


@pytest.mark.chaos
@pytest.mark.parametrize("power", [False, True], ids=["driver", "all at once"])
def test_killed_at_any_moment(world: World, power: bool) -> None:
    """Three nights in a row are killed, the fourth goes to its end."""
    for number in range(16):
        world.change(replaced=100, added=200)
        began = time.monotonic()
        with night(world.arguments) as running:
            moment = world.random.uniform(0.5, 12.0)
            while time.monotonic() - began < moment and not running.over:
                time.sleep(0.01)
            if not running.over:
                running.kill_all() if power else running.kill()
                world.scores.count("all processes killed" if power else "driver killed, any moment")
            running.end(world.scores)
        world.look()
        if number % 4 == 3:
            world.settle()
    world.prove()


#: Without GPUs predictors decode too.
WORKERS: Final = {
    "predictor": "ray::MapWorker(MapBatches(Label))",
    "lister": "ray::MapBatches(List)",
}
WITH_GPUS: Final = {
    "predictor": "ray::MapWorker(MapBatches(Predict))",
    "predictor at work": "ray::MapWorker(MapBatches(Predict)).submit",
    "decoder": "ray::MapBatches(Decode)",
    "lister": "ray::MapBatches(List)",
}


def _kill_some(
    world: World, running: Night, kind: str, times: int, *, on_cluster: bool = False
) -> int:
    killed = 0
    for _ in range(times):
        time.sleep(world.random.uniform(0, 0.5))
        if on_cluster:
            killed += running.kill_one(WITH_GPUS[kind], root=os.getpid())
        else:
            killed += running.kill_one(WORKERS[kind])
    world.scores.count(f"{kind} killed", killed)
    return killed


@pytest.mark.chaos
@pytest.mark.parametrize("kind", WORKERS)
def test_a_run_survives_its_workers(world: World, kind: str) -> None:
    """Three a run, which is what a block's retries allow."""
    killed = 0
    for _ in range(6):
        world.change(replaced=200, added=600)
        with night(world.arguments) as running:
            killed += _kill_some(world, running, kind, 3)
            ran = running.end(world.scores)
        assert ran.code == 0, ran.err
        world.settle()
    assert killed >= 6
    world.prove()


@pytest.fixture(scope="module")
def gpus() -> Iterator[str]:
    """The address of a cluster on which decoders and predictors are processes of their own."""
    with logical_gpus(2) as address:
        yield address


@pytest.mark.chaos
@pytest.mark.parametrize("kind", WITH_GPUS)
def test_a_run_on_gpus_survives_its_workers(world: World, gpus: str, kind: str) -> None:
    killed = 0
    for _ in range(3):
        world.change(replaced=200, added=600)
        with night([*world.arguments, "--address", gpus]) as running:
            killed += _kill_some(world, running, kind, 3, on_cluster=True)
            ran = running.end(world.scores)
        assert ran.code == 0, ran.err
        world.settle()
    assert killed >= 3
    world.prove()


@pytest.mark.chaos
def test_a_run_survives_its_writers(s3: S3Process, world: World) -> None:
    """The process that writes a part, while it does."""
    with faulty(s3) as proxy:
        for skip in range(6):
            world.change(replaced=20, added=600)
            with night(world.arguments, {**os.environ, **proxy.env}) as running:
                kill = lambda _, one=running: one.kill_one("ray::_write")  # noqa: E731
                proxy.rule(method="PUT", path="/_parts/", skip=skip % 3, times=1, before=kill)
                ran = running.end(world.scores)
            world.scores.count("writer killed", len(proxy.fired))
            proxy.rules.clear()
            proxy.fired.clear()
            assert ran.code == 0, ran.err
            world.settle()
    world.prove()


def test_predictors_and_a_driver_between_part_and_commit(
    here: Callable[..., Ran], s3: S3Process, worlds: Worlds
) -> None:
    world = worlds(size=300, run=here)
    world.settle()
    world.change(replaced=200, added=500)
    with night(world.arguments) as running:
        killed = _kill_some(world, running, "predictor", 2)
        ran = running.end(world.scores)
    assert killed == 2
    assert ran.code == 0, ran.err
    world.look()
    with faulty(s3) as proxy:
        day = _changes(world)
        assert kill_at_write(world, proxy, day, 1, "unheard", "/_delta_log/")
    world.settle()
    world.prove()


@pytest.mark.chaos
@pytest.mark.parametrize("name", ["/gcs_server", "/raylet", "ray::Coordinator", ""], ids=str)
def test_whatever_of_ray_is_killed_the_run_ends(world: World, name: str) -> None:
    """It may fail, with one line and soon; the next one completes."""
    for _ in range(4):
        world.change(replaced=100, added=300)
        with night(world.arguments) as running:
            while not running.over and not running.processes(WORKERS["predictor"]):
                time.sleep(0.01)
            time.sleep(world.random.uniform(0, 4))
            killed = running.kill_one(name) if name else _kill_any(world, running)
            world.scores.count(f"{name.strip('/') or 'any process of Ray'} killed", killed)
            ran = running.end(world.scores)
        assert ran.code in (0, 1), ran.err
        assert "Traceback" not in ran.err
        world.look()
        world.settle()
    world.prove()


def _kill_any(world: World, running: Night) -> bool:
    pids = running.processes()
    if not pids:
        return False
    os.kill(world.random.choice(pids), 9)
    return True


@pytest.mark.chaos
def test_the_store_is_killed_and_comes_back(s3: S3Process, world: World) -> None:
    """Where it comes back within the patience of a run, the run goes on."""
    for _ in range(10):
        world.change(replaced=100, added=300)
        began = time.monotonic()
        with night(world.arguments) as running:
            time.sleep(world.random.uniform(1.0, 12.0))
            s3.kill()
            time.sleep(world.random.uniform(0.0, 8.0))
            assert s3.start()
            ran = running.end(world.scores)
        world.scores.count("S3 server killed")
        print(f"{time.monotonic() - began:.0f} s, exit {ran.code}: {ran.err.splitlines()[-1:]}")
        assert ran.code in (0, 1), ran.err
        assert "Traceback" not in ran.err
        world.look()
        world.settle()
    world.prove()
