"""A network's graph: made only where OpenVINO gives what torch gives, and else a reason."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from openvino import Core

from pipeline.errors import BadModelError
from pipeline.images import Preprocess
from pipeline.models.backends.graph import Graph, NoGraphError
from pipeline.models.backends.openvino_engine import OpenVinoEngine
from pipeline.models.backends.torch_engine import TorchEngine
from pipeline.models.fetch import fetch
from pipeline.models.purpose import (
    CLASSIFYING,
    Classifying,
    ClassifyingAndEmbedding,
    Embedding,
    Purpose,
    Reader,
)
from pipeline.tasks.graph_maker import make_graph, tried
from pipeline.tasks.pictures import pictures
from tests.models import graphs, tiny

pytestmark = pytest.mark.torch


def test_a_graph_says_what_it_is(vit: Path) -> None:
    made = graphs.graph(vit)
    assert (made.height, made.width, made.precision, made.group) == (32, 32, "fp32", 0)
    assert made.labels == tuple(f"thing {i}" for i in range(7))
    assert not made.sigmoid
    assert 0 < made.off < 1e-5
    assert Preprocess.from_folder(vit) == graphs.PREPROCESS, "the tests' own is the model's"


def tokens_of(graph: Graph) -> list[int]:
    """For how many tokens a product of 64 numbers is computed: in slim layers keys with values, in
    all layers the MLP."""
    model = Core().read_model(graph.onnx)
    model.reshape([1, graph.height, graph.width, 3])
    shapes = [list(op.output(0).shape) for op in model.get_ops() if op.get_type_name() == "MatMul"]
    return [shape[1] for shape in shapes if len(shape) == 3 and shape[2] == 64]


@pytest.mark.parametrize(
    ("purpose", "tokens"),
    [(CLASSIFYING, [17, 17, 17, 1]), (ClassifyingAndEmbedding("mean"), [17] * 4)],
)
def test_the_last_layer_computes_only_the_tokens_that_are_read(
    vit: Path, purpose: Purpose, tokens: list[int]
) -> None:
    assert tokens_of(graphs.graph(vit, purpose)) == tokens


def test_one_pass_gives_labels_and_vectors(vit: Path) -> None:
    pixels = tiny.images(9)
    both = graphs.engine(graphs.graph(vit, ClassifyingAndEmbedding("mean"))).predict(pixels)
    labels = graphs.engine(graphs.graph(vit)).predict(pixels)
    (vectors,) = graphs.engine(graphs.graph(vit, Embedding("mean"))).predict(pixels)
    np.testing.assert_array_equal(both[0], labels[0])
    np.testing.assert_allclose(both[1], labels[1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(both[2], vectors, rtol=0, atol=1e-5)


@dataclass(frozen=True)
class Changed(Classifying):
    """Reads a classifier's logits, changed by a subclass."""

    def changed(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def reader(self, model: Any) -> Reader:
        read = super().reader(model).read
        return Reader(model, lambda x: (self.changed(model, read(x)[0]),), lambda _: [])


@dataclass(frozen=True)
class Suspicious(Changed):
    """A network that looks at the types of its layers, as no test of layers alone can tell."""

    def changed(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        whole = any(type(one).__name__ == "ViTLayer" for one in model.modules())
        return logits if whole else -logits


def test_layers_that_would_change_a_result_stay_as_they_are(vit: Path) -> None:
    made = graphs.graph(vit, Suspicious())
    assert tokens_of(made) == [17, 17], "no layer was replaced"
    assert made.off < 1e-5


@dataclass(frozen=True)
class Random(Changed):
    """Other results each time."""

    def changed(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        return logits + torch.rand_like(logits)


def test_results_that_are_others_each_time_have_no_graph(vit: Path) -> None:
    with pytest.raises(NoGraphError, match=r"^it gives other results each time$"):
        graphs.graph(vit, Random())


@dataclass(frozen=True)
class Branching(Changed):
    """What one recorded run does not show: another result for the bright than for the dark."""

    by: float

    def changed(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        if len(logits) > 2:  # photographs; two images are recorded
            return logits * (1 + self.by)
        return logits


@pytest.mark.parametrize(("by", "well"), [(1e-6, True), (1e-2, False), (1.0, False)])
def test_results_that_are_off_by_more_than_a_rounding_have_no_graph(
    vit: Path, by: float, well: bool
) -> None:
    if well:
        assert graphs.graph(vit, Branching(by)).off < 1e-4
        return
    with pytest.raises(NoGraphError, match=r"^by OpenVINO its results are \S+ away from torch's$"):
        graphs.graph(vit, Branching(by))


@dataclass(frozen=True)
class NoNumber(Changed):
    """Logits that no engine can compare."""

    def changed(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        return logits * float("nan")


def test_results_that_are_no_numbers_have_no_graph(vit: Path) -> None:
    with pytest.raises(NoGraphError, match="away from torch's"):
        graphs.graph(vit, NoNumber())


@dataclass(frozen=True)
class NotForOnnx(Changed):
    """An operation that no exporter knows."""

    def changed(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        return torch.linalg.matrix_exp(logits[:, :, None] * torch.eye(7)).sum(2)


def test_an_operation_that_cannot_be_exported_is_named_in_one_line(vit: Path) -> None:
    with pytest.raises(NoGraphError, match=r"does not take it: .*linalg_matrix_exp") as told:
        graphs.graph(vit, NotForOnnx())
    assert "\n" not in str(told.value)


def test_without_openvino_there_is_none(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # as if it could not be found
    with pytest.raises(NoGraphError, match=r"^OpenVINO is not installed$"):
        graphs.graph(vit)


def test_a_model_that_torch_cannot_load_is_its_own_fault(own_vit: Path) -> None:
    weights = own_vit / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BadModelError, match="cannot be loaded"):
        graphs.graph(own_vit)


def test_it_is_proved_on_photographs() -> None:
    images = pictures(graphs.PREPROCESS)
    assert images.shape[1:] == (tiny.SIZE, tiny.SIZE, 3)
    assert images.dtype == np.uint8
    assert len(images) >= 6
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


def test_doctor_is_told_what_runs_a_model(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, shape = fetch(str(vit), None), graphs.PREPROCESS
    engine, how = tried(model, shape, CLASSIFYING)
    assert isinstance(engine, OpenVinoEngine)
    assert how.startswith("by OpenVINO 20")
    assert how.endswith("of torch")
    monkeypatch.setitem(sys.modules, "openvino", None)
    engine, how = tried(model, shape, CLASSIFYING)
    assert isinstance(engine, TorchEngine)
    assert how == "by torch (OpenVINO is not installed)"


_VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": tiny.SIZE,
    "patch_size": 8,
    "initializer_range": 0.3,
}
_TOWER = {k: v for k, v in _VIT.items() if k != "initializer_range"}
_STAGES: dict[str, Any] = {"depths": [1, 1], "initializer_range": 0.3}
_MAPS: dict[str, Any] = {"hidden_sizes": [8, 16], "num_stages": 2, **_STAGES}
#: Classifiers of transformers, and whether only the long run tries them.
CLASSIFIERS: list[tuple[str, dict[str, Any], bool]] = [
    ("ViTForImageClassification", _VIT, False),
    ("ViTForImageClassification", _VIT | {"hidden_act": "gelu_pytorch_tanh"}, False),
    ("ViTForImageClassification", _VIT | {"hidden_act": "quick_gelu"}, True),
    ("ViTForImageClassification", _VIT | {"hidden_act": "relu", "qkv_bias": False}, True),
    ("ViTForImageClassification", _VIT | {"problem_type": "multi_label_classification"}, False),
    ("ViTMSNForImageClassification", _VIT, True),
    ("DeiTForImageClassification", _VIT, True),
    ("DeiTForImageClassificationWithTeacher", _VIT, False),
    ("BeitForImageClassification", _VIT | {"use_relative_position_bias": True}, False),
    ("Data2VecVisionForImageClassification", _VIT, True),
    ("Dinov2ForImageClassification", _VIT | {"image_size": 56}, False),
    ("Dinov2WithRegistersForImageClassification", _VIT, True),
    ("SiglipForImageClassification", {"vision_config": _TOWER}, False),
    ("CLIPForImageClassification", {"vision_config": _TOWER}, True),
    (
        "SwinForImageClassification",
        _STAGES
        | {"image_size": 32, "patch_size": 4, "embed_dim": 8, "num_heads": [2, 2]}
        | {"window_size": 4},
        False,
    ),
    (
        "Swinv2ForImageClassification",
        _STAGES
        | {"image_size": 32, "patch_size": 4, "embed_dim": 8, "num_heads": [2, 2]}
        | {"window_size": 4},
        True,
    ),
    (
        "ConvNextForImageClassification",
        _MAPS,
        False,
    ),
    (
        "ConvNextV2ForImageClassification",
        _MAPS,
        True,
    ),
    ("ResNetForImageClassification", {"hidden_sizes": [8, 16], "depths": [1, 1]}, False),
    ("RegNetForImageClassification", {"hidden_sizes": [64, 64], "depths": [1, 1]}, True),
    ("MobileNetV2ForImageClassification", {"depth_multiplier": 0.25}, True),
    ("PvtV2ForImageClassification", {"image_size": 32}, True),
]


def named(kind: str, config: dict[str, Any]) -> str:
    return "-".join([kind.removesuffix("ForImageClassification"), *map(str, list(config)[7:])])


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        pytest.param(kind, config, id=named(kind, config), marks=[pytest.mark.slow] if long else [])
        for kind, config, long in CLASSIFIERS
    ],
)
def test_scores_are_those_of_transformers(
    kind: str, config: dict[str, Any], tmp_path: Path
) -> None:
    network = getattr(transformers, kind)
    torch.manual_seed(0)
    settings = network.config_class(**config, id2label={i: f"thing {i}" for i in range(7)})
    model = network(settings).eval()
    folder, pixels = tiny.save(model, tmp_path / "model"), tiny.images(5)
    made = make_graph(graphs.request(folder))
    values = (torch.from_numpy(pixels).float() * tiny.SCALE["rescale"]).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(tiny.SCALE[name])[:, None, None] for name in ("mean", "std"))
    with torch.inference_mode():
        logits = model(pixel_values=(values - mean) / std).logits
    expected = (logits.sigmoid() if made.sigmoid else logits.softmax(1)).numpy()
    assert made.sigmoid == ("problem_type" in config)
    indices, scores = graphs.engine(made).predict(pixels)
    np.testing.assert_allclose(
        scores, np.take_along_axis(expected, indices, axis=1), rtol=0, atol=1e-5
    )


@pytest.mark.slow
def test_an_efficientnet_stays_with_torch(tmp_path: Path) -> None:
    """The only family known: it averages over windows that are larger than its maps."""
    config = transformers.EfficientNetConfig(width_coefficient=0.2, hidden_dim=256)
    torch.manual_seed(0)
    model = transformers.EfficientNetForImageClassification(config).eval()
    with pytest.raises(NoGraphError, match=r"^OpenVINO does not take it: ") as told:
        graphs.graph(tiny.save(model, tmp_path / "model"))
    assert "\n" not in str(told.value)
