"""A run's network for CPUs: read from the cache, or made by a child process meanwhile.

The child is the only process of a run on CPUs that imports torch and transformers.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, Self

from filelock import FileLock

from pipeline.errors import ModelError
from pipeline.graph.job import Job
from pipeline.graph.result_queue import Stop
from pipeline.isolation.child_process import Child, EndedError, Work
from pipeline.models.backends.graph import PRECISIONS, Graph, NoGraphError
from pipeline.models.backends.openvino_engine import runtime_name
from pipeline.models.cache import cache_folder
from pipeline.models.fetch import fetch
from pipeline.tasks.graph_cache import KIND, keep_graph, kept_graph, name_of
from pipeline.tasks.graph_maker import GraphRequest, make_graph

#: The largest networks take minutes.
MAKE_SECONDS: Final = 1_800.0
LOOK_SECONDS: Final = 0.2


def request_of(job: Job) -> GraphRequest | str:
    """The graph that a job asks for on CPUs, or in words why it needs none."""
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
    """A graph that is read, or made, in the background; as a context, which ends the child."""

    def __init__(self, job: Job) -> None:
        self._asked = request_of(job)
        self._child: Child | None = None
        self._thread = ThreadPoolExecutor(1, "graph")
        self._found: Future[Graph | str] = self._thread.submit(self._find)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None and not self._found.done():
            self._child.end()
        self._thread.shutdown()

    def result(self, stop: Stop) -> Graph | str:
        """The graph, or in words why there is none. Returns at once if `stop` comes.

        Raises ModelError if torch cannot load the model either, or not run it in int8.
        """
        while not stop:
            with suppress(NotYetError):
                return self._checked(self._found.result(LOOK_SECONDS))
        return "the run was stopped"

    def _checked(self, found: Graph | str) -> Graph | str:
        asked = self._asked
        if isinstance(found, str) and isinstance(asked, GraphRequest) and asked.precision == "int8":
            raise ModelError(f"--precision int8 does not work with this model: {found}; use fp32")
        return found

    def _find(self) -> Graph | str:
        if isinstance(self._asked, str):
            return self._asked
        name = name_of(self._asked)
        if (known := kept_graph(name)) is not None:
            return known
        with _alone(name):
            if (known := kept_graph(name)) is not None:  # another process has made it
                return known
            found = self._made(self._asked)
            with suppress(OSError):  # the next run makes it again
                keep_graph(name, found)
        return found

    def _made(self, request: GraphRequest) -> Graph | str:
        self._child = Child(_maker)
        try:
            found: Graph = self._child.ask(request, MAKE_SECONDS)
        except EndedError as ended:
            return f"making its graph {ended}"
        except NoGraphError as error:
            return str(error)
        self._child.end()
        return found


def _maker() -> Work:
    return make_graph


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """One process of this machine at a time, if the cache can be written."""
    with ExitStack() as held:
        with suppress(OSError):
            held.enter_context(FileLock(cache_folder(KIND) / f"{name}.lock"))
        yield
