"""In each Python of a night: a device fails as tests/parts/models/device_faults.py says.

Python runs a file of this name at its start where its folder is on PYTHONPATH. Only processes that
Ray gave a device are touched: predictors and their children. The faults are raised where a CUDA
device raises them, in the words of PyTorch; after one that loses the device, all else that this
process wants of it fails as well.
"""

import json
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

#: The folder of faults.json, and of files that count what was raised.
FOLDER = "NIGHTLABEL_TESTS_DEVICE_FAULTS"
ENGINE = "pipeline.models.backends.torch_engine"
CHILD = "pipeline.isolation.child_process"


class Device:
    """The device of this process, which is `bad` in some ways."""

    def __init__(self) -> None:
        import torch

        self._folder = Path(os.environ[FOLDER])
        self._number = os.environ["CUDA_VISIBLE_DEVICES"]
        self._child = CHILD in sys.orig_argv
        self._kinds = {
            "AcceleratorError": torch.AcceleratorError,
            "OutOfMemoryError": torch.OutOfMemoryError,
            "RuntimeError": RuntimeError,
        }
        self.faults = json.loads((self._folder / "faults.json").read_text())
        self.proves = False
        self._lost: Exception | None = None

    def reaches(self, point: str, images: Any = None, rows: int = 0) -> None:
        """`images`: pixels of those that are there; `rows`: of one batch."""
        if self._lost is not None:
            raise self._lost
        for number, fault in enumerate(self.faults):
            if fault["point"] == point and self._meets(fault, images, rows):
                self._raise(number, fault)

    def _meets(self, fault: dict[str, Any], images: Any, rows: int) -> bool:
        if fault["device"] not in (None, self._number):
            return False
        if fault["child"] not in (None, self._child):
            return False
        if rows < fault["rows"]:
            return False
        shade = fault["image"]
        return shade is None or (images is not None and _has(images, shade))

    def _raise(self, number: int, fault: dict[str, Any]) -> None:
        use = self._count(number)
        first, times = fault["after"], fault["times"]
        if use < first or (times is not None and use >= first + times):
            return
        error = self._kinds[fault["kind"]](fault["words"])
        if fault["loses"]:
            self._lost = error
        raise error

    def _count(self, number: int) -> int:
        """How many processes were here before, each as often as it was."""
        for use in count():
            try:
                os.close(os.open(self._folder / f"{number}-{use}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            return use
        raise AssertionError


def _has(images: Any, shade: int) -> bool:
    """Whether one of them is all of this grey."""
    flat = images.reshape(len(images), -1)
    return any(int(one.min()) >= shade - 2 and int(one.max()) <= shade + 2 for one in flat)


def _into(module: Any) -> None:
    from pipeline.models.backends.transfer import Results, _Slot
    from pipeline.models.scorer import Scorer

    device = Device()
    engine = module.TorchEngine
    load, prove, queue = module.load_weights, engine._prove, engine._queued
    put, compute, wait = _Slot.put, Scorer.__call__, Results.wait

    def load_weights(*arguments: Any) -> Any:
        device.reaches("load")
        return load(*arguments)

    def proves(self: Any, *arguments: Any) -> Any:
        device.proves = True
        try:
            return prove(self, *arguments)
        finally:
            device.proves = False

    def queued(self: Any, pixels: Any, *, measured: bool) -> Any:
        results = queue(self, pixels, measured=measured)
        results.those = pixels, min(self.batch_size, len(pixels))
        return results

    def copies(self: Any, rows: Any) -> Any:
        if not device.proves:
            device.reaches("copy", rows, len(rows))
        return put(self, rows)

    def computes(self: Any, batch: Any) -> Any:
        device.reaches("proof" if device.proves else "forward", batch, len(batch))
        return compute(self, batch)

    def waits(self: Any) -> Any:
        if not device.proves:
            device.reaches("gather", *self.those)
        return wait(self)

    module.load_weights = load_weights
    engine._prove, engine._queued = proves, queued
    _Slot.put, Scorer.__call__, Results.wait = copies, computes, waits  # type: ignore[method-assign]


class Finder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != ENGINE or not os.environ.get("CUDA_VISIBLE_DEVICES", "").isdigit():
            return None
        sys.meta_path.remove(Finder)
        spec = PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.loader is not None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            _into(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if FOLDER in os.environ:
    sys.meta_path.insert(0, Finder)
