"""timm's checkpoints: where timm is installed, as transformers' wrapper has them; else one line."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import BadModelError, Exit
from pipeline.images import prepare
from pipeline.images.reference import reference_values
from pipeline.models import timm as ours
from pipeline.models.backends.torch_engine import TorchEngine
from pipeline.models.fetch import fetch
from pipeline.models.reference import ReferenceModel
from pipeline.tasks.preprocess_cache import checked_preprocess
from tests.golden.pictures import SIZES, picture, png

CLASSES = 7
CONFIG: dict[str, Any] = {
    "architecture": "resnet18",
    "num_classes": CLASSES,
    "num_features": 512,
    "label_names": [f"thing {i}" for i in range(CLASSES)],
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
}
INSTALLED = bool(find_spec("timm") and find_spec("torchvision"))
with_timm = pytest.mark.skipif(not INSTALLED, reason="timm and torchvision are not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path / "cache"))


def write(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    save_file({"any": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def save(folder: Path, architecture: str, **pretrained: Any) -> Path:
    """A model of timm with random weights, written as timm writes them for the hub."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=CLASSES)
    wanted = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")
    known = {name: model.pretrained_cfg[name] for name in wanted if name in model.pretrained_cfg}
    write(folder, architecture=architecture, pretrained_cfg=known | pretrained)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(BadModelError) as caught:
        checked_preprocess(fetch(str(folder), None))
    assert caught.value.exit_code == Exit.USAGE
    assert "\n" not in str(caught.value)
    return str(caught.value)


KINDS: list[dict[str, Any]] = [{}, {"model_type": "timm_wrapper"}, {"pretrained_cfg": None}]


@pytest.mark.parametrize("changes", KINDS)
def test_without_timm_the_line_says_how_to_get_it(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "find_spec", lambda name: None)
    said = refusal(write(tmp_path / "m", **changes))
    assert "is a model of timm (resnet18), which is not installed" in said
    assert "pip install 'nightlabel[timm]'" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "hf-hub:someone/else"}, "architecture in config.json is"),
        ({"architecture": "local-dir:/tmp/other"}, "architecture in config.json is"),
        ({"architecture": None}, "architecture in config.json is null"),
        ({"architecture": 3}, "architecture in config.json is 3"),
        ({"pretrained_cfg": [3]}, "pretrained_cfg in config.json is [3]"),
        ({"model_args": 3}, "model_args in config.json is 3"),
        ({"model_args": {"checkpoint_path": "x.pth"}}, "model_args.checkpoint_path in config"),
        ({"model_args": {"pretrained": True}}, "model_args.pretrained in config.json"),
        ({"model_args": {"pretrained_cfg": {"url": "x"}}}, "model_args.pretrained_cfg in config"),
    ],
)
def test_what_would_fetch_or_read_other_files_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    assert said in refusal(write(tmp_path / "m", **changes))


PROVEN: list[tuple[str, dict[str, Any]]] = [
    ("resnet18", {}),
    ("resnet18", {"input_size": [3, 225, 225], "interpolation": "bilinear"}),
    ("resnet18", {"crop_pct": 1.0}),
    ("mobilenetv3_small_050", {"crop_mode": "squash"}),
    ("vit_tiny_patch16_224", {"crop_pct": 0.9}),
    ("convnext_atto", {}),
]


@with_timm
@pytest.mark.parametrize(("architecture", "pretrained"), PROVEN)
def test_labels_are_those_of_timm_through_transformers(
    architecture: str, pretrained: dict[str, Any], tmp_path: Path
) -> None:
    folder = save(tmp_path / "m", architecture, **pretrained)
    shape = checked_preprocess(fetch(str(folder), None))
    assert shape.as_dict()["path"] == "fast"
    assert shape.processor == "TimmWrapperImageProcessor"
    scale = {"rescale": shape.rescale, "mean": shape.mean, "std": shape.std}
    size = {"height": shape.height, "width": shape.width}
    engine = TorchEngine.load(folder, precision="fp32", top_k=CLASSES, **size, **scale)
    reference = ReferenceModel(folder)
    assert engine.labels == reference.labels == CONFIG["label_names"]
    for texture in ("noise", "edges"):
        for edges in SIZES[:14]:
            data = png(picture(texture, edges))
            pixels = prepare(data, shape).pixels
            values = reference_values(data, folder, True)
            scaled = (pixels * np.float32(shape.rescale) - shape.mean) / np.array(shape.std)
            np.testing.assert_allclose(scaled.transpose(2, 0, 1), values, atol=2e-6)
            indices, scores = engine.predict(pixels[None])
            np.testing.assert_allclose(scores[0], reference.scores(values)[indices[0]], atol=1e-5)


@with_timm
@pytest.mark.parametrize(
    ("pretrained", "said"),
    [
        ({"crop_mode": "border"}, "does more than resize and crop from the centre"),
        ({"input_size": [3, 224, 320]}, "does more than resize and crop from the centre"),
        ({"crop_mode": 3}, "pretrained_cfg.crop_mode in config.json is 3"),
        ({"crop_pct": "x"}, 'pretrained_cfg.crop_pct in config.json is "x"'),
        ({"input_size": [1, 28, 28]}, "pretrained_cfg.input_size in config.json is"),
        ({"input_size": [3, 10**9, 10**9]}, "pretrained_cfg.input_size in config.json is"),
        ({"mean": [0.5, float("nan"), 0.5]}, "pretrained_cfg.mean in config.json is"),
        ({"std": [0, 0, 0]}, "pretrained_cfg.std in config.json is"),
        ({"interpolation": 3}, "pretrained_cfg.interpolation in config.json is 3"),
        ({"interpolation": "cubist"}, "config.json"),
    ],
)
def test_what_is_not_proven_is_refused_by_name(
    pretrained: dict[str, Any], said: str, tmp_path: Path
) -> None:
    assert said in refusal(save(tmp_path / "m", "resnet18", **pretrained))


@with_timm
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "nosuchnet_99"}, "which timm"),
        ({"num_classes": 3}, "num_classes in config.json is 3"),
        ({"label_names": ["a", "\ud800"], "num_classes": 2}, "label_names.1 in config.json is"),
        ({"label_names": "abc"}, "label_names in config.json is"),
    ],
)
def test_fields_of_timm_are_named(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refusal(write(tmp_path / "m", **changes))


@with_timm
def test_names_of_imagenet_are_taken_from_timm(tmp_path: Path) -> None:
    from transformers import AutoConfig

    folder = write(tmp_path / "m", label_names=None, num_classes=1000)
    expected = AutoConfig.from_pretrained(folder).id2label
    config = json.loads((folder / "config.json").read_text())
    assert ours.class_names("any", config) == [expected[i] for i in range(1000)]
