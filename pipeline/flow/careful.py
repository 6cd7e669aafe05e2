"""Decoding in a child process, for a block whose worker died: the culprit costs one row.

A retry cannot know which image ended the worker before it, so it gives every image of its
block to a child. Where the child ends, that image is `crashed`, and another child goes on.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from typing import Any, Final, Self

from pipeline.errors import ErrorCode, ImageError, NightlabelError
from pipeline.images import Prepared

#: Bytes of one object → its pixels; raises ImageError.
Decoder = Callable[[bytes], Prepared]

#: Most images take milliseconds, the longest strip that is allowed some 10 s.
IMAGE_SECONDS: Final = 60.0
#: An interpreter and its imports take half a second, and many times that on a busy machine.
START_SECONDS: Final = 120.0
#: So many in a row are no longer the images' fault, and each costs the start of a child.
CRASHES_IN_A_ROW: Final = 20

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def attempt_number() -> int:
    """How often the Ray task that this runs in was tried before; 0 where nothing tells.

    Private to Ray and asked for nowhere else: without an answer no block is decoded
    carefully, and one that ends its workers ends the run.
    """
    try:
        from ray._private.worker import global_worker

        return int(global_worker.core_worker.get_current_task_attempt_number())
    except (ImportError, AttributeError):
        return 0


class Careful:
    """A decoder that outlives its images. Close it, or use it as a context.

    `decode` must be picklable; it is sent to each child once. An image may take `seconds`.
    """

    def __init__(
        self,
        decode: Decoder,
        *,
        seconds: float = IMAGE_SECONDS,
        crashes_in_a_row: int = CRASHES_IN_A_ROW,
    ) -> None:
        self._decode, self._seconds, self._limit = decode, seconds, crashes_in_a_row
        self._child: _Child | None = None
        self._crashes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def __call__(self, data: bytes) -> Prepared:
        """What `decode` gives for `data`, or the ImageError that it raises.

        Raises ImageError(crashed) where it ends its process or takes too long, and
        NightlabelError where that happens too often in a row or no process starts.
        """
        if self._child is None:
            self._child = _Child(self._decode)
        try:
            answer = self._child.ask(data, self._seconds)
        except _EndedError as ended:
            self._child = None
            raise self._crashed(str(ended)) from None
        self._crashes = 0
        if isinstance(answer, ImageError):
            raise answer
        prepared: Prepared = answer
        return prepared

    def _crashed(self, how: str) -> NightlabelError:
        self._crashes += 1
        if self._crashes < self._limit:
            return ImageError(ErrorCode.CRASHED, f"decoding this image {how}")
        return NightlabelError(
            f"decoding keeps ending its process, {self._crashes} images in a row (the last one "
            f"{how}): look for a broken image library or too little memory; `nightlabel doctor` "
            "shows what is installed"
        )


class _EndedError(Exception):
    """The child is no more; says how it ended."""


class _Child:
    """A process of our own that answers one message after the other."""

    def __init__(self, decode: Decoder) -> None:
        self._pipe, theirs = Pipe()
        with theirs:
            # -P and our own path: what this process imports, never what lies in its folder.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pipeline.flow.careful", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )
        try:
            self.ask(decode, START_SECONDS)
        except _EndedError as ended:
            raise NightlabelError(f"the process to decode in does not start: it {ended}") from None

    def ask(self, message: object, seconds: float) -> Any:
        """The answer to `message`. Raises _EndedError, with the child gone."""
        try:
            self._pipe.send(message)
            if self._pipe.poll(seconds):
                return self._pipe.recv()
        except (EOFError, OSError):
            code = self.end()
            how = f"signal {-code}" if code < 0 else f"exit {code}"
            raise _EndedError(f"ended its process ({how})") from None
        self.end()
        raise _EndedError(f"took longer than {seconds:g} s")

    def end(self) -> int:
        """End it if it has not ended; its return code."""
        self._pipe.close()
        self._process.kill()
        return self._process.wait()


def _serve(pipe: Connection) -> None:
    """The child: the decoder first, then an answer to every image until the pipe ends."""
    decode: Decoder = pipe.recv()
    pipe.send(None)
    while True:
        try:
            data: bytes = pipe.recv()
        except EOFError:
            return
        pipe.send(_outcome(decode, data))


def _outcome(decode: Decoder, data: bytes) -> Prepared | ImageError:
    try:
        return decode(data)
    except ImageError as error:
        return error


def _belong_to_parent() -> None:
    """Let nothing but an image or the parent's end be what ends this process.

    A Ctrl-C that reached it would pass for a crash of the image at hand. The pipe ends with
    the parent, but an image that hangs never looks: Linux ends it then.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    _belong_to_parent()
    _serve(Connection(int(sys.argv[1])))
