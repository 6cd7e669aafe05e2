"""Large images wait for the node's memory; the wait is not theirs, and small ones never wait."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.engine.memory_budget import budget_here, budget_of, process_memory
from pipeline.engine.session import cores
from pipeline.errors import ErrorCode, ImageError
from pipeline.images import decode, prepare
from pipeline.images.reference import reference_values
from pipeline.isolation import memory_locks
from pipeline.isolation.bisection import IsolatedDecoder
from pipeline.isolation.limits import memory_limit, time_limit
from pipeline.isolation.memory_locks import UNIT, lock_file
from pipeline.isolation.node_room import Budget, NodeRoom
from pipeline.spec import make_spec
from tests.golden.reference import PROCESSORS
from tests.parts.images.decode_trial import SHAPE

GIB = 2**30
ROOT = Path(__file__).parent.parent.parent
SPEC = make_spec(src="photos", dst="labels")


def webp(megapixels: int) -> bytes:
    """Some dozen bytes."""
    sink = BytesIO()
    Image.new("RGB", (10_000, megapixels * 100)).save(sink, "WEBP", lossless=True, method=0)
    return sink.getvalue()


LARGE, SMALL = webp(16), webp(2)
ROOM = NodeRoom(Budget(GIB, 2, 8 * UNIT, 2 * GIB))

#: Holds all of the node's units until its stdin ends.
HOLDER = """
import sys
from pipeline.isolation.memory_locks import units
with units(10**6, 8):
    print("holds", flush=True)
    sys.stdin.read()
"""


@contextmanager
def all_taken() -> Iterator[Any]:
    """Another process holds all of it; gives what ends that."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018
    try:
        assert process.stdout.readline() == "holds\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def let_go_after(process: Any, seconds: float) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["/bin/sh", "-c", f"sleep {seconds}; kill {process.pid}"])


def test_a_wait_longer_than_the_time_of_an_image_costs_it_nothing() -> None:
    """In a worker, whose clock is the kernel's: it would end this process."""
    with all_taken() as other:
        timer = let_go_after(other, 4.5)
        began = time.monotonic()
        with time_limit(4.0):
            assert prepare(LARGE, SHAPE, room=ROOM).width == 10_000
        assert time.monotonic() - began > 4
        timer.wait()


def test_nor_in_a_child_whose_clock_is_its_parents() -> None:
    decoder = partial(prepare, preprocess=SHAPE, room=ROOM)
    with IsolatedDecoder(decoder, seconds=4.0) as careful:
        careful(SMALL)
        with all_taken() as other:
            timer = let_go_after(other, 5)
            began = time.monotonic()
            assert careful(LARGE).width == 10_000
            assert time.monotonic() - began > 4
            timer.wait()
        assert careful(LARGE).width == 10_000


def test_small_images_ask_nobody() -> None:
    with all_taken():
        assert prepare(SMALL, SHAPE, room=ROOM).width == 10_000
        assert decode(SMALL, room=ROOM).width == 10_000


def test_small_images_do_not_even_open_the_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> int:
        raise AssertionError("the locks were opened")

    monkeypatch.setattr(memory_locks, "lock_file", never)
    prepare(SMALL, SHAPE, room=ROOM)
    with pytest.raises(AssertionError):
        prepare(LARGE, SHAPE, room=ROOM)


@pytest.mark.torch
def test_the_reference_that_verify_holds_labels_against_waits_too() -> None:
    asked: list[int] = []

    @contextmanager
    def room(needs: int) -> Iterator[None]:
        asked.append(needs)
        yield

    for data in (SMALL, LARGE):
        reference_values(data, PROCESSORS / "vit", True, room=room)
    assert len(asked) == 1
    assert asked[0] >= 16_000_000 * 16


def test_what_never_fits_is_one_row_that_says_what_matters() -> None:
    room = NodeRoom(Budget(GIB, 2, 2 * UNIT, 240 * 2**20))
    with pytest.raises(ImageError, match=r"this node has 0\.2 GiB.*--max-pixels") as caught:
        prepare(LARGE, SHAPE, room=room)
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_what_needs_more_than_all_is_decoded_alone() -> None:
    room = NodeRoom(Budget(GIB, 2, UNIT, 2 * GIB))
    assert prepare(LARGE, SHAPE, room=room).width == 10_000


def test_memory_is_released_after_errors() -> None:
    broken = LARGE[:24] + b"\xff" * (len(LARGE) - 24)
    for data in (broken, LARGE):
        try:
            prepare(data, SHAPE, room=ROOM)
        except ImageError as error:
            assert error.code in (ErrorCode.UNDECODABLE, ErrorCode.TRUNCATED)  # noqa: PT017


#: A decoder whose header lies about its size, then one whose header is true.
LYING = f"""
import sys
from io import BytesIO
from PIL import Image
from pipeline.errors import ImageError
from pipeline.images import cost, prepare
from pipeline.isolation.limits import memory_limit
from pipeline.isolation.node_room import Budget, NodeRoom
from tests.parts.images.decode_trial import SHAPE

sink, room = BytesIO(), NodeRoom(Budget({8 * GIB}, 2, {8 * GIB}, {8 * GIB}))
Image.new("RGB", (10_000, 15_000)).save(sink, "PNG", compress_level=1)
module = sys.modules["pipeline.images.decode"]
for says in (lambda image, data: 1000, cost.decoding_bytes):
    module.decoding_bytes = says
    with memory_limit(cost.SMALL_BYTES):
        try:
            print(prepare(sink.getvalue(), SHAPE, room=room).width)
        except ImageError as error:
            print(error.code.value)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to it")
def test_what_says_less_than_it_takes_is_held_to_what_it_was_given() -> None:
    """Should a header ever lie about its size: one row, and no more memory than for a small one.

    In a process of its own: the limit counts whatever else a process does.
    """
    done = subprocess.run(
        [sys.executable, "-c", LYING], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == [ErrorCode.CRASHED.value, "10000"]


@pytest.mark.parametrize(
    ("memory", "decoders", "predictors", "store", "weights", "large"),
    [
        (64 * GIB, 16, 8, 19 * GIB, 0, 0.9 * 64 * GIB - 19 * GIB - 18 * GIB),
        (64 * GIB, 16, 16, 19 * GIB, 350 * 2**20, 16 * GIB),  # a quarter at least
        (24 * GIB, 2, 2, 200 * GIB, 23 * 2**20, (21.6 - 7.2 - 3) * GIB - 92 * 2**20),
        (128 * GIB, 16, 1, 38 * GIB, 350 * 2**20, (115.2 - 38 - 12.75) * GIB - 700 * 2**20),
        (GIB // 4, 64, 64, GIB, GIB, UNIT),
    ],
)
def test_the_formula(
    memory: int, decoders: int, predictors: int, store: int, weights: int, large: float
) -> None:
    found = budget_of(memory, decoders, predictors, store, weights)
    assert found.large % UNIT == 0
    assert large - UNIT < found.large <= large
    assert found.large <= max(found.most, UNIT)
    assert found.most <= 0.9 * memory


def test_what_a_node_is_said_to_have_is_no_more_than_it_has() -> None:
    here = budget_here(SPEC)
    assert budget_here(make_spec(src="a", dst="b", node_memory=10**18)) == here
    less = budget_here(make_spec(src="a", dst="b", node_memory=GIB))
    assert (less.node, less.decoders) == (GIB, here.decoders)
    assert f"decoders: {here.decoders}; of " in str(here)


def test_without_gpus_there_are_as_many_decoders_as_predictors() -> None:
    """They are the same processes, each with the memory of both."""
    alone = budget_here(make_spec(src="a", dst="b", predictors="1"))
    assert alone.decoders == 1
    assert alone.most == int(max(0.9 * alone.node - 2 * 0.75 * GIB, 0.5 * alone.node))
    assert budget_here(SPEC).decoders == cores()


def test_a_process_may_take_far_less_than_its_largest_image() -> None:
    assert process_memory(SPEC) < 4 * GIB < process_memory(SPEC, sizes_known=False)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to it")
def test_the_header_of_the_largest_webp_is_read_within_what_a_process_may_take() -> None:
    sink = BytesIO()
    Image.new("RGB", (16_000, 11_000)).save(sink, "WEBP", lossless=True, method=0)
    with memory_limit(process_memory(SPEC)), pytest.raises(ImageError) as caught:
        prepare(sink.getvalue(), SHAPE, room=ROOM)
    assert caught.value.code is ErrorCode.TOO_LARGE  # by its room, which comes after the header


def test_a_room_travels_to_a_child_without_ray() -> None:
    code = "import sys, pipeline.isolation.node_room; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_locks_lie_where_no_other_user_looks() -> None:
    lock_file()
    folders = [Path("/dev/shm"), Path(memory_locks.gettempdir())]
    assert any((folder / f"nightlabel-{memory_locks.os.geteuid()}").exists() for folder in folders)
