"""Slim layers: the same function as transformers', and no token left out that a head reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from pipeline.models.backends.int8 import quantise
from pipeline.models.backends.loading import load_classifier
from pipeline.models.backends.torch_engine import TorchEngine
from pipeline.models.backends.vit import slim, slim_layer, trim
from tests.models import tiny

CPU = torch.device("cpu")
KIN = ["ViTForImageClassification", "DeiTForImageClassification", "ViTMSNForImageClassification"]
#: Its logits are the mean of two heads, of the first token's and of the second's.
TWO_HEADS = "DeiTForImageClassificationWithTeacher"


def classifier(kind: str, **config: Any) -> Any:
    network = getattr(transformers, kind)
    torch.manual_seed(0)
    settings = network.config_class(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=tiny.SIZE,
        patch_size=8,
        initializer_range=0.3,
        num_labels=7,
        **config,
    )
    return network(settings).eval()


def pixels(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, tiny.SIZE, tiny.SIZE, generator=torch.Generator().manual_seed(3))


def logits(model: Any, count: int = 5) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(pixel_values=pixels(count)).logits
    return found


def tokens(model: nn.Module) -> list[int | None]:
    """What each slim layer makes of its tokens."""
    layers: list[Any] = [one for one in model.modules() if isinstance(one, slim_layer())]
    return [layer.tokens for layer in layers]


def assert_as_before(after: torch.Tensor, before: torch.Tensor, off: float = 1e-5) -> None:
    torch.testing.assert_close(after, before, rtol=0, atol=off * float(before.abs().max()))


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("kind", KIN)
def test_the_last_layer_ends_with_the_token_that_the_head_reads(kind: str, qkv_bias: bool) -> None:
    model = classifier(kind, qkv_bias=qkv_bias)
    before = logits(model)
    slim(model)
    assert_as_before(logits(model), before)
    trim(model, pixels(1))
    assert tokens(model) == [None, None, 1]
    assert_as_before(logits(model), before)


def test_a_head_that_reads_two_tokens_gets_them() -> None:
    model = classifier(TWO_HEADS)
    before = logits(model)
    slim(model)
    trim(model, pixels(1))
    assert tokens(model) == [None, None, None]
    assert_as_before(logits(model), before)


def test_a_network_without_numbers_is_not_trimmed() -> None:
    model = classifier(KIN[0])
    slim(model)
    with torch.no_grad():
        model.classifier.bias[2] = float("inf")
    trim(model, pixels(1))
    assert tokens(model) == [None, None, None]


@pytest.mark.parametrize("kind", ["SwinForImageClassification", "Dinov2ForImageClassification"])
def test_other_layers_stay(kind: str) -> None:
    network = getattr(transformers, kind)
    model = network(network.config_class()).eval()
    kinds = [type(module) for module in model.modules()]
    slim(model)
    trim(model, torch.randn(1, 3, 224, 224))
    assert [type(module) for module in model.modules()] == kinds


def test_a_layer_that_became_another_function_stays() -> None:
    model = classifier(KIN[0])

    class ViTLayer(type(model.vit.layers[1])):  # type: ignore[misc]
        def forward(self, *given: Any, **more: Any) -> torch.Tensor:
            result: torch.Tensor = super().forward(*given, **more)
            return result * 1.1

    model.vit.layers[1].__class__ = ViTLayer
    before = logits(model)
    slim(model)
    assert [isinstance(layer, slim_layer()) for layer in model.vit.layers] == [True, False, True]
    assert_as_before(logits(model), before)


def test_a_layer_whose_parts_have_other_names_stays() -> None:
    model = classifier(KIN[0])
    before = logits(model)

    class ViTLayer(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.renamed = layer

        def forward(self, *given: Any, **more: Any) -> torch.Tensor:
            result: torch.Tensor = self.renamed(*given, **more)
            return result

    # Another name, so that what is inside is not replaced either.
    model.vit.layers[1].__class__ = type("Inner", (type(model.vit.layers[1]),), {})
    model.vit.layers[1] = ViTLayer(model.vit.layers[1])
    slim(model)
    assert [isinstance(layer, slim_layer()) for layer in model.vit.layers] == [True, False, True]
    assert_as_before(logits(model), before)


@pytest.mark.parametrize("activation", ["gelu", "gelu_pytorch_tanh", "quick_gelu", "relu"])
def test_a_slim_network_keeps_its_logits(activation: str, tmp_path: Path) -> None:
    folder = tiny.save_vit(tmp_path, hidden_act=activation)
    theirs = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    ours = load_classifier(folder, CPU, "fp32")
    trim(ours, pixels(1))
    assert tokens(ours) == [None, 1]
    assert_as_before(logits(ours), logits(theirs))


def test_in_8_bits_it_labels_as_transformers_layers_do() -> None:
    theirs, ours = classifier(KIN[0]), classifier(KIN[0])
    slim(ours)
    for model in (theirs, ours):
        quantise(model)
    trim(ours, pixels(1))
    assert tokens(ours) == [None, None, 1]
    # A step of int8 is 1/127: rounding before it may move a value to the next one.
    assert_as_before(logits(ours), logits(theirs), off=0.02)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_an_engine_trims_in_every_precision(vit: Path, precision: str) -> None:
    shape = {"height": tiny.SIZE, "width": tiny.SIZE}
    engine = TorchEngine.load(
        vit, **shape, **tiny.SCALE, precision=precision, top_k=7, batch_size=4
    )
    assert tokens(engine._scorer._model) == [None, 1]
    model = transformers.AutoModelForImageClassification.from_pretrained(vit).eval()
    images = tiny.images(9)
    scaled = engine._scorer.scaled(torch.from_numpy(images)).float()
    with torch.inference_mode():
        expected = model(pixel_values=scaled).logits.softmax(dim=1).numpy()
    indices, scores = engine.predict(images)
    off = 1e-5 if precision == "fp32" else 0.1
    np.testing.assert_allclose(scores, np.take_along_axis(expected, indices, 1), rtol=0, atol=off)


def test_a_loaded_classifier_is_slim_and_reads_all_tokens_until_it_is_trimmed(vit: Path) -> None:
    assert tokens(load_classifier(vit, CPU, "fp32")) == [None, None]
