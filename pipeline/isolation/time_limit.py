"""Time limit for calls that may block for too long."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """The result or the error of `work`. TimeoutError if it takes longer; `work` then goes on
    unattended.

    For calls that accept no time limit themselves (the name resolver, a client that retries)
    and change nothing.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, name=f"within {seconds} s", daemon=True).start()
    return future.result(seconds)
