"""What an error of a device means: no memory, or a device that is lost.

Kernels fail after they were queued, so the error may come out of any later call, and libraries on
top of a device raise it in their own words.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Final

from pipeline.errors import ModelError
from pipeline.models.backends.base import DeviceLostError


class Fault(Enum):
    """MEMORY: fewer images may fit. LOST: every later call in this process fails as well."""

    MEMORY = auto()
    LOST = auto()


#: In messages, as PyTorch 2.4 to 2.13 writes them, in lower case.
_MEMORY: Final = ("out of memory", "alloc_failed", "alloc failed", "not enough memory")
_LOST: Final = (
    "cuda error",
    "cuda driver error",
    "cublas_status_",
    "cublas error",
    "cudnn error",
    "cudnn_status_",
    "cusolver error",
    "hip error",
    "miopen error",
    "triton error",
    "device-side assert",
    "nvrtc",
    # Of a device that was counted, and that does not start.
    "no cuda gpus are available",
    "no hip gpus are available",
    "cuda unknown error",
    "cuda driver initialization failed",
)


def fault(error: RuntimeError) -> Fault | None:
    """None: the error is not of a device."""
    import torch

    text = str(error).lower()
    if isinstance(error, torch.OutOfMemoryError) or any(words in text for words in _MEMORY):
        return Fault.MEMORY
    if isinstance(error, torch.AcceleratorError) or any(words in text for words in _LOST):
        return Fault.LOST
    return None


@contextmanager
def device_errors(model: str) -> Iterator[None]:
    """While `model` is loaded: raises ModelError if the device has no memory for it, and
    DeviceLostError if the device is lost."""
    try:
        yield
    except RuntimeError as error:
        reason = first_line(error)
        match fault(error):
            case Fault.MEMORY:
                raise ModelError(
                    f"{model} does not fit in the memory of the device: {reason}; choose a smaller "
                    "model or a larger device"
                ) from error
            case Fault.LOST:
                raise DeviceLostError(f"the device failed while it loaded: {reason}") from error
        raise


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
