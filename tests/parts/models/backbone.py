"""The weights of a DINOv2-small ViT-S/14, out of an ONNX file, as two Hugging Face models."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn.functional import interpolate

LAYERS, WIDTH = 12, 384
#: Patches of 14 pixels a side: 518 pixels in training, 224 for the plain ViT.
GRID, VIT_GRID = 37, 16


def onnx_weights(path: Path) -> dict[str, Tensor]:
    """The backbone's weights under the names that `Dinov2Model` has on the hub.

    The export names only some: linear weights are anonymous right-hand sides of MatMul
    nodes, transposed, and the class token and position embeddings are folded constants.
    """
    graph = onnx.load(path).graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    weights = {
        name.removeprefix("backbone."): array
        for name, array in arrays.items()
        if name.startswith("backbone.")
    }
    for node in graph.node:
        if node.op_type == "MatMul" and node.name.startswith("/backbone/encoder"):
            for name in set(node.input) & arrays.keys():
                path_of = node.name.removeprefix("/backbone/").removesuffix("/MatMul")
                weights[path_of.replace("/", ".") + ".weight"] = arrays[name].T
    cls_token = _constant(arrays, "onnx::Concat", (1, 1, WIDTH))
    patches = _constant(arrays, "onnx::Reshape", (1, GRID * GRID, WIDTH))
    weights["embeddings.position_embeddings"] = np.concatenate([cls_token, patches], axis=1)
    weights["embeddings.mask_token"] = np.zeros((1, WIDTH), np.float32)  # only used in pretraining
    return {name: torch.tensor(array) for name, array in weights.items()}


def _constant(
    arrays: dict[str, np.ndarray[Any, Any]], prefix: str, shape: tuple[int, ...]
) -> np.ndarray[Any, Any]:
    (found,) = (a for name, a in arrays.items() if name.startswith(prefix) and a.shape == shape)
    return found


def fold_into_vit(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same backbone as a plain ViT for 224×224, under the names `ViTModel` has on the hub.

    Layer scale λ·(Wx + b) is (λW)x + λb; the 37×37 position embeddings are resized to
    16×16 once, as DINOv2's own forward does for every image of this size.
    """
    folded = {
        name: tensor
        for name, tensor in weights.items()
        if name.startswith(("embeddings.cls", "embeddings.patch", "layernorm"))
    }
    positions = weights["embeddings.position_embeddings"]
    grid = positions[:, 1:].reshape(1, GRID, GRID, WIDTH).permute(0, 3, 1, 2)
    grid = interpolate(grid, size=(VIT_GRID, VIT_GRID), mode="bicubic", align_corners=False)
    patches = grid.permute(0, 2, 3, 1).reshape(1, VIT_GRID * VIT_GRID, WIDTH)
    folded["embeddings.position_embeddings"] = torch.cat([positions[:, :1], patches], dim=1)
    for layer in range(LAYERS):
        folded |= _fold_layer(weights, f"encoder.layer.{layer}.")
    return folded


def _fold_layer(weights: dict[str, Tensor], layer: str) -> dict[str, Tensor]:
    after_attention = weights[f"{layer}layer_scale1.lambda1"]
    after_mlp = weights[f"{layer}layer_scale2.lambda1"]
    ones = torch.ones(1)
    places = {
        "attention.attention.query": ("attention.attention.query", ones),
        "attention.attention.key": ("attention.attention.key", ones),
        "attention.attention.value": ("attention.attention.value", ones),
        "attention.output.dense": ("attention.output.dense", after_attention),
        "intermediate.dense": ("mlp.fc1", ones),
        "output.dense": ("mlp.fc2", after_mlp),
        "layernorm_before": ("norm1", ones),
        "layernorm_after": ("norm2", ones),
    }
    folded = {}
    for place, (source, scale) in places.items():
        weight, bias = (weights[f"{layer}{source}.{part}"] for part in ("weight", "bias"))
        folded[f"{layer}{place}.weight"] = weight * (scale[:, None] if weight.ndim == 2 else scale)
        folded[f"{layer}{place}.bias"] = bias * scale
    return folded
