"""A device that sleeps, in the place of an engine: its labels follow from the pixels, so the checks
of labels have something to check."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.acceptance.rig import SIMULATED
from benchmarks.device import SIDE, TOP_K, Device

#: Of the rate in half precision.
EXACT_SHARE = 1 / 8


class Sleeping(Device):
    """Labels as many images a second as a GPU would, the same label for the same pixels."""

    def __init__(self, rate: float, side: int = SIDE, precision: str = "fp16") -> None:
        super().__init__(rate, side)
        self._rate, self.precision = rate, precision

    @property
    def exact(self) -> "Sleeping":
        return Sleeping(self._rate * EXACT_SHARE, self.image_shape[0], "fp32")

    def predict(self, pixels: NDArray[np.uint8], /) -> tuple[NDArray[Any], ...]:
        _, scores = super().predict(pixels)
        first = pixels[:, ::16, ::16].astype(np.int64).sum(axis=(1, 2, 3))
        return (first[:, None] + np.arange(TOP_K)) % len(self.labels), scores


def load(model: Path, precision: str, batch: int, compiled: bool) -> Sleeping:  # noqa: ARG001
    """In the place of `benchmarks.gpu.load`."""
    share = EXACT_SHARE if precision == "fp32" else 1.0
    return Sleeping(SIMULATED.rate * share, precision=precision)


def on_device(
    model: Path,  # noqa: ARG001
    precision: str,
    batch: int,  # noqa: ARG001
    pixels: NDArray[np.uint8],  # noqa: ARG001
    seconds: float,  # noqa: ARG001
) -> float:
    """In the place of `benchmarks.gpu.on_device`."""
    return SIMULATED.rate * (EXACT_SHARE if precision == "fp32" else 1.0)
