"""Graphs and OpenVINO engines of the small models of these tests, made as a run makes them."""

from pathlib import Path
from typing import Any

from pipeline.images import Preprocess
from pipeline.models.backends.graph import Graph
from pipeline.models.backends.openvino_engine import OpenVinoEngine
from pipeline.models.purpose import CLASSIFYING, Purpose
from pipeline.tasks.graph_maker import GraphRequest, make_graph
from tests.models import tiny

#: That of all folders which `tiny.save` makes.
PREPROCESS = Preprocess(
    height=tiny.SIZE,
    width=tiny.SIZE,
    rescale=tiny.SCALE["rescale"],
    mean=tiny.SCALE["mean"],
    std=tiny.SCALE["std"],
    processor="ViTImageProcessorPil",
    on_white=False,
    box=(tiny.SIZE, tiny.SIZE),
)


def request(
    folder: Path, purpose: Purpose = CLASSIFYING, precision: str = "fp32", weights: str = "0" * 64
) -> GraphRequest:
    return GraphRequest(folder, weights, PREPROCESS, purpose, precision)


def graph(folder: Path, purpose: Purpose = CLASSIFYING, precision: str = "fp32") -> Graph:
    return make_graph(request(folder, purpose, precision))


def engine(graph: Graph, **changes: Any) -> OpenVinoEngine:
    settings: dict[str, Any] = {"top_k": 7, "batch_size": 4, "threads": 1}
    return OpenVinoEngine(graph, **settings | changes)
