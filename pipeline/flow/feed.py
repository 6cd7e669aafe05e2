"""The driver's ear: blocks as they come, and every reason to stop before the end."""

import queue
import signal
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from types import FrameType
from typing import Generic, Literal, TypeVar

Reason = Literal["deadline", "interrupted", "terminated", "lease", "gate"]
Item = TypeVar("Item")

_SIGNALS: dict[signal.Signals, Reason] = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
}


class Stop:
    """The first reason to stop wins."""

    def __init__(self) -> None:
        self.reason: Reason | None = None

    def __bool__(self) -> bool:
        return self.reason is not None

    def now(self, reason: Reason) -> None:
        self.reason = self.reason or reason

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM stop the run in good order; a second one ends it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self:
            raise KeyboardInterrupt
        self.now(_SIGNALS[signal.Signals(number)])


class Feed(Generic[Item]):
    """An iterator read by a thread, so that its reader can look at the clock between items."""

    def __init__(self, items: Generator[Item, None, None], stop: Stop) -> None:
        self._items, self._stop = items, stop
        self._queue: queue.Queue[Item] = queue.Queue()
        self._end: Future[None] = Future()
        self._thread = threading.Thread(target=self._read, name="feed", daemon=True)
        self._thread.start()

    def take(self, seconds: float) -> Item | None:
        """The next item, or None if none comes in time."""
        try:
            return self._queue.get(timeout=seconds)
        except queue.Empty:
            return None

    @property
    def ended(self) -> bool:
        """Whether all items were taken and none will come. Raises what the iterator raised."""
        if not (self._end.done() and self._queue.empty()):
            return False
        self._end.result()
        return True

    def leave(self, seconds: float) -> None:
        """Give the iterator this long to end by itself after a stop."""
        self._thread.join(seconds)

    def _read(self) -> None:
        try:
            with closing(self._items) as items:
                for item in items:
                    if self._stop:
                        break
                    self._queue.put(item)
            self._end.set_result(None)
        except BaseException as error:  # noqa: BLE001 - `ended` raises it
            self._end.set_exception(error)
