"""A run's network as a graph for CPUs: read from the cache, or made in the background by the model
process."""

from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import ray
from filelock import FileLock

from pipeline.engine.placement import Placement
from pipeline.engine.session import gpu_here
from pipeline.errors import ModelError
from pipeline.graph.job import Job
from pipeline.graph.result_queue import Stop
from pipeline.isolation.background import in_background
from pipeline.isolation.child_process import EndedError
from pipeline.isolation.model_process import ModelProcess
from pipeline.models.backends.graph import PRECISIONS, Graph, NoGraphError
from pipeline.models.backends.loading import device_count
from pipeline.models.backends.openvino_engine import NO_RUNTIME, has_runtime, runtime_name
from pipeline.models.cache import cache_folder
from pipeline.models.fetch import fetch
from pipeline.tasks.graph_cache import KIND, keep_graph, kept_graph, name_of
from pipeline.tasks.graph_maker import GraphRequest, make_graph

if TYPE_CHECKING:
    from ray import ObjectRef

LOOK_SECONDS: Final = 0.2
#: Why torch runs a network that has a GPU.
ON_GPU: Final = "a GPU runs it"


def request_of(job: Job) -> GraphRequest | str:
    """The graph that a job needs on CPUs, or in words why it needs none."""
    purpose = job.task.purpose(job.recipe)
    if purpose is None or job.model is None:
        return f"{job.task.name} runs its own code"
    if job.spec.compile:
        return "--compile is torch's"
    precision = "fp32" if job.spec.precision == "auto" else job.spec.precision
    if precision not in PRECISIONS:
        return f"--precision {precision} is torch's"
    folder = fetch(job.model, job.revision, classifier=purpose.labels)
    return GraphRequest(folder.path, folder.weights_sha256, job.preprocess, purpose, precision)


def runtime_of(found: Graph | str) -> str:
    """What runs the network, in words: OpenVINO, or torch and why."""
    return f"torch: {found}" if isinstance(found, str) else runtime_name()


class PendingGraph:
    """A graph that is read, or made by `process`, in the background."""

    def __init__(self, job: Job, process: ModelProcess) -> None:
        self._job, self._process = job, process
        self._asked: GraphRequest | str = ""
        self._found: Future[Graph | str] | None = None

    def begin(self) -> "Future[Graph | str]":
        """Start in the background, unless it was started already."""
        if self._found is None:
            self._found = in_background(self._find)
        return self._found

    def result(self, stop: Stop) -> Graph | str:
        """The graph, or in words why there is none. Returns at once if `stop` comes.

        Raises ModelError if torch cannot load the model either, or not run it in int8.
        """
        found = self.begin()
        while not stop:
            with suppress(NotYetError):
                return self._checked(found.result(LOOK_SECONDS))
        return "the run was stopped"

    def shared(self, placement: Placement, stop: Stop) -> "tuple[ObjectRef | None, str]":
        """The graph in Ray's object store, for the workers of a placement that has none of the
        GPUs, and what runs the network, in words. Raises as `result` does."""
        found = ON_GPU if placement.predictor_gpus else self.result(stop)
        return (None if isinstance(found, str) else ray.put(found)), runtime_of(found)

    def _checked(self, found: Graph | str) -> Graph | str:
        asked = self._asked
        if isinstance(found, str) and isinstance(asked, GraphRequest) and asked.precision == "int8":
            raise ModelError(f"--precision int8 does not work with this model: {found}; use fp32")
        return found

    def _find(self) -> Graph | str:
        self._asked = request_of(self._job)
        if isinstance(self._asked, str):
            return self._asked
        if not has_runtime():
            return NO_RUNTIME
        name = name_of(self._asked)
        if (known := kept_graph(name)) is not None:
            return known
        with _alone(name):
            if (known := kept_graph(name)) is not None:  # another process has made it
                return known
            try:
                found = self._made(self._asked)
            except EndedError as ended:  # only of this run: a stop, or too little memory just now
                return f"making its graph {ended}"
            with suppress(OSError):  # the next run makes it again
                keep_graph(name, found)
        return found

    def _made(self, request: GraphRequest) -> Graph | str:
        try:
            return self._process(partial(make_graph, request))
        except NoGraphError as error:
            return str(error)
        finally:
            self._process.end()


def job_here(job: Job, process: ModelProcess) -> tuple[Job, str]:
    """The job with its network as a worker on this machine has it, and what runs it, in words."""
    if not job.task.network or (gpu_here() and device_count()):
        return job, runtime_of(ON_GPU) if job.task.network else ""
    found = PendingGraph(job, process).result(Stop())
    return (job if isinstance(found, str) else replace(job, graph=found)), runtime_of(found)


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """One process of this machine at a time, if the cache can be written."""
    with ExitStack() as held:
        with suppress(OSError):
            held.enter_context(FileLock(cache_folder(KIND) / f"{name}.lock"))
        yield
