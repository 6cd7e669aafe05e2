"""OpenVinoEngine: runs a graph on a CPU by OpenVINO, which needs neither torch nor transformers."""

import sys
from collections.abc import Callable
from functools import cached_property, lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.models.backends.base import Engine
from pipeline.models.backends.graph import INPUT, Graph

#: ViT-Ti/16 on one thread: larger batches are no faster, see docs/performance.md.
BATCH: Final = 16
_CAN: Final = "OPTIMIZATION_CAPABILITIES"
#: The reason shown if torch runs the networks of a machine.
NO_RUNTIME: Final = "OpenVINO is not installed"
_TELEMETRY: Final = "openvino_telemetry"


def has_runtime() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def multiplies_bytes() -> bool:
    """Whether this CPU has the instructions for which OpenVINO makes integers of activations."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags


def runtime_name() -> str:
    """OpenVINO and its version, for people."""
    return f"OpenVINO {version('openvino')}"


class OpenVinoEngine:
    """See `Engine`. `threads` None lets OpenVINO use all cores."""

    def __init__(
        self,
        graph: Graph,
        *,
        top_k: int,
        batch_size: int | None = None,
        threads: int | None = None,
        load_exact: Callable[[], Engine] | None = None,
    ) -> None:
        self.labels, self.precision, self.device = list(graph.labels), _computed(graph), "cpu"
        self.image_shape = (graph.height, graph.width, 3)
        self.batch_size = batch_size or BATCH
        self._top_k, self._sigmoid = min(top_k, len(self.labels)), graph.sigmoid
        self._graph, self._threads = graph, threads
        self._load_exact = load_exact
        self._exact: Engine | None = None

    def predict(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self.image_shape:
            raise ValueError(
                f"pixels are {pixels.dtype} {pixels.shape[1:]}, the model takes uint8 "
                f"{self.image_shape}"
            )
        if not len(pixels):
            one = self.predict(np.zeros((1, *self.image_shape), np.uint8))
            return tuple(result[:0] for result in one)
        starts = range(0, len(pixels), self.batch_size)
        batches = [self._run(pixels[at : at + self.batch_size]) for at in starts]
        return tuple(np.concatenate(part) for part in zip(*batches, strict=True))

    def load(self) -> None:
        """Load the network now, not with the first batch."""
        self._full  # noqa: B018 - a property that is made once

    @cached_property
    def _full(self) -> Any:
        """The network for full batches: of one shape, it is a tenth faster."""
        return _compiled(self._graph, self._threads, self.batch_size)

    @cached_property
    def _partial(self) -> Any:
        """The network for batches of any size: a run has few that are not full."""
        return _compiled(self._graph, self._threads)

    @property
    def exact(self) -> Engine:
        if self.precision == "fp32" or self._load_exact is None:
            return self
        if self._exact is None:
            self._exact = self._load_exact()
        return self._exact

    def _run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        network = self._full if len(pixels) == self.batch_size else self._partial
        results = network({INPUT: pixels}).to_tuple()
        if not self.labels:
            return tuple(results)
        logits, *vectors = results
        return *best(logits, self._top_k, sigmoid=self._sigmoid), *vectors


def best(
    logits: NDArray[np.float32], top_k: int, *, sigmoid: bool
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Logits (n, classes) → indices and scores of the `top_k` best, (n, top_k).

    Equal scores are ordered by index; a row whose logits are not all finite has NaN scores.
    """
    finite = np.isfinite(logits).all(axis=1, keepdims=True)
    logits = np.where(finite, logits, 0).astype(np.float32)
    scores = _sigmoid(logits) if sigmoid else _softmax(logits)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    found = np.take_along_axis(scores, order, axis=1)
    return order, np.where(finite, found, np.float32("nan"))


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return result


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    small = np.exp(-np.abs(logits))  # never overflows
    result: NDArray[np.float32] = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
    return result


@lru_cache(maxsize=1)
def _core() -> Any:
    """OpenVINO without `openvino_telemetry`, which reports usage to its makers. OpenVINO works
    without that package, so while it is imported the package is hidden.
    """
    known = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        from openvino import Core
    except ImportError as error:
        raise ModelError(
            f"OpenVINO is installed and cannot be loaded: {error}; install it again, or remove it "
            "and torch runs networks"
        ) from error
    finally:
        del sys.modules[_TELEMETRY]
        if known is not None:
            sys.modules[_TELEMETRY] = known
    return Core()


def _computed(graph: Graph) -> str:
    """The graph's precision, or fp32 where this CPU has no bf16: OpenVINO then computes in that."""
    if graph.precision == "bf16" and "BF16" not in _core().get_property("CPU", _CAN):
        return "fp32"
    return graph.precision


def _compiled(graph: Graph, threads: int | None, batch: int = -1) -> Any:
    """The network for batches of one size, or -1 for any."""
    core = _core()
    model = core.read_model(graph.onnx)
    model.reshape([batch, graph.height, graph.width, 3])
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if graph.precision == "bf16" else "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": graph.group,
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads or 0,
        "ENABLE_CPU_PINNING": "NO",  # other processes work on the same cores
    }
    return core.compile_model(model, "CPU", settings)
