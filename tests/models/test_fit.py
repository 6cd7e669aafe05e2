"""Every field of config.json with every wrong value: one line before Ray, or labels."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from pipeline.errors import BadModelError, Exit
from pipeline.models.backends.torch_engine import TorchEngine
from pipeline.models.config import NOT_FROM_PIXELS
from pipeline.models.fetch import fetch
from pipeline.models.fit import built, check_fit
from pipeline.models.reference import ReferenceModel
from tests.models import tiny

LOADING = {"height": tiny.SIZE, "width": tiny.SIZE, **tiny.SCALE, "precision": "fp32"}


def refused(folder: Path, size: int = tiny.SIZE) -> str | None:
    """What a run's check says of a folder; None if it takes it."""
    try:
        check_fit(fetch(str(folder), None), size, size)
    except BadModelError as error:
        return f"{error} · exit {error.exit_code}"
    return None


def labels_as_transformers(folder: Path) -> None:
    pixels = tiny.images(2)
    engine, reference = TorchEngine.load(folder, top_k=9, **LOADING), ReferenceModel(folder)
    assert engine.labels == reference.labels
    indices, scores = engine.predict(pixels)
    for n, image in enumerate(pixels):
        values = (image * np.float32(tiny.SCALE["rescale"]) - tiny.SCALE["mean"]) / np.array(
            tiny.SCALE["std"]
        )
        expected = reference.scores(values.astype(np.float32).transpose(2, 0, 1))
        np.testing.assert_allclose(scores[n], expected[indices[n]], atol=1e-5)


VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -3,
    3,
    10**12,
    0.5,
    float("nan"),
    "text",
    "\ud800",
    [],
    [1, 2],
    {},
    {"a": 1},
)
#: What a saved ViT does not say by itself.
OTHERS = (
    "attn_implementation",
    "auto_map",
    "image_processor_type",
    "label_names",
    "num_labels",
    "output_attentions",
    "problem_type",
    "quantization_config",
    "return_dict",
    "torch_dtype",
)
#: Their values are other networks or none of the config's, so their field need not be named.
_SAID_OTHERWISE = {"architectures", "attn_implementation", "label_names", "model_type"}


def fields() -> list[str]:
    settings = transformers.ViTConfig(architectures=["ViTForImageClassification"])
    return sorted({*json.loads(settings.to_json_string(use_diff=False)), *OTHERS})


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("field", fields())
def test_every_field_with_every_wrong_value(
    field: str, every: bool, vit: Path, own_vit: Path
) -> None:
    """`every`: all that is taken labels; else one value of those."""
    sound = json.loads((vit / "config.json").read_text())
    labelled = False
    for value in VALUES:
        (own_vit / "config.json").write_text(json.dumps(sound | {field: value}))
        said = refused(own_vit)
        if said is None and (every or not labelled):
            labels_as_transformers(own_vit)
            labelled = True
        if said is not None:
            assert said.endswith(f"exit {Exit.USAGE}"), value
            by_weights = "the weights don't fit" in said or "the weights lack" in said
            assert "config.json" in said or by_weights, (value, said)
            assert field in said or by_weights or field in _SAID_OTHERWISE, (value, said)
            assert len(said) < 700, value
            assert "\n" not in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_labels": 3}, "num_labels in config.json is 3, but id2label names 7 classes"),
        ({"num_labels": "7"}, 'num_labels in config.json is "7"; it must be a number'),
        ({"num_labels": 10**9}, "it must be a number from 1 to"),
        ({"id2label": {"0": "a", "2": "c"}}, 'of its 2 keys none is "1"'),
        ({"id2label": {"a": "a"}}, 'of its 1 keys none is "0"'),
        ({"id2label": {"0": "a", "00": "b"}}, "must name every class from 0 up"),
        ({"id2label": {}}, "it must be an object such as"),
        ({"id2label": ["a"]}, "it must be an object such as"),
        ({"id2label": {"0": "a", "1": "\ud800"}}, "id2label.1 in config.json is"),
        ({"id2label": {"0": "a", "1": None}}, "id2label.1 in config.json is null"),
        ({"id2label": {"0": "a", "1": ["b"]}}, "id2label.1 in config.json is"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, "don't fit config.json in classifier"),
        ({"hidden_size": "32"}, 'hidden_size in config.json is "32"'),
        ({"layer_norm_eps": 1}, "layer_norm_eps in config.json is 1"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps in config.json is NaN"),
        ({"hidden_act": "swash"}, 'hidden_act in config.json is "swash"'),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers in config.json is 1000000000"),
        ({"image_size": 64}, "image_size in config.json is 64"),
        ({"dtype": "float7"}, 'dtype in config.json is "float7"'),
        ({"return_dict": False}, "return_dict in config.json is false"),
        ({"model_type": [3]}, "model_type in config.json is [3]"),
        ({"model_type": "own"}, "cannot be loaded"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, 'config.json: "bitsandbytes"'),
    ],
)
def test_the_line_names_the_field(changes: dict[str, Any], said: str, own_vit: Path) -> None:
    path = own_vit / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    line = refused(own_vit)
    assert line is not None
    assert said in line
    assert line.endswith(f"exit {Exit.USAGE}")


def test_a_key_that_stands_twice_is_named(own_vit: Path) -> None:
    path = own_vit / "config.json"
    path.write_text(path.read_text().replace('"1": "thing 1"', '"0": "thing 1"'))
    assert 'id2label in config.json has the key "0" twice' in str(refused(own_vit))


def test_names_may_be_numbers_and_the_same(own_vit: Path) -> None:
    tiny.edit_config(own_vit, id2label={str(i): ["crane", 5, 0.5][i % 3] for i in range(7)})
    assert refused(own_vit) is None
    labels_as_transformers(own_vit)


def test_images_of_another_size_are_told_before_any_weights_are_read(own_vit: Path) -> None:
    line = refused(own_vit, 40)
    assert "for images of 40x40" in str(line)


@pytest.mark.parametrize("data", [b"", b"12345678", b"\xff" * 20, b"\x02" + b"\0" * 7 + b"[]"])
def test_a_header_of_no_safetensors_is_told(own_vit: Path, data: bytes) -> None:
    (own_vit / "model.safetensors").write_bytes(data)
    assert "model.safetensors cannot be loaded" in str(refused(own_vit))


def test_a_class_head_of_another_size_is_told(own_vit: Path) -> None:
    path = own_vit / "model.safetensors"
    weights = load_file(path)
    weights["classifier.weight"] = torch.zeros(4, 32)
    save_file(weights, path, metadata={"format": "pt"})
    line = refused(own_vit)
    assert "don't fit config.json in classifier.weight" in str(line)


#: They need a package, give no logits, or their defaults are at odds.
_NOT_BY_DEFAULT = {"dinat", "perceiver", "pp_lcnet", "timm_wrapper"}


def families() -> Iterator[tuple[str, str]]:
    for model_type, names in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.items():
        if model_type not in NOT_FROM_PIXELS | _NOT_BY_DEFAULT:
            yield from ((model_type, n) for n in ([names] if isinstance(names, str) else names))


@pytest.mark.parametrize(("model_type", "architecture"), families())
def test_every_family_of_transformers_can_be_made_without_weights(
    model_type: str, architecture: str, tmp_path: Path
) -> None:
    config = transformers.CONFIG_MAPPING[model_type](architectures=[architecture])
    config.save_pretrained(tmp_path)
    size = getattr(getattr(config, "vision_config", config), "image_size", 224)
    assert built(tmp_path, *([size, size] if isinstance(size, int) else size))
