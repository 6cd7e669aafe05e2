"""Room for large images: all decoders of a node share it and wait for it.

Child processes receive these objects, so this file imports no Ray.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from pipeline.errors import ErrorCode, ImageError
from pipeline.heap import give_back
from pipeline.isolation.child_process import clock_paused
from pipeline.isolation.limits import more_memory_allowed
from pipeline.isolation.memory_locks import UNIT, units

#: The example format in messages: the one of the common formats that takes the most memory.
EXAMPLE_MEGAPIXELS, EXAMPLE_BYTES_A_PIXEL = 64, 17.5
_GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Budget:
    """One node's memory in bytes: in total, for all large images together, and for one at most."""

    node: int
    decoders: int
    large: int
    most: int

    @property
    def at_once(self) -> int:
        """How many images of 64 megapixels (WebP) can be decoded at the same time."""
        each = EXAMPLE_MEGAPIXELS * 1e6 * EXAMPLE_BYTES_A_PIXEL
        return min(self.decoders, int(self.large / each) or int(self.most >= each))

    def __str__(self) -> str:
        return (
            f"decoders: {self.decoders}; of {self.node / _GIB:.1f} GiB, "
            f"{self.large / _GIB:.1f} GiB for large images, "
            f"so {self.at_once} of {EXAMPLE_MEGAPIXELS} MP at once; "
            f"{self.most / _GIB:.1f} GiB for one at most"
        )


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """A Room (cost.py) that all decoders of a node share; small enough to send to a child."""

    budget: Budget

    @contextmanager
    def __call__(self, needs: int) -> Iterator[None]:
        """Wait for this many bytes; the image's time limit is paused meanwhile.

        Raises ImageError(too_large) for an image that never fits, and PlacementError.
        """
        if needs > self.budget.most:
            raise ImageError(
                ErrorCode.TOO_LARGE,
                f"decoding it may take {needs / _GIB:.1f} GiB, and this node has "
                f"{self.budget.most / _GIB:.1f} GiB for one image: label it on a node with more "
                "memory, or refuse such images with --max-pixels",
            )
        with ExitStack() as stack:
            with clock_paused():
                stack.enter_context(units(-(-needs // UNIT), self.budget.large // UNIT))
            stack.callback(give_back)
            stack.enter_context(more_memory_allowed(needs))
            yield
