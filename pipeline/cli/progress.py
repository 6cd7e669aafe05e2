"""Progress on stderr: one live line on a terminal, a plain line every ten seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.cli.output import duration
from pipeline.flow.progress import COUNTED, LABELLING, OTHER_STAGES, STAGES
from pipeline.words import LABELLING as LABELLED
from pipeline.words import Words

if TYPE_CHECKING:
    from pipeline.flow.progress import Listener, Progress

PLAIN_SECONDS = 10.0
#: The rate shown is that of the last so many seconds.
RATE_SECONDS = 20.0


class Rate:
    """Images a second over a sliding window, from the first one on."""

    def __init__(self) -> None:
        self._points: list[tuple[float, int]] = []

    def add(self, now: float, count: int) -> float:
        recent = [p for p in self._points if now - p[0] <= RATE_SECONDS]
        idle = not recent or count == recent[0][1]
        self._points = [(now, count)] if idle else [*recent, (now, count)]
        (first, before), (last, after) = self._points[0], self._points[-1]
        return (after - before) / (last - first) if last > first else 0.0


def line_of(progress: "Progress", rate: float, words: Words = LABELLED) -> str:
    """One line: what it waits for; or listed, to label, processed, failed, img/s, time left."""
    stage = (STAGES | OTHER_STAGES).get(progress.stage, progress.stage)
    if progress.stage not in COUNTED:
        return stage
    listed = f"{progress.listed:,}" + ("" if progress.listing_complete else "+")
    told = [f"listed {listed}", f"to {words.verb} {progress.todo:,}"]
    if progress.stage != LABELLING:
        return " · ".join([stage, *told])
    told += [f"processed {progress.labelled:,}", f"failed {progress.errors:,}"]
    if rate:
        told.append(f"{rate:,.1f} img/s")
        if progress.listing_complete:
            left = max(0, progress.todo - progress.labelled)
            told.append(f"{duration(left / rate)} left")
    return " · ".join(told)


def plain(line: str) -> None:
    """A line of a log, with the wall clock's time."""
    print(f"{datetime.now().astimezone():%H:%M:%S} {line}", file=sys.stderr, flush=True)


@contextmanager
def listener(*, silent: bool, words: Words = LABELLED) -> Iterator["Listener | None"]:
    """A progress listener for this stderr."""
    if silent:
        yield None
    elif sys.stderr.isatty():
        with _live() as update:
            yield _throttled(update, 0.0, words)
    else:
        yield _throttled(plain, PLAIN_SECONDS, words)


def _throttled(update: Any, every: float, words: Words) -> "Listener":
    rate = Rate()
    shown: list[tuple[float, str]] = []

    def listen(progress: "Progress") -> None:
        now = time.monotonic()
        line = line_of(progress, rate.add(now, progress.labelled), words)
        new_stage = not shown or shown[-1][1] != progress.stage
        if new_stage or now - shown[-1][0] >= every:
            shown[:] = [(now, progress.stage)]
            update(line)

    return listen


@contextmanager
def _live() -> Iterator[Any]:
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update
