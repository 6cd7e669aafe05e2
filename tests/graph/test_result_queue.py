"""The driver's ear: items in time, the iterator's error, and reasons to stop."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator

import pytest

from pipeline.errors import Terminated
from pipeline.graph.result_queue import ResultQueue, Stop


def numbers(count: int, wait: float = 0.0) -> Generator[int, None, None]:
    for number in range(count):
        time.sleep(wait)
        yield number


def drain(feed: ResultQueue[int]) -> list[int]:
    found = []
    while not feed.ended:
        if (item := feed.take(0.05)) is not None:
            found.append(item)
    return found


def test_every_item_comes_in_order() -> None:
    assert drain(ResultQueue(numbers(100), Stop())) == list(range(100))


def test_nothing_in_time_is_none() -> None:
    feed = ResultQueue(numbers(1, wait=0.5), Stop())
    assert feed.take(0.05) is None
    assert not feed.ended
    assert feed.take(5) == 0


def test_what_the_iterator_raises_is_raised_after_its_items() -> None:
    def broken() -> Generator[int, None, None]:
        yield 1
        raise ValueError("broken")

    feed = ResultQueue(broken(), Stop())
    assert feed.take(5) == 1
    with pytest.raises(ValueError, match="broken"):
        drain(feed)


def test_an_error_between_two_looks_is_no_end() -> None:
    """It once passed for the end of the graph where it fell between `take` and `ended`."""
    late = threading.Event()

    def broken() -> Generator[int, None, None]:
        late.wait()
        yield from ()
        raise ValueError("broken")

    feed = ResultQueue(broken(), Stop())
    assert feed.take(0.01) is None
    assert not feed.ended
    late.set()
    feed.leave(5)
    with pytest.raises(ValueError, match="broken"):
        assert not feed.ended


def test_a_stop_closes_the_iterator() -> None:
    closed = []

    def endless() -> Generator[int, None, None]:
        try:
            while True:
                time.sleep(0.01)
                yield 1
        finally:
            closed.append(True)

    stop = Stop()
    feed = ResultQueue(endless(), stop)
    assert feed.take(5) == 1
    stop.now("deadline")
    feed.leave(5)
    assert closed == [True]


def test_the_first_reason_wins() -> None:
    stop = Stop()
    assert not stop
    stop.now("deadline")
    stop.now("gate")
    assert stop
    assert stop.reason == "deadline"


SIGNALS = [
    (signal.SIGINT, "interrupted", KeyboardInterrupt),
    (signal.SIGTERM, "terminated", Terminated),
]


@pytest.mark.parametrize(("number", "reason", "end"), SIGNALS)
def test_a_signal_ends_what_is_going_on(
    number: signal.Signals, reason: str, end: type[KeyboardInterrupt]
) -> None:
    before = signal.getsignal(number)
    stop = Stop()
    with stop.on_signals(), pytest.raises(end):
        os.kill(os.getpid(), number)
    assert stop.reason == reason
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("number", "reason", "end"), SIGNALS)
def test_where_it_is_gentle_the_second_ends_at_once(
    number: signal.Signals, reason: str, end: type[KeyboardInterrupt]
) -> None:
    stop = Stop()
    with stop.on_signals(), stop.gently():
        os.kill(os.getpid(), number)
        assert (stop.reason, stop.signalled) == (reason, True)
        with pytest.raises(end):
            os.kill(os.getpid(), number)


DEAF = """
import ctypes
from pipeline.graph import result_queue as feed
feed.END_SECONDS = 0.5
mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
stop = feed.Stop()
with stop.on_signals(), stop.gently():
    lock(mutex)
    print("deaf", flush=True)
    lock(mutex)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_hears_nothing_ends_all_the_same(number: signal.Signals, code: int) -> None:
    """In a call of a library that no signal interrupts."""
    process = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "deaf\n"
        process.send_signal(number)
        assert process.wait(30) == code
