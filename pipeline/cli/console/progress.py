"""Progress on stderr: a live line on a terminal, a plain line every ten seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.cli.console.output import duration
from pipeline.cli.console.terminal import console_of, on_terminal, shown
from pipeline.graph.progress import COUNTED, LABELLING, OTHER_STAGES, STAGES
from pipeline.words import LABELLING as LABELLED
from pipeline.words import Words

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.graph.progress import Listener, Progress

    Draw = Callable[[str, Progress], None]
    LineOf = Callable[[Progress, float, Words], str]

PLAIN_SECONDS = 10.0
LIVE_SECONDS = 0.1
#: The rate shown is over this many seconds.
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
    """A line of a log: what it waits for; or listed, to label, processed, failed, img/s, time."""
    stage = (STAGES | OTHER_STAGES).get(progress.stage, progress.stage)
    if progress.stage not in COUNTED:
        return stage
    listed = f"{progress.listed:,}" + ("" if progress.listing_complete else "+")
    parts = [f"listed {listed}", f"to {words.verb} {progress.todo:,}"]
    if progress.stage != LABELLING:
        return " · ".join([stage, *parts])
    parts += [f"processed {progress.labelled:,}", f"failed {progress.errors:,}"]
    if rate:
        parts.append(f"{rate:,.1f} img/s")
        if progress.listing_complete:
            left = max(0, progress.todo - progress.labelled)
            parts.append(f"{duration(left / rate)} left")
    return " · ".join(parts)


def live_line(progress: "Progress", rate: float, words: Words = LABELLED) -> str:
    """The same for a terminal, the most important first: a narrow one cuts the end."""
    stage = (STAGES | OTHER_STAGES).get(progress.stage, progress.stage)
    if progress.stage not in COUNTED:
        return stage
    if not progress.listed and not progress.listing_complete:
        return STAGES["listing"]
    more = "" if progress.listing_complete else "+"
    if progress.stage != LABELLING:
        return f"{stage} · {progress.todo:,}{more} to {words.verb}"
    parts = [f"{progress.labelled:,} of {progress.todo:,}{more}"]
    if rate:
        parts.append(f"{rate:,.1f} img/s")
        if progress.listing_complete:
            parts.append(f"{duration(max(0, progress.todo - progress.labelled) / rate)} left")
    if progress.errors:
        parts.append(f"{progress.errors:,} failed")
    if not progress.listing_complete:
        parts.append(f"listed {progress.listed:,} so far")
    return " · ".join(parts)


@contextmanager
def listener(*, silent: bool, words: Words = LABELLED) -> Iterator["Listener | None"]:
    """A progress listener for this stderr."""
    if silent:
        yield None
    elif on_terminal(sys.stderr):
        with _live() as draw:
            yield _throttled(draw, live_line, LIVE_SECONDS, words)
    else:
        yield _throttled(_log, line_of, PLAIN_SECONDS, words)


def _log(line: str, _: "Progress") -> None:
    """A line of a log, with the wall clock's time."""
    line = f"{datetime.now().astimezone():%H:%M:%S} {line}"
    print(shown(line, sys.stderr), file=sys.stderr, flush=True)


def _throttled(draw: "Draw", line_of: "LineOf", every: float, words: Words) -> "Listener":
    rate = Rate()
    drawn: list[tuple[float, str]] = []

    def listen(progress: "Progress") -> None:
        now = time.monotonic()
        speed = rate.add(now, progress.labelled)
        new_stage = not drawn or drawn[-1][1] != progress.stage
        if new_stage or now - drawn[-1][0] >= every:
            drawn[:] = [(now, progress.stage)]
            draw(line_of(progress, speed, words), progress)

    return listen


@contextmanager
def _live() -> Iterator["Draw"]:
    """One line that is redrawn, with a bar once the total is known."""
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class BarOfKnown(BarColumn):
        def render(self, task: Any) -> Any:
            return super().render(task) if task.fields.get("known") else Text()

    stream = sys.stderr
    console = console_of(stream)
    plain = console.options.ascii_only
    columns = (
        SpinnerColumn("line" if plain else "dots"),
        BarOfKnown(bar_width=20),
        TextColumn("{task.description}", markup=False),
    )
    with Bar(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("starting", total=None, known=False)

        def draw(line: str, progress: "Progress") -> None:
            bar.update(
                task,
                description=shown(line, stream),
                total=progress.todo,
                completed=progress.labelled,
                known=progress.stage == LABELLING and progress.listing_complete,
                refresh=True,
            )

        yield draw
