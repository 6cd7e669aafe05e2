"""Model process: the one process of a run on CPUs that imports torch and transformers.

It starts when it is first needed: for a model that this machine does not know yet.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Self, TypeVar

from pipeline.isolation.background import in_background
from pipeline.isolation.child_process import Child, Work

Result = TypeVar("Result")

#: The largest networks take minutes.
SECONDS: Final = 1_800.0


class ModelProcess:
    """Calls functions in a child process, one at a time; as a context, which ends the child."""

    def __init__(self) -> None:
        self._child: Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def __call__(
        self, work: Callable[[], Result], meanwhile: Callable[[], object] | None = None
    ) -> Result:
        """The result of `work`, which must be picklable, or the NightlabelError that it raises.

        If the process has to start first, `meanwhile` is called here while it imports. Raises
        EndedError if the process ends.
        """
        started = self._child is not None
        # Linux ends a child together with the thread that started it.
        child = self._child = self._child or Child(_caller)
        ask: Callable[[], Result] = partial(child.ask, work, SECONDS)
        if meanwhile is None or started:
            return ask()
        answer = in_background(ask)
        meanwhile()
        return answer.result()

    def end(self) -> None:
        """End the process, whatever it does."""
        if self._child is not None:
            self._child.end()
            self._child = None


def _caller() -> Work:
    return _call


def _call(work: Callable[[], Any]) -> Any:
    return work()
