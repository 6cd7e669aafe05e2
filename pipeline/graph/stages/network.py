"""Network: the network of a task, which an actor loads once; batches that end it are isolated."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import ray

from pipeline.engine.ray_compat import attempt_number
from pipeline.errors import ModelError, NightlabelError
from pipeline.graph.job import Job, with_graph
from pipeline.graph.stages.failures import TASK_RETRIES, reporting_errors
from pipeline.heap import for_good
from pipeline.isolation.bisection import IsolatedLabeller, Labeller

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

#: A predictor whose process dies this many times in a row while loading is not restarted.
LOAD_TRIES: Final = 3


class Network:
    """A task's network, loaded once in the actor that this object lives in."""

    def __init__(self, job: Job, coordinator: "ActorHandle", graph: "ObjectRef | None") -> None:
        """`graph` is the network, if OpenVINO runs it. Raises ModelError, and reports it to the
        coordinator."""
        self._load = partial(job.task.load, with_graph(job, graph))
        self._coordinator = coordinator
        name = ray.get_runtime_context().get_actor_id() or ""
        with reporting_errors(coordinator):
            if ray.get(coordinator.starting.remote(name)) > LOAD_TRIES:
                # Ray would restart its process forever.
                raise ModelError(
                    f"loading {job.model} has ended its process {LOAD_TRIES} times: look for a "
                    "broken driver, device or torch, or too little memory; `nightlabel doctor` "
                    "shows what is installed"
                )
            with for_good():
                self._worker = self._load()
        coordinator.ready.remote(name)

    @contextmanager
    def labeller(self) -> Iterator[Labeller]:
        """PIXELS → rows, for the images of one call of the actor: isolated if this is a retry."""
        if not attempt_number():
            yield self._label
            return
        self._count_retry()
        with IsolatedLabeller(self._load, self._worker) as careful:
            yield careful

    def _count_retry(self) -> None:
        """Count a retry ourselves. Ray's own count is useless here: it also goes up each time Ray
        cannot reach an actor whose node is gone, which happens many times before another actor
        replaces it."""
        block = ray.get_runtime_context().get_task_id()
        if ray.get(self._coordinator.retried.remote(block)) > TASK_RETRIES:
            raise NightlabelError(
                f"a block of images has ended {TASK_RETRIES + 1} predictors: look for too little "
                "memory or a broken device; `nightlabel doctor` shows what is installed"
            )

    def _label(self, pixels: pa.Table) -> pa.Table:
        from pipeline.models.backends.base import DeviceLostError

        try:
            return self._worker(pixels)
        except DeviceLostError:
            # Its process can do nothing more on this device. A new process tries again.
            os._exit(1)
