"""A child process that answers one message at a time, and may crash."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from multiprocessing.connection import Connection, Pipe
from time import monotonic
from typing import Any, Final

from pipeline.errors import NightlabelError
from pipeline.isolation.limits import time_limit_paused

#: Seconds: an interpreter and its imports take half a second, a model some seconds, and both many
#: times that on a busy machine.
START_SECONDS: Final = 300.0

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

#: A message → its answer; `Child.ask` raises the NightlabelErrors that it raises.
Work = Callable[[Any], Any]


class EndedError(Exception):
    """The child has ended; says how. `hung` if it was killed for taking too long."""

    def __init__(self, how: str, *, hung: bool = False) -> None:
        super().__init__(how)
        self.hung = hung


class _Clock(Enum):
    """What a child reports about the time that its message takes."""

    STANDS = 1
    GOES_ON = 2


#: In a child process, its pipe to the parent.
_parent: Connection | None = None


@contextmanager
def clock_paused() -> Iterator[None]:
    """Time spent waiting within the block does not count against the image's time limit."""
    with time_limit_paused():
        if _parent is not None:
            _parent.send(_Clock.STANDS)
        try:
            yield
        finally:
            if _parent is not None:
                _parent.send(_Clock.GOES_ON)


class Child:
    """Runs `make()` in a child process, then the function it returns on every message.

    `make` must be picklable. Raises NightlabelError if the process does not start, and the
    NightlabelErrors that `make` raises.
    """

    def __init__(self, make: Callable[[], Work]) -> None:
        self._pipe, theirs = Pipe()
        with theirs:
            # -P and our own path: import what this process imports, never files in the current
            # folder.
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "pipeline.isolation.child_process",
                    str(theirs.fileno()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )
        try:
            self.ask(make, START_SECONDS)
        except EndedError as ended:
            problem = f"the child process that isolates images does not start: it {ended}"
            raise NightlabelError(problem) from None

    def ask(self, message: object, seconds: float) -> Any:
        """The answer to `message`. Raises EndedError, with the child gone."""
        try:
            self._pipe.send(message)
            until = monotonic() + seconds
            while self._pipe.poll(max(0.0, until - monotonic())):
                answer = self._pipe.recv()
                if answer is _Clock.STANDS:
                    since = monotonic()
                    self._pipe.poll(None)
                    until += monotonic() - since
                if isinstance(answer, _Clock):
                    continue
                if isinstance(answer, NightlabelError):
                    raise answer
                return answer
        except (EOFError, OSError):
            code = self.end()
            how = f"signal {-code}" if code < 0 else f"exit {code}"
            raise EndedError(f"ended its process ({how})") from None
        self.end()
        raise EndedError(f"took longer than {seconds:g} s", hung=True)

    def end(self) -> int:
        """End the child if it still runs; returns its exit code."""
        self._pipe.close()
        self._process.kill()
        return self._process.wait()


def serve(pipe: Connection) -> None:
    """In the child: prepare the work first, then answer messages until the pipe closes."""
    global _parent
    _belong_to_parent()
    _parent = pipe
    work: Work | None = None
    while True:
        try:
            message = pipe.recv()
        except EOFError:
            return
        try:
            if work is None:
                work, answer = message(), None
            else:
                answer = work(message)
        except NightlabelError as error:
            answer = error
        pipe.send(answer)


def _belong_to_parent() -> None:
    """Make sure that only a message or the end of the parent can end this process.

    A Ctrl-C that reached it would look like a crash of the current image. The pipe closes with
    the parent, but an image that hangs never checks: then Linux kills this process.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    from pipeline.isolation import child_process as child

    child.serve(Connection(int(sys.argv[1])))
