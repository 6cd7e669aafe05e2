"""Many calls at once: bounds, order, errors, and an end without a trace."""

import subprocess
import sys
import threading
import time
from queue import SimpleQueue

import pytest

from pipeline.storage import parallel
from pipeline.storage.parallel import in_parallel


def test_every_item_comes_back_once_with_its_index() -> None:
    found = list(in_parallel(lambda n: n * n, range(500), in_flight=7))
    assert sorted(found) == [(n, n * n) for n in range(500)]
    assert list(in_parallel(str, [])) == []


def test_in_flight_is_bounded_by_objects_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "BYTES_IN_FLIGHT", 10)
    taken: list[int] = []
    done = in_parallel(taken.append, range(6), in_flight=3, cost=lambda _: 6)
    next(done)
    assert len(taken) <= 2
    assert len(list(done)) == 5
    assert len(taken) == 6


def test_no_more_are_called_than_may_be_in_flight() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def call(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1

    assert len(list(in_parallel(call, range(40), in_flight=4))) == 40
    assert most == 4


def test_what_a_call_raises_is_raised_here_and_the_threads_live_on() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_parallel(lambda n: 1 // n, [1, 0]))
    with pytest.raises(SystemExit):
        list(in_parallel(sys.exit, [3] * 40))
    assert len(list(in_parallel(str, range(40)))) == 40


def test_one_that_is_only_half_taken_holds_up_no_other() -> None:
    first = in_parallel(str, range(100))
    next(first)
    assert len(list(in_parallel(str, range(100)))) == 100
    assert len(list(first)) == 99


def test_one_that_is_given_up_starts_nothing_more() -> None:
    called: list[int] = []
    gate: SimpleQueue[None] = SimpleQueue()

    def call(number: int) -> None:
        called.append(number)
        if number:
            gate.get()

    calls = in_parallel(call, range(100), in_flight=2)
    next(calls)
    calls.close()
    gate.put(None)
    assert len(list(in_parallel(str, range(100)))) == 100
    assert called == [0, 1]


EXIT = """
import threading, time
from pipeline.storage.parallel import in_parallel

def call(seconds):
    time.sleep(seconds)
    if seconds:
        print("it came to its end")
    return seconds

calls = in_parallel(call, [0, 0.3])
print(next(calls))
print(sum(thread.name.startswith("nightlabel-read-") for thread in threading.enumerate()))
"""


def test_a_process_ends_with_calls_in_flight_and_sees_them_out() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXIT], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["(0, 0)", "2", "it came to its end"]
    assert done.stderr == ""
