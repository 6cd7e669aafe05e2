"""Packed linear layers: the same function as torch's, and no GELU taken that is not theirs."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from pipeline.models.backends.gelus import absorb_gelus
from pipeline.models.backends.packed import has_onednn, pack, packed_linear
from torch import nn
from transformers.activations import ACT2FN

from pipeline.models.backends import packed
from pipeline.models.backends.loading import load_classifier
from pipeline.models.backends.torch_engine import TorchEngine
from tests.models import tiny

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not has_onednn(CPU), reason="torch has oneDNN on x86 only")


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    torch.manual_seed(inputs * 1000 + outputs)
    return nn.Linear(inputs, outputs, bias=bias)


def packed_layers(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, packed_linear())]


def pixels(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, tiny.SIZE, tiny.SIZE, generator=torch.Generator().manual_seed(3))


class Net(nn.Module):
    """Two layers and what `between` makes of the first; (n, 3, H, W) to five logits."""

    def __init__(self, between: "Callable[[Net, torch.Tensor], torch.Tensor]") -> None:
        super().__init__()
        self.first, self.second = linear(3 * tiny.SIZE**2, 16), linear(16, 5)
        self.gelu, self.between = nn.GELU(), between

    def forward(self, pixel_values: torch.Tensor) -> Any:
        hidden = self.between(self, pixel_values.flatten(1))
        return SimpleNamespace(logits=self.second(hidden))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 8, 16), (3, 5, 8, 24), (197, 192, 768), (0, 8, 4)])
@pytest.mark.parametrize("gelu", [None, "none", "tanh"])
def test_a_layer_is_torchs_to_rounding(
    shape: tuple[int, ...], bias: bool, gelu: str | None
) -> None:
    theirs = linear(shape[-2], shape[-1], bias)
    ours = packed_linear()(theirs)
    ours.gelu = gelu
    x = torch.randn(shape[:-1])
    with torch.inference_mode():
        expected = theirs(x)
        if gelu is not None:
            expected = nn.functional.gelu(expected, approximate=gelu)
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_adds_what_bypasses_it(bias: bool) -> None:
    theirs = linear(8, 24, bias)
    x, other = torch.randn(5, 3, 8), torch.randn(3, 5, 24).transpose(0, 1)
    with torch.inference_mode():
        found = packed_linear()(theirs).plus(x, other)
        torch.testing.assert_close(found, theirs(x) + other)


def test_rows_may_lie_apart() -> None:
    theirs, x = linear(8, 24), torch.randn(5, 3, 8).transpose(0, 1)
    with torch.inference_mode():
        torch.testing.assert_close(packed_linear()(theirs)(x), theirs(x))


@pytest.mark.parametrize("gelu", [None, "none", "tanh"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_stays_so_and_alone(value: float, gelu: str | None) -> None:
    ours = packed_linear()(linear(16, 8))
    ours.gelu = gelu
    x = torch.randn(3, 16)
    x[1, 5] = value
    with torch.inference_mode():
        finite = ours(x).isfinite()
    assert finite[[0, 2]].all()
    assert not finite[1].all()


@pytest.mark.parametrize(
    ("activation", "taken"),
    [("gelu", 2), ("gelu_pytorch_tanh", 2), ("quick_gelu", 0), ("relu", 0)],
)
def test_a_vit_keeps_its_logits(activation: str, taken: int, tmp_path: Path) -> None:
    assert activation in ACT2FN
    model = load_classifier(tiny.save_vit(tmp_path, hidden_act=activation), CPU, "fp32")
    with torch.inference_mode():
        before = model(pixel_values=pixels(5)).logits
        pack(model)
        absorb_gelus(model, pixels())
        after = model(pixel_values=pixels(5)).logits
    layers = packed_layers(model)
    assert len(layers) == 2 * 5 + 1  # keys and values come of one
    assert not any(type(module) is nn.Linear for module in model.modules())
    assert sum(layer.gelu is not None for layer in layers) == taken
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5 * float(before.abs().max()))


@pytest.mark.parametrize(
    ("between", "taken"),
    [
        (lambda net, x: net.gelu(net.first(x)), True),
        (lambda net, x: net.gelu(net.first(x) + 1), False),  # the sum is no layer's result
        (lambda net, x: net.gelu(net.gelu(net.first(x))), False),  # the second time it is none
        (lambda net, x: (y := net.first(x)) + net.gelu(y), False),  # another reads the layer too
    ],
    ids=["alone", "of a sum", "twice", "beside another"],
)
def test_a_gelu_is_taken_in_only_where_it_is_all_that_reads_the_layer(
    between: Callable[[Net, torch.Tensor], torch.Tensor], taken: bool
) -> None:
    net = Net(between).eval()
    with torch.inference_mode():
        before = net(pixels(4)).logits
        pack(net)
        absorb_gelus(net, pixels())
        after = net(pixels(4)).logits
    assert (net.first.gelu is not None) == taken
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


def test_a_gelu_of_several_layers_is_taken_into_all() -> None:
    class Shared(Net):
        def __init__(self) -> None:
            super().__init__(lambda net, x: net.gelu(net.third(net.gelu(net.first(x)))))
            self.third = linear(16, 16)

    net = Shared().eval()
    with torch.inference_mode():
        before = net(pixels(4)).logits
        pack(net)
        absorb_gelus(net, pixels())
        after = net(pixels(4)).logits
    assert [layer.gelu for layer in (net.first, net.second, net.third)] == ["none", None, "none"]
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "auto", "bf16", "int8"])
def test_an_engine_packs_what_it_runs_in_fp32(vit: Path, precision: str) -> None:
    engine = load(vit, precision)
    layers = packed_layers(engine._scorer._model)
    assert bool(layers) == (engine.precision == "fp32")


def test_an_engine_off_x86_labels_with_torchs_own(
    vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = load(vit, "fp32").predict(tiny.images(9))
    monkeypatch.setattr(packed.platform, "machine", lambda: "arm64")
    other = load(vit, "fp32")
    assert not packed_layers(other._scorer._model)
    theirs = other.predict(tiny.images(9))
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_allclose(ours[1], theirs[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "kind",
    ["SwinForImageClassification", "SiglipForImageClassification", "Dinov2ForImageClassification"],
)
def test_other_networks_keep_their_logits(kind: str) -> None:
    network = getattr(transformers, kind)
    torch.manual_seed(0)
    model = network(network.config_class()).eval()
    size = getattr(model.config, "vision_config", model.config).image_size
    some = torch.randn(1, 3, size, size)
    with torch.inference_mode():
        before = model(pixel_values=some).logits
        pack(model)
        absorb_gelus(model, some)
        after = model(pixel_values=some).logits
    assert sum(layer.gelu is not None for layer in packed_layers(model)) >= 12
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4 * float(before.abs().max()))


def load(folder: Path, precision: str) -> TorchEngine:
    shape = {"height": tiny.SIZE, "width": tiny.SIZE}
    return TorchEngine.load(
        folder, **shape, **tiny.SCALE, precision=precision, top_k=5, batch_size=4
    )
