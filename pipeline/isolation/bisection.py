"""Working in a child process, for a block whose worker died: the culprit costs one row.

A retry cannot know which image ended the worker before it. So every image of its block is
decoded in a child, and where the child ends, that image is `crashed`. A predictor's batch
goes to a child with a model of its own, and is halved where the child ends, down to one row.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Generic, Self, TypeVar

import pyarrow as pa

from pipeline.errors import ErrorCode, ImageError, NightlabelError
from pipeline.images import Prepared
from pipeline.isolation.child_process import Child, EndedError, Work
from pipeline.isolation.limits import image_memory, memory_limit
from pipeline.spec import MAX_BYTES, MAX_PIXELS, MAX_SECONDS

Answer = TypeVar("Answer")
#: Bytes of one object → its pixels; raises ImageError.
Decoder = Callable[[bytes], Prepared]
#: PIXELS → rows in flight.
Labeller = Callable[[pa.Table], pa.Table]

#: So many in a row are no longer the images' fault. A crash costs the start of a child; an
#: image that takes too long costs all of its time, so five of these are enough.
CRASHES_IN_A_ROW: Final = 20
CRASHES_FOR_A_HANG: Final = 4
#: Halving 512 rows to one takes ten children in a row, each of which loads a model.
DEAD_PREDICTORS_IN_A_ROW: Final = 12
BATCH_SECONDS: Final = 600.0
MEMORY: Final = image_memory(MAX_PIXELS, MAX_BYTES)


class _InChild:
    """Work in a child that is started when it is first needed, and again after its end.

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
        if self._child is None:
            self._child = Child(self._make)
        try:
            return self._child.ask(message, seconds)
        except EndedError:
            self._child = None
            raise


class IsolatedDecoder(_InChild, Generic[Answer]):
    """A decoder, or another function of an image's bytes, that outlives its images.

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
        """What `decode` gives for `data`, or the ImageError that it raises.

        Raises ImageError(crashed) where it ends its process or takes too long, and
        NightlabelError where that happens too often in a row or no process starts.
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
    """In the child: an image within its memory."""
    with memory_limit(memory):
        return decode(data)


class IsolatedLabeller(_InChild):
    """Labels a block in a child process; rows that end it come out `crashed`.

    `make` loads the model there, `mark` gives rows of PIXELS that hold an error their own
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
        """Rows, in the order of `pixels`. Raises NightlabelError if too many die in a row."""
        try:
            labelled: pa.Table = self._ask(pixels, BATCH_SECONDS)
        except EndedError as ended:
            self._died(ended)
            if pixels.num_rows == 1:
                return self._mark(_crashed(pixels, f"predicting this image {ended}"))
            half = pixels.num_rows // 2
            return pa.concat_tables([self(pixels.slice(0, half)), self(pixels.slice(half))])
        self._deaths = 0
        return labelled

    def _died(self, ended: EndedError) -> None:
        self._deaths += 1
        if self._deaths > self._limit:
            raise NightlabelError(
                f"the model keeps ending its process (the last time it {ended}): look for a "
                "broken driver, device or torch, or too little memory; `nightlabel doctor` shows "
                "what is installed"
            )


def _crashed(pixels: pa.Table, message: str) -> pa.Table:
    """One row of PIXELS with its image taken for an error."""
    values = {"pixels": None, "error_code": str(ErrorCode.CRASHED), "error_message": message}
    for name, value in values.items():
        field = pixels.schema.field(name)
        pixels = pixels.set_column(
            pixels.schema.get_field_index(name), field, pa.array([value], field.type)
        )
    return pixels
