"""Where a device's time goes, by a clock that the test sets."""

import random
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from contextvars import Context, copy_context

import pytest

from pipeline.models.backends.device_time import (
    ACTIVITIES,
    COPIES,
    ROWS,
    WAITS,
    WORKS,
    DeviceTime,
    Span,
    telling,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Night:
    """Calls of one device, by name, each with the context of a thread."""

    def __init__(self, calls: int = 2) -> None:
        self.clock = Clock()
        self.time = DeviceTime(calls, self.clock)
        self._calls: dict[str, tuple[Context, ExitStack]] = {}

    def after(self, seconds: float) -> "Night":
        self.clock.now += seconds
        return self

    def enters(self, name: str) -> "Night":
        thread, stack = copy_context(), ExitStack()
        thread.run(stack.enter_context, self.time.call())
        self._calls[name] = thread, stack
        return self

    def has_results(self, name: str, *spans: Span) -> "Night":
        """The device worked in these spans, in seconds from the beginning."""
        tell = self._calls[name][0].run(telling)
        assert tell is not None
        tell([(Clock.now + began, Clock.now + over) for began, over in spans])
        return self

    def leaves(self, name: str) -> "Night":
        thread, stack = self._calls.pop(name)
        thread.run(stack.close)
        return self

    def took(self) -> dict[str, float]:
        return {name: pytest.approx(amount) for name, amount in self.time.take().items() if amount}


def test_one_call_after_the_other() -> None:
    night = Night(calls=1)
    night.after(5).enters("a").after(1).after(3).has_results("a", (6, 8)).after(2).leaves("a")
    night.after(4).enters("b")
    assert night.took() == {WAITS: 5 + 4, COPIES: 1 + 1, WORKS: 2, ROWS: 2}
    night.leaves("b")


def test_what_a_device_does_beside_other_calls_is_work() -> None:
    """The second batch is copied, and the first one's rows are made, while it works."""
    night = Night()
    night.enters("a").after(1).enters("b").after(3).has_results("a", (1, 3)).after(1)
    night.leaves("a").after(1).has_results("b", (3, 6)).leaves("b")
    assert night.took() == {COPIES: 1, WORKS: 5}


def test_it_waits_if_another_batch_would_have_been_taken() -> None:
    night = Night()
    night.enters("a").has_results("a").after(3).leaves("a")
    assert night.took() == {WAITS: 3}
    night.enters("a").enters("b").has_results("a").has_results("b").after(4)
    night.leaves("a").after(1).leaves("b")
    assert night.took() == {ROWS: 4, WAITS: 1}


def test_work_that_is_not_known_yet_is_not_counted() -> None:
    night = Night()
    night.enters("a").after(2).enters("b").after(2).has_results("a", (1, 3)).leaves("a")
    assert night.took() == {COPIES: 1, WORKS: 1}  # until the other entered
    night.after(1).has_results("b", (3, 5)).leaves("b")
    assert night.took() == {WORKS: 3}


def test_results_may_be_seen_in_any_order_and_late() -> None:
    night = Night(calls=3).enters("a").enters("b").after(6)
    night.has_results("b", (3, 6)).has_results("a", (1, 3.5)).leaves("b").leaves("a")
    assert night.took() == {COPIES: 1, WORKS: 5}


def test_a_call_that_fails_leaves() -> None:
    night = Night()
    with suppress(ValueError), night.time.call():
        night.after(2)
        raise ValueError
    assert telling() is None
    night.after(1)
    assert night.took() == {COPIES: 2, WAITS: 1}


def test_the_time_of_a_retry_does_not_count() -> None:
    night = Night()
    night.after(1)
    with night.time.other_work():
        assert telling() is None
        night.after(50)
    night.after(2)
    assert night.took() == {WAITS: 3}


@pytest.mark.parametrize("seed", range(20))
def test_shares_add_up(seed: int) -> None:
    """However calls overlap: each moment counts once."""
    draw = random.Random(seed)
    night, inside, free, total = Night(calls=3), list[str](), 0.0, dict.fromkeys(ACTIVITIES, 0.0)
    worked = 0.0
    for number in range(200):
        night.after(draw.random())
        now = night.clock.now - Clock.now
        if len(inside) < 3 and draw.random() < 0.6:
            night.enters(str(number))
            inside.append(str(number))
        elif inside:
            name = inside.pop(draw.randrange(len(inside)))
            spans: Sequence[Span] = []
            if not inside and free < now:  # alone, so later than its own entry
                spans = [(max(free, now - 0.1), now)]
                free = now
                worked += spans[0][1] - spans[0][0]
            night.has_results(name, *spans).leaves(name)
        for activity, seconds in night.time.take().items():
            assert seconds >= -1e-9
            total[activity] += seconds
    for name in inside:
        night.leaves(name)
    for activity, seconds in night.time.take().items():
        total[activity] += seconds
    assert sum(total.values()) == pytest.approx(night.clock.now - Clock.now)
    assert total[WORKS] <= worked + 1e-9
