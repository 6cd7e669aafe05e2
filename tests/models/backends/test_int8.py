"""--precision int8: close to fp32, the same beside any neighbours, and 8 bits where it says so."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForImageClassification

from pipeline.errors import BadModelError, ModelError
from pipeline.models.backends.graph import Graph
from pipeline.models.backends.int8 import int8_linear, quantise
from pipeline.models.backends.loading import pick_precision
from pipeline.models.backends.onnx_export import export
from pipeline.models.backends.openvino_engine import multiplies_bytes
from tests.models import graphs, tiny


def layer(inputs: int, outputs: int, bias: bool = True) -> torch.nn.Linear:
    torch.manual_seed(inputs * 1000 + outputs)
    return torch.nn.Linear(inputs, outputs, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 8, 16), (3, 5, 8, 24), (197, 192, 768), (0, 8, 4)])
def test_a_layer_is_off_by_a_rounding_of_its_weights(shape: tuple[int, ...], bias: bool) -> None:
    exact = layer(shape[-2], shape[-1], bias)
    x = torch.randn(shape[:-1])
    with torch.inference_mode():
        ours, theirs = int8_linear(exact)(x), exact(x)
    assert ours.shape == theirs.shape
    # Half a step of 1/127 of a channel's largest weight, for each number of a row.
    most = x.abs().sum(-1, keepdim=True) * exact.weight.abs().amax(1) / 254
    assert ((ours - theirs).abs() <= most + 1e-6).all()


def test_a_channel_of_zeros_stays_zero() -> None:
    exact = layer(16, 4)
    torch.nn.init.zeros_(exact.weight[2])
    with torch.inference_mode():
        ours = int8_linear(exact)(torch.randn(3, 16))
    assert (ours[:, 2] == exact.bias[2]).all()
    with torch.inference_mode():
        assert torch.equal(int8_linear(exact)(torch.zeros(2, 16)), exact(torch.zeros(2, 16)))


def rows_through(linear: torch.nn.Linear, power: int = 1) -> Graph:
    """A graph of one such layer in int8, which takes each row of an image, (H, W · 3), alone, to
    some power."""

    class Rows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = int8_linear(linear)

    model, shape = Rows(), (tiny.SIZE, linear.in_features // 3, 3)

    def read(values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (model.linear(values.permute(0, 2, 3, 1).flatten(2) ** power),)

    made = export(model, read, shape=shape, rescale=1.0, mean=[0.0] * 3, std=[1.0] * 3)
    height, width, _ = shape
    return Graph(made, (), False, height, width, "int8", group=linear.in_features)


def test_a_row_has_a_scale_of_its_own() -> None:
    """A token that is a hundred times as large as the others takes no digit from them."""
    linear = layer(96, 32)
    pixels = np.random.default_rng(0).integers(0, 3, (5, tiny.SIZE, 32, 3), np.uint8)
    pixels[:, ::4] *= 120
    (ours,) = graphs.engine(rows_through(linear)).predict(pixels)
    with torch.inference_mode():
        theirs = linear(torch.from_numpy(pixels).flatten(2).float()).numpy()
    off = np.abs(ours - theirs).max(axis=2) / np.abs(theirs).max(axis=2)
    assert off.max() < 0.03


@pytest.mark.skipif(not multiplies_bytes(), reason="this CPU multiplies floats in int8")
def test_activations_are_integers_where_that_is_faster() -> None:
    made = rows_through(layer(96, 32))
    pixels = np.random.default_rng(0).integers(0, 256, (4, tiny.SIZE, 32, 3), np.uint8)
    integers, floats = (
        graphs.engine(one).predict(pixels)[0] for one in (made, replace(made, group=0))
    )
    assert 0 < np.abs(integers - floats).max() < 0.02 * np.abs(floats).max()


def test_an_image_that_overflows_harms_no_other() -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (4, tiny.SIZE, 32, 3), np.uint8)
    engine = graphs.engine(rows_through(layer(96, 32), power=20))
    (before,) = engine.predict(pixels)
    pixels[1] = 255  # to the 20th, more than fp32 holds
    (after,) = engine.predict(pixels)
    assert np.isfinite(before).all()
    assert not np.isfinite(after[1]).all()
    np.testing.assert_array_equal(np.delete(after, 1, 0), np.delete(before, 1, 0))


@pytest.fixture(scope="module")
def eight(vit: Path) -> Graph:
    return graphs.graph(vit, precision="int8")


@pytest.fixture(scope="module")
def exact(vit: Path) -> Graph:
    return graphs.graph(vit)


def test_scores_are_near_those_of_fp32(eight: Graph, exact: Graph) -> None:
    pixels = tiny.images(11)
    assert (eight.precision, exact.precision) == ("int8", "fp32")
    ours, theirs = (by_class(graphs.engine(one), pixels) for one in (eight, exact))
    assert 0 < np.abs(ours - theirs).max() < 0.05


def by_class(engine: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, classes) scores by class."""
    indices, scores = engine.predict(pixels)
    found = np.zeros((len(pixels), len(engine.labels)), np.float32)
    np.put_along_axis(found, indices, scores, axis=1)
    return found


def test_batches_and_neighbours_change_nothing(eight: Graph) -> None:
    pixels = tiny.images(5)
    one_by_one = graphs.engine(eight, batch_size=1).predict(pixels)
    together = graphs.engine(eight, batch_size=4).predict(pixels)
    np.testing.assert_array_equal(together[0], one_by_one[0])
    np.testing.assert_allclose(together[1], one_by_one[1], rtol=0, atol=1e-6)


def test_the_graph_holds_8_bits_for_each_weight_of_an_inner_layer(
    eight: Graph, exact: Graph
) -> None:
    model = onnx.load_from_string(eight.onnx)
    held = {one.name: one for one in model.graph.initializer}
    quantised = [
        held[node.input[0]] for node in model.graph.node if node.op_type == "DequantizeLinear"
    ]
    assert len(quantised) == 2 * 5, "of each layer: q, keys and values, o, and two of its MLP"
    assert {one.data_type for one in quantised} == {onnx.TensorProto.INT8}
    numbers = sum(math.prod(one.dims) for one in quantised)
    assert len(exact.onnx) - len(eight.onnx) > 2.5 * numbers, "three bytes less for each"
    assert eight.group == 32, "the rows have 32 and 64 numbers"


def test_all_but_the_head_is_replaced(vit: Path) -> None:
    model = AutoModelForImageClassification.from_pretrained(vit)
    before = {n for n, one in model.named_modules() if isinstance(one, torch.nn.Linear)}
    assert quantise(model) == 32
    left = {n for n, one in model.named_modules() if isinstance(one, torch.nn.Linear)}
    assert left == {"classifier"}
    assert len(before) > 6


def test_a_network_without_linear_layers_is_refused(resnet: Path) -> None:
    with pytest.raises(BadModelError, match="use fp32") as caught:
        graphs.graph(resnet, precision="int8")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("device", "how"),
    [("cuda", "on a GPU fp16 is faster"), ("cpu", "needs OpenVINO.*nightlabel doctor")],
)
def test_torch_does_not_run_it(device: str, how: str) -> None:
    with pytest.raises(ModelError, match=how):
        pick_precision("int8", torch.device(device))


def test_auto_is_never_int8() -> None:
    assert pick_precision("auto", torch.device("cpu")) == "fp32"
    assert pick_precision("auto", torch.device("cuda")) == "fp16"
