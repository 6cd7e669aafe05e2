"""Weights that are not in the files: no reason to refuse exactly where no logit depends on them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from pipeline.errors import BadModelError
from pipeline.models.backends.loading import load_weights
from pipeline.models.backends.torch_engine import TorchEngine
from pipeline.models.fetch import fetch
from pipeline.models.fit import check_fit
from pipeline.models.missing import reaching
from tests.models import tiny

CPU = torch.device("cpu")
SIZE = (tiny.SIZE, tiny.SIZE)


def without(folder: Path, *parts: str, **others: torch.Tensor) -> list[str]:
    """Take out of a folder's weights those whose names hold a part; their names."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    gone = [name for name in weights if any(part in name for part in parts)]
    save_file(
        {name: w for name, w in weights.items() if name not in gone} | others,
        path,
        metadata={"format": "pt"},
    )
    return gone


def save_siglip(folder: Path) -> Path:
    torch.manual_seed(3)
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 2, "image_size": tiny.SIZE, "patch_size": 8}
    config = transformers.SiglipConfig(
        vision_config=vision, id2label={i: f"thing {i}" for i in range(7)}
    )
    return _save(transformers.SiglipForImageClassification(config), folder)


def save_clip(folder: Path) -> Path:
    torch.manual_seed(4)
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 2, "image_size": tiny.SIZE, "patch_size": 8}
    config = transformers.CLIPConfig(
        vision_config=vision, id2label={i: f"thing {i}" for i in range(7)}
    )
    return _save(transformers.CLIPForImageClassification(config), folder)


def save_dinov2(folder: Path) -> Path:
    torch.manual_seed(5)
    config = transformers.Dinov2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=tiny.SIZE,
        patch_size=8,
        initializer_range=0.3,
        id2label={i: f"thing {i}" for i in range(7)},
    )
    return _save(transformers.Dinov2ForImageClassification(config), folder)


def _save(model: torch.nn.Module, folder: Path) -> Path:
    model.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor", "size": tiny.SIZE})
    )
    return folder


def labels(folder: Path) -> np.ndarray:
    shape = {"height": tiny.SIZE, "width": tiny.SIZE, **tiny.SCALE}
    return TorchEngine.load(folder, precision="fp32", top_k=7, **shape).predict(tiny.images(3))[1]


Saver = Callable[[Path], Path]

NEEDLESS: list[tuple[Saver, str]] = [
    (tiny.save_resnet, "num_batches_tracked"),
    (save_dinov2, "mask_token"),
    (save_clip, "post_layernorm"),  # of the pooled output, which classification leaves out
]
NEEDED: list[tuple[Saver, str]] = [
    (tiny.save_resnet, "running_mean"),
    (tiny.save_resnet, "normalization.weight"),
    (tiny.save_vit, "classifier"),
    (tiny.save_vit, "cls_token"),
    (tiny.save_vit, "layernorm_after.bias"),
    (tiny.save_convnext, "layer_scale_parameter"),
    (save_dinov2, "lambda1"),
    (save_clip, "classifier.bias"),
    (save_siglip, "position_embedding"),
]


@pytest.mark.parametrize(("save", "part"), NEEDLESS)
def test_what_no_logit_depends_on_may_be_missing(save: Saver, part: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    before = labels(folder)
    gone = without(folder, part)
    check_fit(fetch(str(folder), None), *SIZE)
    weights = load_weights(folder, CPU, "fp32", SIZE)
    assert gone
    assert len(weights.unread) == len(gone)
    np.testing.assert_array_equal(labels(folder), before)


@pytest.mark.parametrize(("save", "part"), NEEDED)
def test_what_logits_depend_on_may_not(save: Saver, part: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    # The needless beside it is not named.
    gone = without(folder, part, "num_batches_tracked")
    assert gone
    for load in (
        lambda: check_fit(fetch(str(folder), None), *SIZE),
        lambda: load_weights(folder, CPU, "fp32", SIZE),
    ):
        with pytest.raises(BadModelError, match="the weights lack") as caught:
            load()
        assert "num_batches_tracked" not in str(caught.value)


def test_what_the_network_does_not_have_is_told_and_no_fault(tmp_path: Path) -> None:
    folder = tiny.save_vit(tmp_path / "model")
    before = labels(folder)
    without(folder, **{"pooler.dense.weight": torch.zeros(2, 2)})
    check_fit(fetch(str(folder), None), *SIZE)
    assert load_weights(folder, CPU, "fp32", SIZE).unused == ["pooler.dense.weight"]
    np.testing.assert_array_equal(labels(folder), before)


def test_trying_out_leaves_the_model_as_it_was_and_answers_the_same_again(tmp_path: Path) -> None:
    model = load_weights(tiny.save_resnet(tmp_path / "model"), CPU, "fp32").model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = sorted(before)
    first = reaching(model, names, SIZE)
    assert first == reaching(model, names, SIZE)
    assert set(names) - set(first) == {name for name in names if "num_batches_tracked" in name}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
