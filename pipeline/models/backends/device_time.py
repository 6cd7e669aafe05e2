"""What a device's time goes to: it works, waits for batches, or waits for what its calls do.

An engine knows when its device worked, and the stage that calls it knows which calls there are.
`DeviceTime` puts both together. An engine asks `telling` where to report, so nothing between
the two passes it on.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import Final

#: When a device began to work and when it was done, in seconds of `time.perf_counter`.
Span = tuple[float, float]
Tell = Callable[[Sequence[Span]], None]

#: The device works, or it is idle: no batch is at hand, or pixels are on their way to it and
#: results from it, or all calls make rows.
WORKS: Final = "works"
WAITS: Final = "waits"
COPIES: Final = "copies"
ROWS: Final = "rows"
ACTIVITIES: Final = (WORKS, WAITS, COPIES, ROWS)

_tell: ContextVar[Tell | None] = ContextVar("device_time", default=None)


def telling() -> Tell | None:
    """Where to report when the device worked for the call of this thread, once its results are
    there; None if nobody asks."""
    return _tell.get()


@dataclass(slots=True)
class _Call:
    entered: float
    has_results: bool = False


class DeviceTime:
    """Seconds of one device by activity, from the start on; each moment counts once.

    `calls` is how many calls may be there at the same time. A device that idles beside fewer, none
    of which is about to use it, waits for batches: another would have been taken. Work is known
    only afterwards, so time counts as soon as no call that is there can have used it.
    """

    def __init__(self, calls: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._most, self._clock, self._lock = calls, clock, Lock()
        self._calls: list[_Call] = []
        #: What a device that is idle would be doing, from when on.
        self._idle: list[tuple[float, str]] = [(clock(), WAITS)]
        self._spans: list[Span] = []
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call that uses the device."""
        with self._lock:
            call = _Call(self._clock())
            self._calls.append(call)
            self._changed(call.entered)

        def tell(spans: Sequence[Span]) -> None:
            with self._lock:
                self._spans += spans
                call.has_results = True
                self._changed(self._clock())

        token = _tell.set(tell)
        try:
            yield
        finally:
            _tell.reset(token)
            with self._lock:
                self._calls.remove(call)
                self._changed(self._clock())

    @contextmanager
    def other_work(self) -> Iterator[None]:
        """Time that does not count: the batch of a retry is another process's. Beside no call."""
        with self._lock:
            self._count(self._clock())
        try:
            yield
        finally:
            with self._lock:
                self._idle = [(self._clock(), WAITS)]

    def take(self) -> dict[str, float]:
        """What is counted since the last time."""
        with self._lock:
            self._count(min((call.entered for call in self._calls), default=self._clock()))
            taken = dict(self._seconds)
            self._seconds.clear()
            return taken

    def _changed(self, now: float) -> None:
        coming = any(not call.has_results for call in self._calls)
        full = len(self._calls) >= self._most
        self._idle.append((now, COPIES if coming else ROWS if full else WAITS))

    def _count(self, until: float) -> None:
        """Count the time until then, in which all work is known."""
        spans = _apart(self._spans)
        edges = [*self._idle, (max(until, self._idle[-1][0]), "")]
        for (since, activity), (end, _) in pairwise(edges):
            end = min(end, until)
            if since < end:
                worked = sum(_common(span, (since, end)) for span in spans)
                self._seconds[WORKS] += worked
                self._seconds[activity] += end - since - worked
        self._spans = [span for span in spans if span[1] > until]
        last = [one for one in self._idle if one[0] <= until][-1:]
        later = [one for one in self._idle if one[0] > until]
        self._idle = [(until, activity) for _, activity in last] + later


def _apart(spans: Sequence[Span]) -> list[Span]:
    """The same in order, and no two at the same time: a call's clock is read a little late."""
    apart, last = list[Span](), float("-inf")
    for began, over in sorted(spans):
        if over > last:
            apart.append((max(began, last), over))
            last = over
    return apart


def _common(one: Span, other: Span) -> float:
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
