"""One image through decoding as a worker does it, held against Pillow alone."""

import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.errors import ErrorCode, ImageError
from pipeline.images import Prepared, Preprocess, decode, prepare, resize_crop
from pipeline.images.decode import open_image
from pipeline.images.formats import opened
from pipeline.images.refusals import PILLOW_ERRORS
from pipeline.isolation.bisection import IsolatedDecoder
from pipeline.isolation.child_process import Child, EndedError
from pipeline.isolation.limits import BYTES_A_PIXEL, image_memory, memory_limit, time_limit
from pipeline.spec import MAX_BYTES
from tests.parts.processes.memory import status_bytes

SHAPE: Final = Preprocess(
    height=24,
    width=20,
    rescale=1 / 255,
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    processor="ViTImageProcessorPil",
    on_white=False,
    shortest_edge=32,
    crop=(24, 20),
)
#: What an image that is read from its header alone may cost: libraries' own tables and buffers.
SMALL_CHANGE: Final = 64 * 2**20

PIXELS: Final = "pixels"
#: A child is given up later than the kernel's alarm ends it.
ASK_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`outcome` is an error code or PIXELS; `wrong` says what a worker must not do, if it did."""

    outcome: str
    message: str
    wrong: str | None
    memory: int
    seconds: float


class Trial:
    """Callable in a child process; bytes → Verdict. What ends that process is its outcome."""

    def __init__(self, max_pixels: int, seconds: float) -> None:
        self._max_pixels, self._seconds = max_pixels, seconds
        self._memory = image_memory(max_pixels, MAX_BYTES)

    def warmed(self) -> Self:
        """Itself, with all imported that a large image needs, so that none pays for it."""
        Image.init()
        resize_crop(np.zeros((1000, 1000, 3), np.uint8), SHAPE)
        return self

    def prepare(self, data: bytes) -> Prepared:
        return prepare(data, SHAPE, max_pixels=self._max_pixels)

    def __call__(self, data: bytes) -> Verdict:
        verdict, result = self._within_bounds(data)
        wrong = verdict.wrong or self._against_pillow(data, result)
        return replace(verdict, wrong=wrong)

    def cost(self, data: bytes) -> Verdict:
        """Time and memory alone, for images so large that to look twice takes long."""
        return self._within_bounds(data)[0]

    def _within_bounds(self, data: bytes) -> tuple[Verdict, Prepared | ImageError]:
        began, before = time.perf_counter(), _reset_peak()
        result: Prepared | ImageError
        with memory_limit(self._memory), time_limit(self._seconds):
            try:
                result = self.prepare(data)
            except ImageError as error:
                result = error
        took, memory = time.perf_counter() - began, status_bytes("VmHWM") - before
        wrong = self._too_much(data, memory)
        if isinstance(result, ImageError):
            return Verdict(str(result.code), result.message, wrong, memory, took), result
        return Verdict(PIXELS, result.format, wrong, memory, took), result

    def _too_much(self, data: bytes, memory: int) -> str | None:
        allowed = SMALL_CHANGE + len(data) + BYTES_A_PIXEL * self._claimed(data)
        return f"took {memory:,} bytes, not {allowed:,}" if memory > allowed else None

    def _claimed(self, data: bytes) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                width, height = open_image(data, self._max_pixels).size
            except ImageError:
                return 0
        return width * height

    def _against_pillow(self, data: bytes, result: Prepared | ImageError) -> str | None:
        if isinstance(result, ImageError):
            if result.code in (ErrorCode.TOO_LARGE, ErrorCode.UNSUPPORTED):
                return None
            return None if pillow_pixels(data) is None else f"Pillow decodes it, {result}"
        if result.pixels.shape != (SHAPE.height, SHAPE.width, 3) or result.pixels.dtype != np.uint8:
            return f"gives {result.pixels.dtype} {result.pixels.shape}"
        expected = pillow_pixels(data)
        if expected is None:
            return "Pillow refuses it"
        if not np.array_equal(decode(data, max_pixels=self._max_pixels).pixels, expected):
            return "its pixels are not Pillow's"
        same = np.array_equal(result.pixels, resize_crop(expected, SHAPE))
        return None if same else "its model-sized pixels are not Pillow's"


class Trials:
    """A child that tries one image after the other; a new one where an image ended it."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._child: Child | None = None

    def __enter__(self) -> "Trials":
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.end()

    def __call__(self, data: bytes) -> Verdict:
        if self._child is None:
            self._child = Child(self._trial.warmed)
        try:
            verdict: Verdict = self._child.ask(data, ASK_SECONDS)
        except EndedError as ended:
            self._child = None
            return carefully(self._trial, data, str(ended))
        return verdict


def carefully(trial: Trial, data: bytes, ended: str) -> Verdict:
    """What becomes of an image that ended its worker, when its block is tried again."""
    with IsolatedDecoder(trial.prepare, seconds=5.0) as careful:
        try:
            careful(data)
        except ImageError as error:
            crashed = error.code is ErrorCode.CRASHED and "exit 1" not in error.message
            return Verdict(error.code, error.message, None if crashed else ended, 0, 0.0)
    return Verdict(PIXELS, "", ended, 0, 0.0)


def pillow_pixels(data: bytes) -> NDArray[np.uint8] | None:
    """What Pillow alone makes of an image, upright where its EXIF can be read; None if nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = opened(data)
            stored = image.convert("RGB")
        except PILLOW_ERRORS:
            return None
        try:
            return _array(ImageOps.exif_transpose(image).convert("RGB"))
        except PILLOW_ERRORS:
            return _array(stored)


def _array(image: Any) -> NDArray[np.uint8]:
    return np.asarray(image, np.uint8)


def _reset_peak() -> int:
    """Let the kernel forget the highest resident size so far; the present one, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return status_bytes("VmRSS")
