"""int8: linear layers whose weights are 8-bit integers, for CPUs.

Weights get one scale for each output channel, once. OpenVINO makes integers of activations too, if
the CPU multiplies these fast (VNNI, AMX), at run time: with one scale for each row (a token of an
image), or for equal parts of it. One scale for a whole batch would be worse in two ways: a few
tokens of a ViT are many times as large as the others, and an image's label would depend on its
neighbours. All other operations, and the class head, stay in float32.
"""

import math
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import BadModelError
from pipeline.models.backends.surgery import replace

if TYPE_CHECKING:
    from torch import Tensor

_MOST: Final = 127
_LEAST_SCALE: Final = 1e-12


def quantise(model: Any, *, head: bool = True) -> int:
    """Replace the linear layers of a transformers network, in place, except a class `head`.

    Returns how many numbers of a row may share a scale: as many as divide every layer's. Raises
    BadModelError if there are no such layers, as in a convolutional network.
    """
    import torch

    linear = [layer for layer in model.modules() if type(layer) is torch.nn.Linear]
    heads = [layer for layer in linear if head and layer.out_features == model.config.num_labels]
    inner = {layer for layer in linear if layer not in heads[-1:]}
    if not inner:
        kind = type(model).__name__
        raise BadModelError(
            f"{kind} has no linear layers for --precision int8 to speed up: use fp32"
        )
    replace(model, lambda layer: int8_linear(layer) if layer in inner else None)
    return math.gcd(*(layer.in_features for layer in inner))


def int8_linear(layer: Any) -> Any:
    """The layer of torch with 8-bit weights; float32 in and out."""
    import torch

    class Product(torch.autograd.Function):
        """Rows (…, k) times weights (k, n) int8 in steps of `scale`, (n,): (…, n) float32."""

        @staticmethod
        def forward(_: Any, x: "Tensor", weight: "Tensor", scale: "Tensor", _zero: Any) -> "Tensor":
            return x @ (weight * scale)

        @staticmethod
        def symbolic(graph: Any, x: Any, weight: Any, scale: Any, zero: Any) -> Any:
            floats = graph.op("DequantizeLinear", weight, scale, zero, axis_i=1)
            return graph.op("MatMul", x, floats)

    class Int8Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            weight = layer.weight.detach().t()
            scale = weight.abs().amax(dim=0).clamp_min(_LEAST_SCALE) / _MOST
            self.register_buffer("weight", (weight / scale).round_().to(torch.int8).contiguous())
            self.register_buffer("scale", scale)
            self.register_buffer("zero", torch.zeros(len(scale), dtype=torch.int8))
            self.bias = layer.bias

        def forward(self, x: "Tensor") -> "Tensor":
            factors = x, self.weight, self.scale, self.zero
            result: Tensor = Product.apply(*factors)  # type: ignore[no-untyped-call]
            return result if self.bias is None else result + self.bias

    return Int8Linear()
