"""A tiny ViT with random weights and small archives of made images, for tests of the flow."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

PREPROCESSING = {
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "image_processor_type": "ViTImageProcessor",
}


def make_model(folder: Path, seed: int = 0, layers: int = 2, width: int = 32) -> Path:
    """A checkpoint folder; another seed gives other weights, so another recipe."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(seed)
    names = {n: f"class {n}" for n in range(5)}
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=4 * width,
        image_size=32,
        patch_size=8,
        id2label=names,
        label2id={name: n for n, name in names.items()},
        initializer_range=0.5,
    )
    ViTForImageClassification(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))
    return folder


def image_bytes(seed: int, kind: str = "jpeg") -> bytes:
    """A small picture, another for every seed."""
    draw = np.random.default_rng(seed)
    blocks = draw.integers(0, 255, (6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(blocks).resize((60 + seed % 13, 48 + seed % 7))
    sink = io.BytesIO()
    picture.save(sink, kind)
    return sink.getvalue()


def archive(count: int, first: int = 0) -> dict[str, bytes]:
    """Names and bytes of `count` images, in two folders."""
    numbers = range(first, first + count)
    return {f"{'ab'[n % 2]}/{n:05}.jpg": image_bytes(n) for n in numbers}
