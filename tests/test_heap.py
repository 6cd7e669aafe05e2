"""Memory that is dropped is there for what comes next, in any thread; and what is loaded stays."""

import gc
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.heap import ONE_HEAP, for_good
from tests.parts.models.tiny import make_model

on_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another C library is left as it is"
)

#: A process that keeps nothing: glibc's own thresholds move with what a program does.
KEEPS_NOTHING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

#: Page faults of tensors that are made and dropped as a network's layers do, in a thread.
TENSORS = """
import resource, sys, threading
import torch
from pipeline.heap import keep_heap

def batches(times):
    for _ in range(times):
        made = [torch.ones(25 << 18) for _ in range(4)]
        del made

def work():
    batches(3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    batches(20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if sys.argv[1] == "kept":
    assert keep_heap()
if sys.argv[2] == "main":
    work()
else:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""

#: Those of a model's batches, whose pixels alone are 12 MB.
ENGINE = """
import resource, sys
import numpy as np
from pathlib import Path
from pipeline.models.backends import engine

if sys.argv[1] == "dropped":
    engine.keep_heap = lambda: False
scale = {"rescale": 1 / 255, "mean": (0.5,) * 3, "std": (0.5,) * 3}
shape = {"height": 32, "width": 32, "batch_size": 1024, "threads": 1}
loaded = engine.Engine.load(Path(sys.argv[2]), precision="fp32", top_k=1, **shape, **scale)
pixels = np.zeros((1024, 32, 32, 3), np.uint8)
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    loaded.predict(pixels)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


#: Page faults of a decoder's buffers, of 12 megapixels each.
PHOTOGRAPHS = """
import resource, sys
import numpy as np
from pipeline.heap import keep_photographs

def decode(times):
    for _ in range(times):
        np.ones(36 << 20, np.uint8)

if sys.argv[1] == "kept":
    assert keep_photographs()
decode(3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
decode(20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

#: MiB that a decoder holds after its largest images.
LARGEST = """
import numpy as np
from pipeline.heap import keep_photographs
from tests.parts.processes.memory import status_bytes

assert keep_photographs()
for megabytes in (300, 500):
    np.ones(megabytes << 20, np.uint8)
print(status_bytes("RssAnon") >> 20)
"""

#: MiB that a process holds after 32 threads have each read and dropped 40, one after the other.
READERS = """
from threading import Barrier, Thread
from pipeline.heap import keep_photographs
from tests.parts.processes.memory import status_bytes

assert keep_photographs()
turns = [Barrier(2) for _ in range(32)]

def read(turn):
    bytearray(1000)
    turn.wait()
    for _ in range(2):
        made = [bytearray(b"x") * (20 << 20) for _ in range(2)]
        del made
    turn.wait()

threads = [Thread(target=read, args=[turn]) for turn in turns]
for thread in threads:
    thread.start()
for turn in turns:
    turn.wait()
    turn.wait()
print(status_bytes("RssAnon") >> 20)
"""


def printed(program: str, *arguments: object, **environ: str) -> int:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = os.environ | KEEPS_NOTHING | environ
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return int(ran.stdout)


@pytest.mark.torch
@on_glibc
@pytest.mark.parametrize("thread", ["main", "another"])
def test_memory_of_a_batch_is_there_for_the_next(thread: str) -> None:
    assert printed(TENSORS, "kept", thread) < printed(TENSORS, "dropped", thread) / 20


@pytest.mark.torch
@on_glibc
def test_an_engine_on_a_cpu_keeps_its_heap(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    assert printed(ENGINE, "kept", model) < printed(ENGINE, "dropped", model) / 10


@pytest.mark.torch
@on_glibc
def test_memory_of_a_photograph_is_there_for_the_next() -> None:
    assert printed(PHOTOGRAPHS, "kept") < printed(PHOTOGRAPHS, "dropped") / 20


@on_glibc
def test_a_decoder_does_not_stay_as_large_as_its_largest_image() -> None:
    assert printed(LARGEST) < 100


@on_glibc
def test_what_one_thread_read_into_is_there_for_the_others() -> None:
    assert printed(READERS, **ONE_HEAP) < 150 < printed(READERS, MALLOC_ARENA_MAX="16")


@pytest.fixture
def thaw():
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("thaw")
def test_what_is_loaded_is_looked_through_no_more() -> None:
    looked: list[str] = []

    def note(phase: str, _: dict[str, int]) -> None:
        looked.append(phase)

    gc.callbacks.append(note)
    try:
        with for_good():
            made = [[number] for number in range(100_000)]
        assert looked == []
    finally:
        gc.callbacks.remove(note)
    assert gc.isenabled()
    assert not {id(one) for one in made} & {id(one) for one in gc.get_objects()}


@pytest.mark.usefixtures("thaw")
def test_a_process_that_collects_nothing_stays_so_when_its_model_fails() -> None:
    gc.disable()
    try:
        with pytest.raises(ValueError, match="no model"), for_good():
            raise ValueError("no model")
        assert not gc.isenabled()
    finally:
        gc.enable()
