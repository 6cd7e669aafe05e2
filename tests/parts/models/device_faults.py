"""Faults of devices, in PyTorch's own errors: told to processes that have none to lose.

What raises them is tests/parts/broken_device/sitecustomize.py.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.parts.broken_device import sitecustomize
from tests.parts.broken_device.sitecustomize import FOLDER

#: As PyTorch 2.13 tells them: (type, words, whether all later calls fail as well).
ERRORS: Final = {
    "illegal access": (
        "AcceleratorError",
        "CUDA error: an illegal memory access was encountered\n"
        "CUDA kernel errors might be asynchronously reported at some other API call",
        True,
    ),
    "launch failure": ("RuntimeError", "CUDA error: unspecified launch failure", True),
    "ecc": ("AcceleratorError", "CUDA error: uncorrectable ECC error encountered", True),
    "busy": (
        "AcceleratorError",
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        True,
    ),
    "no device": ("RuntimeError", "No CUDA GPUs are available", True),
    "cublas": (
        "RuntimeError",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx( handle, opa, opb)`",
        True,
    ),
    "cudnn": ("RuntimeError", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", True),
    "triton": ("RuntimeError", "Triton Error [CUDA]: an illegal instruction was encountered", True),
    "no memory": ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB.", False),
    "no memory of cuda": ("RuntimeError", "CUDA error: out of memory", False),
    "no memory of cublas": (
        "RuntimeError",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        False,
    ),
}


@dataclass(frozen=True)
class Fault:
    """One of ERRORS, at a `point`: load, proof, copy, forward or gather.

    It is raised each time after the first `after`, `times` at most, counted over all processes; at
    the `device` of that number, in careful children or not (`child`), where the batch has so many
    `rows`, and where an `image` is in it that is all of this grey. None: whatever that is.
    """

    error: str
    point: str
    times: int | None = None
    after: int = 0
    device: int | None = None
    child: bool | None = None
    rows: int = 0
    image: int | None = None

    @property
    def words(self) -> str:
        """What a person is told of it."""
        return ERRORS[self.error][1].splitlines()[0]


class Faults:
    """The faults of the nights on a cluster whose processes have this `environment`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.set()

    @property
    def environment(self) -> dict[str, str]:
        where = str(Path(sitecustomize.__file__).parent)
        return {**os.environ, "PYTHONPATH": where, FOLDER: str(self._folder)}

    def set(self, *faults: Fault) -> None:
        """Those of the next night, instead of the last one's."""
        for path in self._folder.iterdir():
            path.unlink()
        (self._folder / "faults.json").write_text(json.dumps([_as_told(one) for one in faults]))

    def met(self, number: int = 0) -> int:
        """How often processes came to where a fault is, by its number."""
        return len(list(self._folder.glob(f"{number}-*")))


def _as_told(fault: Fault) -> dict[str, object]:
    kind, words, loses = ERRORS[fault.error]
    device = None if fault.device is None else str(fault.device)
    return asdict(fault) | {"device": device, "kind": kind, "words": words, "loses": loses}
