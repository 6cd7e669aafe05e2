"""Network: the network of a task, which an actor loads once; batches that end it are isolated."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import ray

from pipeline.engine.ray_compat import attempt_number
from pipeline.errors import BadModelError, ModelError, NightlabelError
from pipeline.graph.job import Job, with_graph
from pipeline.graph.stages.failures import TASK_RETRIES, reporting_errors
from pipeline.graph.stages.own_device import keep_to_own_device
from pipeline.heap import for_good
from pipeline.isolation.bisection import IsolatedLabeller, Labeller

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

    from pipeline.tasks.base import Worker

    Load = Callable[[], Worker]

#: A predictor whose process dies this many times in a row while loading is not restarted.
LOAD_TRIES: Final = 3
#: A predictor that cannot load looks so often whether it is the last one.
ASIDE_SECONDS: Final = 5.0


class Network:
    """A task's network, loaded once in the actor that this object lives in."""

    def __init__(self, job: Job, coordinator: "ActorHandle", graph: "ObjectRef | None") -> None:
        """`graph` is the network, if OpenVINO runs it. Raises ModelError, and reports it to the
        coordinator."""
        self._load: Load = partial(job.task.load, with_graph(job, graph))
        self._coordinator = coordinator
        self._careful: IsolatedLabeller | None = None
        self._name = ray.get_runtime_context().get_actor_id() or ""
        keep_to_own_device()
        with reporting_errors(coordinator):
            if ray.get(coordinator.starting.remote(self._name)) > LOAD_TRIES:
                self._stand_aside()
                # Ray would restart its process forever.
                raise ModelError(
                    f"loading {job.model} has ended its process {LOAD_TRIES} times"
                    f"{self._last_fault()}: look for a broken driver, device or torch, or too "
                    "little memory; `nightlabel doctor` shows what is installed"
                )
            self._label = self._loaded()
        coordinator.ready.remote(self._name)

    def _loaded(self) -> "_Ending":
        try:
            with for_good():
                return _Ending(self._load, self._ending)
        except BadModelError:
            raise  # it is bad for every device
        except ModelError:
            ray.get(self._coordinator.cannot_load.remote(self._name))
            self._stand_aside()
            raise

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """End this process if its device is lost, since it can do nothing more there: a new one
        tries again."""
        from pipeline.models.backends.base import DeviceLostError

        try:
            yield
        except DeviceLostError as error:
            print(error, file=sys.stderr, flush=True)
            with suppress(ray.exceptions.RayError):
                ray.get(self._coordinator.lost_device.remote(self._name, str(error)))
            os._exit(1)

    def _last_fault(self) -> str:
        words = ray.get(self._coordinator.device_fault.remote(self._name))
        return f" (the last time: {words})" if words else ""

    def _stand_aside(self) -> None:
        """Wait for as long as another predictor works: one bad device does not end a night."""
        while ray.get(self._coordinator.others.remote(self._name, LOAD_TRIES)):
            time.sleep(ASIDE_SECONDS)

    @contextmanager
    def others_first(self) -> Iterator[None]:
        """Before an error of a device ends the night, other predictors label what they can."""
        try:
            yield
        except BadModelError:
            raise
        except NightlabelError:
            self._stand_aside()
            raise

    @contextmanager
    def labeller(self) -> Iterator[Labeller]:
        """PIXELS → rows, for the images of one call of the actor: isolated if this is a retry.

        Batches that waited behind the one that ended the process come next, and share its child:
        each would load the network again.
        """
        if attempt_number():
            self._count_retry()
            yield self._in_child()
            return
        careful, self._careful = self._careful, None
        if careful is not None:
            careful.close()
        yield self._label

    @property
    def device(self) -> str:
        """`cpu`, or `cuda:` and the GPU's name."""
        return self._label.device

    def _in_child(self) -> IsolatedLabeller:
        if self._careful is None:
            self._careful = IsolatedLabeller(self._load, self._label)
        return self._careful

    def _count_retry(self) -> None:
        """Count a retry ourselves. Ray's own count is useless here: it also goes up each time Ray
        cannot reach an actor whose node is gone, which happens many times before another actor
        replaces it."""
        block = ray.get_runtime_context().get_task_id()
        if ray.get(self._coordinator.retried.remote(block)) > TASK_RETRIES:
            raise NightlabelError(
                f"a block of images has ended {TASK_RETRIES + 1} predictors{self._last_fault()}: "
                "look for too little memory or a broken device; `nightlabel doctor` shows what is "
                "installed"
            )


class _Ending:
    """The worker that `load` makes, and what is done within `ending`."""

    def __init__(self, load: "Load", ending: Callable[[], AbstractContextManager[None]]) -> None:
        self._ending = ending
        with ending():
            self._worker = load()

    @property
    def device(self) -> str:
        return self._worker.device

    def __call__(self, pixels: pa.Table) -> pa.Table:
        with self._ending():
            return self._worker(pixels)
