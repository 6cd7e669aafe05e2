"""Makes a network's graph, and proves it: on photographs it gives what torch gives."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.fields import one_line, refusals
from pipeline.images import Preprocess
from pipeline.models.backends.base import Engine
from pipeline.models.backends.graph import Graph, NoGraphError
from pipeline.models.backends.half_precision import ALL, by_class, results_of
from pipeline.models.backends.openvino_engine import (
    NO_RUNTIME,
    OpenVinoEngine,
    has_runtime,
    runtime_name,
)
from pipeline.models.fetch import ModelFolder
from pipeline.models.purpose import Purpose
from pipeline.tasks.loading import torch_engine
from pipeline.tasks.pictures import pictures

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.models.backends.loading import Weights
    from pipeline.models.scorer import Scaler

#: How far scores, or vectors as a share of their largest number, may be from torch's. The
#: error of the others the user has chosen; this only tells them from nonsense.
CLOSE: Final = {"fp32": 1e-4, "bf16": 0.1, "int8": 0.25}


@dataclass(frozen=True, slots=True)
class GraphRequest:
    """What decides a graph: a model folder, its pixels, what is read of it, and how."""

    folder: Path
    weights_sha256: str
    preprocess: Preprocess
    purpose: Purpose
    precision: str

    @property
    def scale(self) -> dict[str, Any]:
        """How pixels are scaled: (x · rescale − mean) / std."""
        shape = self.preprocess
        return {"rescale": shape.rescale, "mean": shape.mean, "std": shape.std}


def make_graph(request: GraphRequest) -> Graph:
    """The graph of a model. Loads torch and transformers.

    Raises NoGraphError, with the reason, if there is none that agrees with torch, and
    BadModelError if torch cannot load the model either.
    """
    if not has_runtime():
        raise NoGraphError(NO_RUNTIME)
    try:
        return _made(request, slimmer=True)
    except NoGraphError:
        return _made(request, slimmer=False)


def tried(model: ModelFolder, shape: Preprocess, purpose: Purpose) -> tuple[Engine, str]:
    """An engine as a run on this machine would load it, and how it runs, in words."""
    from pipeline.models.backends.loading import pick_device

    how = "by torch"
    if pick_device().type == "cpu":
        try:
            graph = make_graph(
                GraphRequest(model.path, model.weights_sha256, shape, purpose, "fp32")
            )
        except NoGraphError as error:
            how = f"by torch ({error})"
        else:
            how = f"by {runtime_name()}, within {graph.off:.0e} of torch"
            return OpenVinoEngine(graph, top_k=1), how
    options: dict[str, Any] = {"precision": "auto", "top_k": 1, "batch_size": 1}
    return torch_engine(model.path, shape, **options, purpose=purpose), how


def _made(request: GraphRequest, *, slimmer: bool) -> Graph:
    import torch

    from pipeline.models.backends.loading import load_weights

    shape, purpose = request.preprocess, request.purpose
    size, pixels = (shape.height, shape.width), pictures(shape)
    weights = load_weights(request.folder, torch.device("cpu"), "fp32", size, purpose)
    scorer = purpose.scorer(weights.reader, top_k=ALL, **request.scale)
    wanted = results_of(scorer, pixels)
    if max(map(_distance, results_of(scorer, pixels), wanted)) > CLOSE["fp32"]:
        raise NoGraphError("it gives other results each time")
    try:
        graph = _exported(request, weights, scorer, slimmer=slimmer)
        found = by_class(OpenVinoEngine(graph, top_k=ALL).predict(pixels), graph.labels)
    except refusals() as error:
        raise NoGraphError(f"OpenVINO does not take it: {one_line(error)}") from error
    off = max(map(_distance, found, wanted))
    if not off <= CLOSE[request.precision]:  # nor if it is no number
        raise NoGraphError(f"by OpenVINO its results are {off:.2g} away from torch's")
    return replace(graph, off=off)


def _exported(
    request: GraphRequest, weights: "Weights", scorer: "Scaler", *, slimmer: bool
) -> Graph:
    from pipeline.models.backends.int8 import quantise
    from pipeline.models.backends.onnx_export import export
    from pipeline.models.backends.vit import slim, trim

    model, read, shape = weights.reader.target, weights.reader.read, request.preprocess
    if slimmer:
        slim(model)
        one_image = scorer.scaled(_tensor(np.zeros((1, shape.height, shape.width, 3), np.uint8)))
        trim(model, one_image, read)
    group = 0
    if request.precision == "int8":
        group = quantise(model, head=request.purpose.labels)
    return Graph(
        export(weights.model, read, shape=(shape.height, shape.width, 3), **request.scale),
        labels=tuple(scorer.labels),
        sigmoid=getattr(scorer, "sigmoid", False),
        height=shape.height,
        width=shape.width,
        precision=request.precision,
        group=group,
    )


def _distance(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """The largest difference, as a share of the largest number if that is over 1."""
    return float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max()))


def _tensor(pixels: NDArray[np.uint8]) -> "Tensor":
    import torch

    return torch.from_numpy(pixels)
