"""Working in a child process, for a block whose worker died: the culprit costs one row.

A retry cannot know which image ended the worker before it. So every image of its block is
decoded in a child, and where the child ends, that image is `crashed`. A predictor's batch
goes to a child with a model of its own, and is halved where the child ends, down to one row.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Self

import pyarrow as pa

from pipeline.errors import ErrorCode, ImageError, NightlabelError
from pipeline.flow.bounds import image_memory, memory_limit
from pipeline.flow.child import Child, EndedError
from pipeline.images import Prepared
from pipeline.spec import MAX_BYTES, MAX_PIXELS, MAX_SECONDS

#: Bytes of one object → its pixels; raises ImageError.
Decoder = Callable[[bytes], Prepared]
#: PIXELS → LABELLED.
Labeller = Callable[[pa.Table], pa.Table]

#: So many in a row are no longer the images' fault. A crash costs the start of a child, an
#: image that takes too long costs all of its time.
CRASHES_IN_A_ROW: Final = 20
HANGS_IN_A_ROW: Final = 5
#: Halving 512 rows to one takes ten children in a row, each of which loads a model.
DEAD_PREDICTORS_IN_A_ROW: Final = 12
BATCH_SECONDS: Final = 600.0
MEMORY: Final = image_memory(MAX_PIXELS, MAX_BYTES)


def attempt_number() -> int:
    """How often the Ray task that this runs in was tried before; 0 where nothing tells.

    Private to Ray and asked for nowhere else: without an answer no block is worked on
    carefully, and one that ends its workers ends the run.
    """
    try:
        from ray._private.worker import global_worker

        return int(global_worker.core_worker.get_current_task_attempt_number())
    except (ImportError, AttributeError):
        return 0


def out_of_memory() -> ImageError:
    return ImageError(ErrorCode.CRASHED, "decoding this image ran out of memory")


class Careful:
    """A decoder that outlives its images. Close it, or use it as a context.

    `decode` must be picklable; it is sent to each child once. An image may take `seconds` and
    allocate `memory` bytes.
    """

    def __init__(
        self,
        decode: Decoder,
        *,
        seconds: float = MAX_SECONDS,
        memory: int = MEMORY,
        crashes_in_a_row: int = CRASHES_IN_A_ROW,
        hangs_in_a_row: int = HANGS_IN_A_ROW,
    ) -> None:
        self._make = partial(partial, _decode, decode, memory)
        self._seconds = seconds
        self._crash_cost, self._hang_cost = 1 / crashes_in_a_row, 1 / hangs_in_a_row
        self._child: Child | None = None
        self._in_a_row, self._suspicion = 0, 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def __call__(self, data: bytes) -> Prepared:
        """What `decode` gives for `data`, or the ImageError that it raises.

        Raises ImageError(crashed) where it ends its process or takes too long, and
        NightlabelError where that happens too often in a row or no process starts.
        """
        if self._child is None:
            self._child = Child(self._make)
        try:
            prepared: Prepared = self._child.ask(data, self._seconds)
        except EndedError as ended:
            self._child = None
            raise self._crashed(str(ended)) from None
        except ImageError:
            self._in_a_row, self._suspicion = 0, 0.0
            raise
        self._in_a_row, self._suspicion = 0, 0.0
        return prepared

    def _crashed(self, how: str) -> NightlabelError:
        self._in_a_row += 1
        self._suspicion += self._hang_cost if "longer" in how else self._crash_cost
        if self._suspicion < 1 - 1e-9:
            return ImageError(ErrorCode.CRASHED, f"decoding this image {how}")
        return NightlabelError(
            f"decoding keeps ending its process, {self._in_a_row} images in a row (the last one "
            f"{how}): look for a broken image library or too little memory; `nightlabel doctor` "
            "shows what is installed"
        )


def _decode(decode: Decoder, memory: int, data: bytes) -> Prepared:
    """In the child: an image within its memory."""
    try:
        with memory_limit(memory):
            return decode(data)
    except MemoryError:
        raise out_of_memory() from None


class CarefulLabeller:
    """Labels a block in a child process; rows that end it come out `crashed`.

    `make` loads the model there, `mark` gives rows of PIXELS that hold an error their LABELLED
    ones. Close it, or use it as a context.
    """

    def __init__(
        self,
        make: Callable[[], Labeller],
        mark: Labeller,
        *,
        deaths_in_a_row: int = DEAD_PREDICTORS_IN_A_ROW,
    ) -> None:
        self._make, self._mark, self._limit = make, mark, deaths_in_a_row
        self._child: Child | None = None
        self._deaths = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.end()

    def __call__(self, pixels: pa.Table) -> pa.Table:
        """LABELLED, in the order of `pixels`. Raises NightlabelError if too many die in a row."""
        try:
            return self._ask(pixels)
        except EndedError as ended:
            self._died(str(ended))
            if pixels.num_rows == 1:
                return self._mark(_crashed(pixels, f"predicting this image {ended}"))
        half = pixels.num_rows // 2
        return pa.concat_tables([self(pixels.slice(0, half)), self(pixels.slice(half))])

    def _ask(self, pixels: pa.Table) -> Any:
        if self._child is None:
            self._child = Child(self._make)
        answer = self._child.ask(pixels, BATCH_SECONDS)
        self._deaths = 0
        return answer

    def _died(self, how: str) -> None:
        self._child = None
        self._deaths += 1
        if self._deaths > self._limit:
            raise NightlabelError(
                f"the model keeps ending its process (the last time it {how}): look for a "
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
