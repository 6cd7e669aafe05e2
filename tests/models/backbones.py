"""Small vision backbones of each family with random weights, saved like real ones.

`FAMILIES` says of each what `transformers` itself calls its vectors: the truth of the tests,
written here once more, by no code of ours.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor

from tests.models import tiny

SIZE = tiny.SIZE
PATCHES = (SIZE // 8) ** 2

_VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": SIZE,
    "patch_size": 8,
    "initializer_range": 0.3,
}
_DINO: dict[str, Any] = {k: v for k, v in _VIT.items() if k != "intermediate_size"}
_CLIP: dict[str, Any] = {k: v for k, v in _VIT.items() if k != "initializer_range"}
_TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_CLIP_CONFIG: dict[str, Any] = {
    "vision_config": _CLIP | {"projection_dim": 24},
    "text_config": _TEXT | {"projection_dim": 24},
    "projection_dim": 24,
}
_MAP: dict[str, Any] = {"hidden_sizes": [8, 16], "depths": [1, 1]}

#: (model, pixels) → vectors.
Truth = Callable[[Any, Tensor], Tensor]


class Family(NamedTuple):
    """A class of transformers, its config, and its vectors, the default one first."""

    kind: str
    config: dict[str, Any]
    vectors: dict[str, Truth]
    #: The class that the vectors are told of, if another than what was saved.
    read_as: str = ""


def _hidden(model: Any, pixels: Tensor) -> Tensor:
    found: Tensor = model(pixel_values=pixels).last_hidden_state
    return found


def _pooler(model: Any, pixels: Tensor) -> Tensor:
    found: Tensor = model(pixel_values=pixels).pooler_output
    return found.flatten(1)


def _cls(model: Any, pixels: Tensor) -> Tensor:
    return _hidden(model, pixels)[:, 0]


def _mean_after(before: int) -> Truth:
    return lambda model, pixels: _hidden(model, pixels)[:, before:].mean(1)


def _map_mean(model: Any, pixels: Tensor) -> Tensor:
    return _hidden(model, pixels).mean((-2, -1))


def _features(model: Any, pixels: Tensor) -> Tensor:
    found: Tensor = model.get_image_features(pixel_values=pixels).pooler_output
    return found


def _embeds(model: Any, pixels: Tensor) -> Tensor:
    found: Tensor = model(pixel_values=pixels).image_embeds
    return found


def _of_vision(truth: Truth) -> Truth:
    return lambda model, pixels: truth(model.vision_model, pixels)


def _unmasked(truth: Callable[[Tensor], Tensor]) -> Truth:
    def find(model: Any, pixels: Tensor) -> Tensor:
        model.config.mask_ratio = 0.0
        order = torch.arange(PATCHES).expand(len(pixels), -1)
        return truth(model(pixel_values=pixels, noise=order).last_hidden_state)

    return find


_TOKENS = {"cls": _cls, "pooler": _pooler, "mean": _mean_after(1)}
_OF_CLIP = {name: _of_vision(truth) for name, truth in _TOKENS.items()}

FAMILIES: dict[str, Family] = {
    "vit": Family("ViTModel", _VIT, _TOKENS),
    "vit_classifier": Family(
        "ViTForImageClassification", _VIT, {"cls": _cls, "mean": _mean_after(1)}, "ViTModel"
    ),
    "vit_msn": Family("ViTMSNModel", _VIT, {"cls": _cls, "mean": _mean_after(1)}),
    "deit": Family("DeiTModel", _VIT, _TOKENS | {"mean": _mean_after(2)}),
    "dinov2": Family("Dinov2Model", _DINO, _TOKENS),
    "dinov2_registers": Family(
        "Dinov2WithRegistersModel",
        _DINO | {"num_register_tokens": 4},
        _TOKENS | {"mean": _mean_after(5)},
    ),
    "dinov3": Family(
        "DINOv3ViTModel", _VIT | {"num_register_tokens": 4}, _TOKENS | {"mean": _mean_after(5)}
    ),
    "beit": Family("BeitModel", _VIT, _TOKENS),
    "swin": Family(
        "SwinModel",
        {
            "image_size": SIZE,
            "patch_size": 4,
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "window_size": 4,
            "initializer_range": 0.3,
        },
        {"pooler": _pooler, "mean": _mean_after(0)},
    ),
    "convnext": Family(
        "ConvNextModel",
        {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "initializer_range": 0.3},
        {"pooler": _pooler, "mean": _map_mean},
    ),
    "resnet": Family(
        "ResNetModel",
        _MAP | {"embedding_size": 8, "layer_type": "basic"},
        {"pooler": _pooler, "mean": _map_mean},
    ),
    "clip": Family("CLIPModel", _CLIP_CONFIG, {"projection": _features, **_OF_CLIP}),
    "clip_vision": Family("CLIPVisionModel", _CLIP, _TOKENS),
    "clip_projection": Family(
        "CLIPVisionModelWithProjection",
        _CLIP | {"projection_dim": 24},
        {"projection": _embeds, **_OF_CLIP},
    ),
    "siglip": Family(
        "SiglipModel",
        {"vision_config": _CLIP, "text_config": _TEXT},
        {"pooler": _features, "mean": _of_vision(_mean_after(0))},
    ),
    "siglip_vision": Family(
        "SiglipVisionModel", _CLIP, {"pooler": _pooler, "mean": _mean_after(0)}
    ),
    "vit_mae": Family(
        "ViTMAEForPreTraining",
        _VIT | {"decoder_hidden_size": 16, "decoder_num_attention_heads": 2,
                "decoder_num_hidden_layers": 1, "decoder_intermediate_size": 16},
        {
            "cls": _unmasked(lambda hidden: hidden[:, 0]),
            "mean": _unmasked(lambda hidden: hidden[:, 1:].mean(1)),
        },
        "ViTMAEModel",
    ),
}  # fmt: skip


def save(family: str, folder: Path, seed: int = 0, **config: Any) -> Path:
    """A checkpoint of this family, and an image processor for SIZE."""
    found = FAMILIES[family]
    network = getattr(transformers, found.kind)
    torch.manual_seed(seed)
    return tiny.save(network(network.config_class(**found.config | config)), folder)


def truth(family: str, folder: Path, pooling: str, pixels: Tensor) -> Tensor:
    """By transformers alone, in fp32: scaled pixels (n, 3, H, W) → (n, dim)."""
    found = FAMILIES[family]
    network = getattr(transformers, found.read_as or found.kind)
    model = network.from_pretrained(folder).eval()
    with torch.inference_mode():
        return found.vectors[pooling](model, pixels)
