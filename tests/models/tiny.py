"""Small classifiers with random weights from a fixed seed, saved like real ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 32
SCALE = {"rescale": 1 / 255, "mean": (0.48, 0.46, 0.41), "std": (0.27, 0.26, 0.28)}


def save_vit(folder: Path, labels: int = 7, seed: int = 0, **config: Any) -> Path:
    import torch
    import transformers

    torch.manual_seed(seed)
    settings = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=SIZE,
        patch_size=8,
        initializer_range=0.3,  # scores far apart, as a trained model's are
        id2label={i: f"thing {i}" for i in range(labels)},
        **config,
    )
    return save(transformers.ViTForImageClassification(settings), folder)


def save_resnet(folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(1)
    settings = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        id2label={i: f"thing {i}" for i in range(7)},
    )
    return save(transformers.ResNetForImageClassification(settings), folder)


def save_convnext(folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(2)
    settings = transformers.ConvNextConfig(
        hidden_sizes=[8, 16, 16, 16],
        depths=[1, 1, 1, 1],
        initializer_range=0.3,
        id2label={i: f"thing {i}" for i in range(7)},
    )
    return save(transformers.ConvNextForImageClassification(settings), folder)


def images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """(count, SIZE, SIZE, 3) uint8, of different brightness and grain."""
    random = np.random.default_rng(seed)
    bright = random.integers(1, 256, (count, 1, 1, 3))
    return (random.random((count, SIZE, SIZE, 3)) * bright).astype(np.uint8)


def edit_config(folder: Path, **changes: Any) -> Path:
    """Change keys of config.json; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


def save(model: Any, folder: Path) -> Path:
    import transformers

    model.eval().save_pretrained(folder)
    processor = transformers.ViTImageProcessorPil(
        size={"height": SIZE, "width": SIZE},
        do_rescale=True,
        rescale_factor=SCALE["rescale"],
        do_normalize=True,
        image_mean=SCALE["mean"],
        image_std=SCALE["std"],
    )
    processor.save_pretrained(folder)
    return folder
