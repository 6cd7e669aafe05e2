"""Crash isolation: retries a block whose worker died in a child process, so one bad image costs one
row.

A retry cannot know which image ended the worker. So every image of the block is
decoded in a child process. If the child dies, its image is `crashed`. A predictor's batch
goes to a child with its own copy of the model, and is divided when the child dies, down to one row.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Generic, Self, TypeVar

import pyarrow as pa

from pipeline.errors import ErrorCode, ImageError, NightlabelError
from pipeline.images import Prepared
from pipeline.isolation.child_process import Child, EndedError, Work
from pipeline.isolation.limits import image_memory, memory_limit
from pipeline.models.backends.base import DeviceLostError
from pipeline.spec import MAX_BYTES, MAX_PIXELS, MAX_SECONDS

Answer = TypeVar("Answer")
#: Bytes of one object → its pixels; raises ImageError.
Decoder = Callable[[bytes], Prepared]
#: PIXELS → rows in flight.
Labeller = Callable[[pa.Table], pa.Table]

#: This many consecutive crashes mean that the environment is broken, not the images. A crash costs
#: the start of a child; an image that takes too long costs its whole time limit, so five are
#: enough.
CRASHES_IN_A_ROW: Final = 20
CRASHES_FOR_A_HANG: Final = 4
#: A batch that ends a predictor is divided into so many parts, and so is each part: with halves
#: twice as many children would die before one row of 512 is found, and each loads a model.
PARTS: Final = 8
#: One row among 2,048 takes five children in a row.
DEAD_PREDICTORS_IN_A_ROW: Final = 12
BATCH_SECONDS: Final = 600.0
MEMORY: Final = image_memory(MAX_PIXELS, MAX_BYTES)


class _InChild:
    """Work in a child process that starts at first use, and restarts after it dies.

    Close it, or use it as a context.
    """

    def __init__(self, make: Callable[[], Work]) -> None:
        self._make = make
        self._child: Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _ask(self, message: object, seconds: float) -> Any:
        """Raises EndedError, and what `Child` raises."""
        try:
            return self._start().ask(message, seconds)
        except EndedError:
            self._child = None
            raise

    def _start(self) -> Child:
        if self._child is None:
            self._child = Child(self._make)
        return self._child


class IsolatedDecoder(_InChild, Generic[Answer]):
    """A decoder, or another function of an image's bytes, that survives images that crash it.

    `decode` must be picklable; it is sent to each child once. An image may take `seconds` and
    allocate `memory` bytes.
    """

    def __init__(
        self,
        decode: Callable[[bytes], Answer],
        *,
        seconds: float = MAX_SECONDS,
        memory: int = MEMORY,
        crashes_in_a_row: int = CRASHES_IN_A_ROW,
    ) -> None:
        super().__init__(partial(partial, _decode, decode, memory))
        self._seconds, self._limit = seconds, crashes_in_a_row
        self._forget()

    def __call__(self, data: bytes) -> Answer:
        """The result of `decode` for `data`, or the ImageError that it raises.

        Raises ImageError(crashed) if the image ends its process or takes too long, and
        NightlabelError if that happens too often in a row or no process starts.
        """
        try:
            answer: Answer = self._ask(data, self._seconds)
        except EndedError as ended:
            raise self._crashed(ended) from None
        except ImageError:
            self._forget()
            raise
        self._forget()
        return answer

    def _forget(self) -> None:
        self._in_a_row, self._cost = 0, 0

    def _crashed(self, ended: EndedError) -> NightlabelError:
        self._in_a_row += 1
        self._cost += CRASHES_FOR_A_HANG if ended.hung else 1
        if self._cost < self._limit:
            return ImageError(ErrorCode.CRASHED, f"decoding this image {ended}")
        return NightlabelError(
            f"decoding keeps ending its process, {self._in_a_row} images in a row (the last one "
            f"{ended}): look for a broken image library or too little memory; `nightlabel doctor` "
            "shows what is installed"
        )


def _decode(decode: Callable[[bytes], Answer], memory: int, data: bytes) -> Answer:
    """In the child: decode an image within its memory limit."""
    with memory_limit(memory):
        return decode(data)


class IsolatedLabeller(_InChild):
    """Labels a block in a child process; rows that crash it come out as `crashed`.

    `make` loads the model there; `mark` gives rows of PIXELS that hold an error their result
    rows.
    """

    def __init__(
        self,
        make: Callable[[], Labeller],
        mark: Labeller,
        *,
        deaths_in_a_row: int = DEAD_PREDICTORS_IN_A_ROW,
    ) -> None:
        super().__init__(make)
        self._mark, self._limit = mark, deaths_in_a_row
        self._deaths = 0

    def __call__(self, pixels: pa.Table) -> pa.Table:
        """Rows, in the order of `pixels`. Raises NightlabelError if too many crash in a row."""
        while not self._started():
            pass  # until it is, or too many have died
        try:
            labelled = self._labelled(pixels)
        except EndedError as ended:
            self._died(ended)
            if pixels.num_rows == 1:
                return self._mark(_crashed(pixels, f"predicting this image {ended}"))
            size = -(-pixels.num_rows // PARTS)
            starts = range(0, pixels.num_rows, size)
            return pa.concat_tables([self(pixels.slice(start, size)) for start in starts])
        self._deaths = 0
        return labelled

    def _started(self) -> bool:
        """False if the device failed before the child saw an image."""
        try:
            self._start()
        except DeviceLostError as error:
            self._died(_lost(error))
            return False
        return True

    def _labelled(self, pixels: pa.Table) -> pa.Table:
        """Raises EndedError too if the device is lost: the child can do nothing more there."""
        try:
            return self._ask(pixels, BATCH_SECONDS)
        except DeviceLostError as error:
            self.close()
            raise _lost(error) from None

    def _died(self, ended: EndedError) -> None:
        self._deaths += 1
        if self._deaths > self._limit:
            raise NightlabelError(
                f"the model keeps ending its process (the last time it {ended}): look for a "
                "broken driver, device or torch, or too little memory; `nightlabel doctor` shows "
                "what is installed"
            )


def _lost(error: DeviceLostError) -> EndedError:
    return EndedError(f"lost its device ({error})")


def _crashed(pixels: pa.Table, message: str) -> pa.Table:
    """One row of PIXELS, with an error in place of its image."""
    values = {"pixels": None, "error_code": str(ErrorCode.CRASHED), "error_message": message}
    for name, value in values.items():
        field = pixels.schema.field(name)
        pixels = pixels.set_column(
            pixels.schema.get_field_index(name), field, pa.array([value], field.type)
        )
    return pixels
