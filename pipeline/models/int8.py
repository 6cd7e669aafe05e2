"""A classifier whose linear layers multiply in 8-bit integers: for CPUs.

Weights get one scale an output channel, once; activations one scale a row (a token of an image),
as they come. One scale for a whole batch would be worse twice over: a few tokens of a ViT are
many times as large as the others, and an image's label would hang on its neighbours. What is no
matrix product, and the class head, stay in float32.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

_MOST = 127
_LEAST_SCALE = 1e-12


def quantise(model: Any) -> Any:
    """Replace the linear layers of a classifier of transformers, in place, but for its head.

    Raises ModelError if there are none, as in a convolutional network.
    """
    import torch

    linear = [(n, layer) for n, layer in model.named_modules() if type(layer) is torch.nn.Linear]
    heads = [name for name, layer in linear if layer.out_features == model.config.num_labels]
    inner = [(name, layer) for name, layer in linear if name not in heads[-1:]]
    if not inner:
        kind = type(model).__name__
        raise ModelError(f"{kind} has no linear layers for --precision int8 to speed up: use fp32")
    for name, layer in inner:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, _int8_linear()(layer))
    return model


@lru_cache(maxsize=1)
def _int8_linear() -> type:
    import torch

    class Int8Linear(torch.nn.Module):
        """y = x · Wᵀ + b with int8 factors and int32 sums; float32 in and out."""

        weight: "Tensor"
        scale: "Tensor"

        def __init__(self, layer: torch.nn.Linear) -> None:
            super().__init__()
            weight = layer.weight.detach()
            scale = _scale(weight)
            self.register_buffer("weight", _rounded(weight, scale).t())
            self.register_buffer("scale", scale.t())
            self.bias = layer.bias

        def forward(self, x: "Tensor") -> "Tensor":
            rows = x.reshape(-1, x.shape[-1])
            scale = _scale(rows)
            sums = torch._int_mm(_rounded(rows, scale), self.weight)
            # The scale of a row that is not finite is not, and so neither is its result.
            result = sums.float().mul_(scale).mul_(self.scale)
            if self.bias is not None:
                result.add_(self.bias)
            return result.view(*x.shape[:-1], self.weight.shape[1])

    return Int8Linear


def _scale(rows: "Tensor") -> "Tensor":
    """(n, k) → (n, 1): what a step of int8 is worth in each row."""
    return rows.abs().amax(dim=1, keepdim=True).clamp_min(_LEAST_SCALE).div(_MOST)


def _rounded(rows: "Tensor", scale: "Tensor") -> "Tensor":
    import torch

    return (rows / scale).round_().to(torch.int8)
