"""The OpenVINO engine keeps the torch engine's promises, in every batch, beside any neighbours."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.models.backends import openvino_engine
from pipeline.models.backends.graph import Graph
from pipeline.models.backends.onnx_export import export
from pipeline.models.backends.openvino_engine import OpenVinoEngine, best, has_runtime
from pipeline.models.purpose import Embedding
from tests.models import graphs, tiny

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def graph(vit: Path) -> Graph:
    return graphs.graph(vit)


@pytest.fixture(scope="module")
def engine(graph: Graph) -> OpenVinoEngine:
    return graphs.engine(graph)


@pytest.fixture(scope="module", params=["fp32", "bf16", "int8"])
def either(request: pytest.FixtureRequest, vit: Path, graph: Graph) -> Graph:
    """In every precision."""
    return graph if request.param == "fp32" else graphs.graph(vit, precision=request.param)


def test_types_and_names(graph: Graph) -> None:
    engine = graphs.engine(graph, top_k=5)
    indices, scores = engine.predict(tiny.images(3))
    assert (indices.dtype, indices.shape) == (np.int64, (3, 5))
    assert (scores.dtype, scores.shape) == (np.float32, (3, 5))
    assert (engine.precision, engine.device, engine.labels[2]) == ("fp32", "cpu", "thing 2")
    assert engine.image_shape == (tiny.SIZE, tiny.SIZE, 3)
    assert [part.shape for part in engine.predict(tiny.images(0))] == [(0, 5), (0, 5)]
    assert graphs.engine(graph, batch_size=None).batch_size == 16


def test_vectors_have_one_type_and_none_of_no_images(tmp_path: Path) -> None:
    engine = graphs.engine(graphs.graph(tiny.save_vit(tmp_path), Embedding("mean")))
    (vectors,) = engine.predict(tiny.images(5))
    assert (vectors.dtype, vectors.shape, engine.labels) == (np.float32, (5, 32), [])
    (none,) = engine.predict(tiny.images(0))
    assert (none.dtype, none.shape) == (np.float32, (0, 32))


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9])
def test_the_size_of_a_batch_changes_nothing(either: Graph, count: int) -> None:
    pixels = tiny.images(count)
    one_by_one = graphs.engine(either, batch_size=1).predict(pixels)
    together = graphs.engine(either, batch_size=4).predict(pixels)
    np.testing.assert_array_equal(together[0], one_by_one[0])
    np.testing.assert_allclose(together[1], one_by_one[1], rtol=0, atol=1e-6)


def test_neighbours_change_no_bit(either: Graph) -> None:
    engine, pixels = graphs.engine(either), tiny.images(4)
    before = engine.predict(pixels)
    for neighbour in (0, 255, *tiny.images(2, seed=9)):
        pixels[[0, 2, 3]] = neighbour
        for part, was in zip(engine.predict(pixels), before, strict=True):
            np.testing.assert_array_equal(part[1], was[1])


def test_top_k_over_the_number_of_labels_gives_all(graph: Graph) -> None:
    indices, scores = graphs.engine(graph, top_k=100).predict(tiny.images(2))
    assert sorted(indices[0]) == list(range(7))
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


def test_equal_scores_keep_the_order_of_the_classes(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForImageClassification

    folder = tiny.save_vit(tmp_path, labels=40)
    model = AutoModelForImageClassification.from_pretrained(folder)
    torch.nn.init.zeros_(model.classifier.weight)
    model.save_pretrained(folder)
    indices, _ = graphs.engine(graphs.graph(folder), top_k=5).predict(tiny.images(2))
    assert indices.tolist() == [[0, 1, 2, 3, 4]] * 2


def test_an_image_whose_logits_overflow_has_no_score_and_harms_no_other() -> None:
    engine, pixels = graphs.engine(huge_where_white()), tiny.images(4)
    before = engine.predict(pixels)
    assert np.isfinite(before[1]).all()
    pixels[2] = 255
    indices, scores = engine.predict(pixels)
    assert np.isnan(scores[2]).all()
    for part, was in zip((indices, scores), before, strict=True):
        np.testing.assert_array_equal(np.delete(part, 2, 0), np.delete(was, 2, 0))


def huge_where_white() -> Graph:
    """A network of one layer whose logits leave the range of fp32 for bright images alone."""
    import torch

    torch.manual_seed(0)
    model, shape = torch.nn.Linear(3 * tiny.SIZE**2, 7), (tiny.SIZE, tiny.SIZE, 3)

    def read(values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (model(values.flatten(1) ** 30),)

    made = export(model, read, shape=shape, rescale=1 / 13, mean=[0.0] * 3, std=[1.0] * 3)
    names = tuple(f"thing {i}" for i in range(7))
    return Graph(made, names, False, tiny.SIZE, tiny.SIZE, "fp32")


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 16, 32, 3), np.uint8),
        np.zeros((2, 32, 32, 4), np.uint8),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((0, 16, 32, 3), np.uint8),
        np.zeros((2, 32, 32, 3)),
        np.zeros((2, 32, 32, 3), np.int8),
    ],
    ids=["height", "channels", "no batch", "none of them", "floats", "signed"],
)
def test_pixels_of_another_shape_or_type_are_refused_as_torch_does(
    engine: OpenVinoEngine, vit: Path, pixels: np.ndarray
) -> None:
    from tests.models.backends.test_torch_engine import load

    with pytest.raises(ValueError, match=r"the model takes uint8 \(32, 32, 3\)") as ours:
        engine.predict(pixels)
    with pytest.raises(ValueError, match="the model takes") as theirs:
        load(vit).predict(pixels)
    assert str(ours.value) == str(theirs.value)


def test_pixels_that_lie_apart_are_the_same(engine: OpenVinoEngine) -> None:
    pixels = tiny.images(9)
    apart = np.asfortranarray(pixels)[::-1]
    for part, other in zip(engine.predict(apart), engine.predict(pixels), strict=True):
        np.testing.assert_array_equal(part[::-1], other)


def test_results_are_the_callers_own(engine: OpenVinoEngine) -> None:
    """OpenVINO writes the next batch's results where those of the last one were."""
    kept = engine.predict(tiny.images(4))
    first = [part.copy() for part in kept]
    engine.predict(tiny.images(4, seed=1))
    for part, was in zip(kept, first, strict=True):
        np.testing.assert_array_equal(part, was)
        part[:] = 0  # may be written


def test_in_fp32_the_exact_network_is_itself(engine: OpenVinoEngine) -> None:
    assert engine.exact is engine


def test_the_exact_network_is_loaded_once_and_late(graph: Graph) -> None:
    loaded: list[OpenVinoEngine] = []

    def load() -> OpenVinoEngine:
        loaded.append(graphs.engine(graph))
        return loaded[-1]

    rough = graphs.engine(replace(graph, precision="int8"), load_exact=load)
    rough.predict(tiny.images(1))
    assert loaded == []
    assert rough.exact is rough.exact
    assert len(loaded) == 1


def test_it_is_there_only_where_openvino_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_runtime()
    assert openvino_engine.runtime_name().startswith("OpenVINO 20")

    monkeypatch.setitem(sys.modules, "openvino", None)  # as if it could not be found
    assert not has_runtime()


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return powers / powers.sum()


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


@pytest.mark.parametrize(("many", "truth"), [(False, softmax), (True, sigmoid)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 700.0])
def test_scores_of_logits(
    many: bool, truth: Callable[[np.ndarray], np.ndarray], scale: float
) -> None:
    logits = np.random.default_rng(0).normal(0, scale, (50, 9)).astype(np.float32)
    indices, scores = best(logits, 9, sigmoid=many)
    for row, order, found in zip(logits, indices, scores, strict=True):
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(found, truth(row)[order], rtol=1e-5, atol=1e-7)
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("many", [False, True])
def test_equal_scores_are_in_the_order_of_their_indices(many: bool) -> None:
    """Far-off logits have equal scores too: all that is left of them is 0 or 1."""
    logits = np.array([[1, 3, 3, 1, 3], [-900, -800, 2, -900, -800]], np.float32)
    if many:
        logits[1] = [300, 400, -900, 300, 400]
    indices, scores = best(logits, 4, sigmoid=many)
    assert indices.tolist() == [[1, 2, 4, 0], [0, 1, 3, 4] if many else [2, 0, 1, 3]]
    assert (indices.dtype, scores.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_with_a_logit_that_is_not_finite_has_no_scores(value: float, many: bool) -> None:
    logits = np.array([[1, 2, 3], [1, value, 3], [3, 2, 1]], np.float32)
    indices, scores = best(logits, 2, sigmoid=many)
    assert np.isnan(scores[1]).all()
    assert indices[[0, 2]].tolist() == [[2, 1], [0, 1]]
    assert np.isfinite(scores[[0, 2]]).all()
