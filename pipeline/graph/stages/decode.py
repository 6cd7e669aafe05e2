"""Decode: a task on a core, from refs to pixels, or to the rows of a task without a network."""

import os
from functools import partial
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from pipeline.engine.ray_compat import attempt_number
from pipeline.graph.batches import pack, unpack
from pipeline.graph.job import Job
from pipeline.graph.metrics import Meters, Watch
from pipeline.graph.stages.failures import ending_without_memory, reporting_errors
from pipeline.graph.stages.image_loader import ImageLoader
from pipeline.heap import keep_photographs
from pipeline.isolation.bisection import IsolatedLabeller
from pipeline.tasks import Worker

if TYPE_CHECKING:
    from ray.actor import ActorHandle

#: The lowest priority: Ray's workers have 15.
LOWEST: Final = 19


class Decode:
    """Refs to pixels for a predictor, or to the rows of a task without one.

    If a worker died on a batch, the retry isolates its images, see bisection.py. `beside_gpus`: its
    process gives way to the predictors of its node.
    """

    def __init__(
        self, job: Job, coordinator: "ActorHandle | None" = None, *, beside_gpus: bool = False
    ) -> None:
        self._job, self._coordinator = job, coordinator
        self._beside_gpus = beside_gpus
        self._images = ImageLoader(job, coordinator)

    def __call__(self, batches: pa.Table) -> pa.Table:
        if self._beside_gpus:
            give_way()
        keep_photographs()
        with reporting_errors(self._coordinator), ending_without_memory(self._coordinator):
            return pack(self.batch(unpack(batches)))

    def batch(self, refs: pa.Table) -> pa.Table:
        """PIXELS for a predictor, or the rows of a task without one."""
        pixels = self._images.pixels(refs)
        if self._job.task.network:
            return pixels
        watch = Watch()
        rows = self._work(pixels)
        watch.lap("measure")
        if self._coordinator is not None:
            Meters.of(self._job.spec.dst).took(watch)
            self._coordinator.labelled.remote(rows.num_rows)
        return rows

    def _work(self, pixels: pa.Table) -> pa.Table:
        worker = _loaded(self._job)
        if self._coordinator is None or not attempt_number():
            return worker(pixels)
        # The task's own code may have ended the worker.
        with IsolatedLabeller(partial(self._job.task.load, self._job), worker) as careful:
            return careful(pixels)


def give_way() -> None:
    """Give this process the lowest priority, for good.

    It never becomes a predictor: Ray keeps workers of tasks, and workers without a GPU, apart from
    those of actors and with one.
    """
    os.nice(LOWEST - os.nice(0))


_LOADED: dict[str, Worker] = {}


def _loaded(job: Job) -> Worker:
    """The worker of a task without a network, created once a process and run."""
    if job.run_id not in _LOADED:
        _LOADED.clear()
        _LOADED[job.run_id] = job.task.load(job)
    return _LOADED[job.run_id]
