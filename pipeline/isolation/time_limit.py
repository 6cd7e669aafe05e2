"""Work that may wait for longer than one cares to."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """What `work` returns or raises. TimeoutError where it takes longer: it is left to itself.

    For calls that take no time limit of their own (the resolver of names, a client that retries)
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
