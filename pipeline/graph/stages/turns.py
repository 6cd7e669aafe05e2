"""Turns: calls of one actor that work side by side, unless one must be alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from pipeline.graph.metrics import Meters, Watch


class Turns:
    """Also measures how long the actor has no call (`wait`) and has one or more (`predict`)."""

    def __init__(self, meters: Meters) -> None:
        self._meters, self._watch = meters, Watch()
        self._changed = Condition()
        self._inside = 0
        self._alone = 0  # calls that are alone, or wait to be

    @contextmanager
    def together(self) -> Iterator[None]:
        """Beside other calls that do the same."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._enter()
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Beside no other call."""
        with self._changed:
            self._alone += 1
            self._changed.wait_for(lambda: not self._inside)
            self._enter()
        try:
            yield
        finally:
            self._leave(alone=True)

    def _enter(self) -> None:
        self._watch.lap("predict" if self._inside else "wait")
        self._inside += 1

    def _leave(self, *, alone: bool = False) -> None:
        with self._changed:
            self._watch.lap("predict")
            self._meters.took(self._watch)
            self._inside -= 1
            self._alone -= alone
            self._changed.notify_all()
