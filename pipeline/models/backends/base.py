"""Backend: what runs a network. `TorchEngine` on GPUs, `OpenVinoEngine` on CPUs."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import NightlabelError


class DeviceLostError(NightlabelError):
    """The device failed and this process can no longer use it; another process may."""


class Engine(Protocol):
    """A loaded network that processes model-sized images in batches.

    `labels` names the classes in the order of the indices, if there are any; `precision` (fp32,
    bf16, fp16, int8) and `device` ("cpu", "cuda:NVIDIA L4") say what was chosen. `image_shape` is
    (height, width, 3).
    """

    labels: list[str]
    precision: str
    device: str
    image_shape: tuple[int, int, int]

    def predict(self, pixels: NDArray[np.uint8], /) -> tuple[NDArray[Any], ...]:
        """(n, H, W, 3) uint8 → class indices (n, k) int64 and scores (n, k) float32, best first;
        then, or instead of them, vectors (n, dim) float32.

        k is top_k or the number of classes, whichever is less. Equal scores are ordered by index.
        A row whose logits overflowed has NaN scores, and a vector that overflowed is not finite.
        Raises ValueError for another shape or type, ModelError if not even one image fits in the
        device's memory, DeviceLostError if the device fails.
        """

    @property
    def exact(self) -> "Engine":
        """The same network in fp32, loaded at first use; itself if it is in fp32 already."""
