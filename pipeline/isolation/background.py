"""Background work: runs a call in a thread, or stops waiting for it after a time limit."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def in_background(work: Callable[[], Result]) -> "Future[Result]":
    """Start `work` in a daemon thread."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, name="background", daemon=True).start()
    return future


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """The result or the error of `work`. TimeoutError if it takes longer; `work` then continues in
    its thread.

    For calls that accept no time limit themselves (the name resolver, a client that retries)
    and change nothing.
    """
    return in_background(work).result(seconds)
