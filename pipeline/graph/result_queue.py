"""Result queue: the driver waits here for blocks, or for a reason to stop early."""

import os
import queue
import signal
import socket
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from types import FrameType
from typing import Generic, Literal, TypeVar

from pipeline.errors import Exit, Terminated

Reason = Literal["deadline", "interrupted", "terminated", "lease", "gate"]
Item = TypeVar("Item")

_SIGNALS: dict[int, tuple[Reason, type[KeyboardInterrupt], Exit]] = {
    signal.SIGINT: ("interrupted", KeyboardInterrupt, Exit.INTERRUPTED),
    signal.SIGTERM: ("terminated", Terminated, Exit.TERMINATED),
}

#: Seconds after which a process that was told to end is gone, whatever it waits for. Nothing
#: committed can be lost.
END_SECONDS = 8.0


class Stop:
    """Holds the reason to stop; the first reason is kept."""

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self.signalled = False
        self.graph_runs = False  # and is not to be waited for
        self._gentle = False

    def __bool__(self) -> bool:
        return self.reason is not None

    def now(self, reason: Reason) -> None:
        self.reason = self.reason or reason

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Make SIGINT and SIGTERM raise KeyboardInterrupt and Terminated in the current work."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        over = threading.Event()
        heard, tell = socket.socketpair()
        tell.setblocking(False)
        # Python's handlers run only after a library's call returns; this wakes a thread at once.
        waker = signal.set_wakeup_fd(tell.fileno())
        before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        threading.Thread(target=_watch, args=(heard, over), name="signals", daemon=True).start()
        try:
            yield
        finally:
            over.set()
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(waker)
            tell.close()

    @contextmanager
    def gently(self) -> Iterator[None]:
        """Within the block, a first signal is a reason to stop; a second one ends the process at
        once."""
        self._gentle = True
        try:
            yield
        finally:
            self._gentle = False

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        reason, end, _ = _SIGNALS[number]
        first, self.signalled = not self.signalled, True
        self.now(reason)
        if not (first and self._gentle):
            raise end


def _watch(heard: socket.socket, over: threading.Event) -> None:
    with heard:
        while number := heard.recv(1):
            told = _SIGNALS.get(number[0])
            if told is not None and not over.wait(END_SECONDS):
                os._exit(told[2])


class ResultQueue(Generic[Item]):
    """Reads an iterator in a thread, so that the consumer can check the clock between items."""

    def __init__(self, items: Generator[Item, None, None], stop: Stop) -> None:
        self._items, self._stop, self._left = items, stop, False
        self._queue: queue.Queue[Item] = queue.Queue()
        self._end: Future[None] = Future()
        self._thread = threading.Thread(target=self._read, name="feed", daemon=True)
        self._thread.start()

    def take(self, seconds: float) -> Item | None:
        """The next item, or None if none arrives in time."""
        try:
            return self._queue.get(timeout=seconds)
        except queue.Empty:
            return None

    @property
    def broken(self) -> bool:
        """Whether the iterator raised an error."""
        return self._end.done() and self._end.exception() is not None

    @property
    def ended(self) -> bool:
        """Whether all items were taken and no more will come. Raises the iterator's error."""
        if not (self._end.done() and self._queue.empty()):
            return False
        self._end.result()
        return True

    def leave(self, seconds: float) -> bool:
        """Give the iterator this many seconds to end by itself; returns whether it ended."""
        self._left = True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _read(self) -> None:
        try:
            with closing(self._items) as items:
                for item in items:
                    if self._stop or self._left:
                        break
                    self._queue.put(item)
            self._end.set_result(None)
        except BaseException as error:  # noqa: BLE001 - `ended` raises it
            self._end.set_exception(error)
