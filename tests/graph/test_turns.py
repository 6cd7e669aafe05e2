"""Calls of an actor side by side, and one that must be alone."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from threading import Barrier, Event, Lock

import pytest

from pipeline.graph.metrics import Meters, Watch
from pipeline.graph.stages.turns import Turns


@pytest.fixture
def laps(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    told: list[dict[str, float]] = []

    def took(_: Meters, watch: Watch) -> None:
        told.append(dict(watch.laps))
        watch.laps.clear()

    monkeypatch.setattr(Meters, "took", took)
    return told


def test_calls_are_side_by_side(laps: list[dict[str, float]]) -> None:
    turns, met = Turns(Meters("here")), Barrier(3)

    def call(_: int) -> None:
        with turns.together():
            met.wait(10)

    with ThreadPoolExecutor(3) as calls:
        list(calls.map(call, range(3)))
    assert len(laps) == 3
    assert {*laps[0]} == {"wait", "predict"}


def test_one_that_must_be_alone_is_and_waits_for_no_newcomers(
    laps: list[dict[str, float]],
) -> None:
    turns, inside, most, lock = Turns(Meters("here")), [0], [0], Lock()
    begun, over = Event(), Event()

    def stay(turn: AbstractContextManager[None]) -> None:
        with turn:
            with lock:
                inside[0] += 1
            begun.set()
            over.wait(10)
            with lock:
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    with ThreadPoolExecutor(3) as calls:
        first = calls.submit(stay, turns.together())
        assert begun.wait(10)
        alone = calls.submit(_alone, turns, inside, over)
        newcomer = calls.submit(stay, turns.together())
        over.set()
        first.result(10)
        assert alone.result(10) == [1]
        newcomer.result(10)
    assert most[0] <= 2


def _alone(turns: Turns, inside: list[int], over: Event) -> list[int]:
    with turns.alone():
        inside[0] += 1
        seen = list(inside)
        inside[0] -= 1
        return seen


def test_a_call_that_fails_leaves(laps: list[dict[str, float]]) -> None:
    turns = Turns(Meters("here"))
    for turn in (turns.together, turns.alone):
        with pytest.raises(ValueError, match="no"), turn():
            raise ValueError("no")
    with turns.alone():
        pass
    assert len(laps) == 3
