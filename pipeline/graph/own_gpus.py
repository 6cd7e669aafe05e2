"""Refuses a run on this machine's GPUs if torch cannot use them, before a predictor starts."""

from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from contextlib import suppress
from functools import partial
from typing import Final

from pipeline.engine.placement import Placement
from pipeline.engine.ray_compat import started_node
from pipeline.engine.session import gpu_here
from pipeline.errors import PlacementError
from pipeline.graph.result_queue import Stop
from pipeline.graph.stages.own_device import logical
from pipeline.isolation.background import in_background
from pipeline.isolation.child_process import EndedError
from pipeline.isolation.model_process import ModelProcess
from pipeline.models.backends.loading import device_count, torch_in_words

LOOK_SECONDS: Final = 0.2


class OwnGpus:
    """The GPUs that torch finds on this machine, counted in `process` while Ray starts."""

    def __init__(self, process: ModelProcess) -> None:
        self._process = process
        self._found: Future[tuple[int, str]] | None = None

    def begin(self) -> None:
        """Count them, if this machine seems to have any."""
        if gpu_here() and not logical():
            self._found = in_background(partial(self._process, _count))

    def check(self, placement: Placement, stop: Stop) -> None:
        """Raises PlacementError if `placement` is on GPUs of this machine and torch finds none.

        On a cluster, each predictor checks its own.
        """
        if self._found is None or not placement.predictor_gpus or started_node() is None:
            return
        while not stop:
            with suppress(NotYetError):
                try:
                    count, version = self._found.result(LOOK_SECONDS)
                except EndedError:
                    return
                if not count:
                    raise PlacementError(
                        f"this machine has a GPU, but {version} cannot use it: install a PyTorch "
                        "that is made for the GPU and its driver, or set CUDA_VISIBLE_DEVICES= "
                        "(ROCm: HIP_VISIBLE_DEVICES=) to label on its cores"
                    )
                return


def _count() -> tuple[int, str]:
    return device_count(), torch_in_words()
