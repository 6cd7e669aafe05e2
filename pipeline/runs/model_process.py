"""Model process: the one process of a run on CPUs that imports torch and transformers.

It starts when it is first needed: for a model that this machine does not know yet.
"""

from collections.abc import Callable
from typing import Any, Final, Self, TypeVar

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

    def __call__(self, work: Callable[[], Result]) -> Result:
        """The result of `work`, which must be picklable, or the NightlabelError that it raises.

        Raises EndedError if the process ends.
        """
        if self._child is None:
            self._child = Child(_caller)
        result: Result = self._child.ask(work, SECONDS)
        return result

    def end(self) -> None:
        """End the process, whatever it does."""
        if self._child is not None:
            self._child.end()
            self._child = None


def _caller() -> Work:
    return _call


def _call(work: Callable[[], Any]) -> Any:
    return work()
