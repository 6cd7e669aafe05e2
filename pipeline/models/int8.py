"""A classifier whose linear layers multiply in 8-bit integers: for CPUs.

Weights get one scale an output channel, once; activations one scale a row (a token of an image),
as they come. One scale for a whole batch would be worse twice over: a few tokens of a ViT are
many times as large as the others, and an image's label would hang on its neighbours. What is no
matrix product, and the class head, stay in float32.

torch multiplies integers fast where the CPU has instructions for it (AVX-512 VNNI, AMX) and one by
one where it has not, at a twentieth of the speed of floats: seen on an EPYC with AVX2. There the
same integers are multiplied as floats, which hold them exactly up to 2²⁴; a run is as fast as in
fp32 then, no faster, and its labels are those of the other machines.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

_MOST = 127
_LEAST_SCALE = 1e-12
#: Rows, inputs and outputs of the product by which the two ways are timed: 0.1 s at the worst.
_PROBE = (128, 256, 256)
_PROBE_TIMES = 10


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
        """y = x · Wᵀ + b with factors of 8 bits and their exact sums; float32 in and out."""

        weight: "Tensor"
        scale: "Tensor"

        def __init__(self, layer: torch.nn.Linear) -> None:
            super().__init__()
            weight = layer.weight.detach()
            scale = _scale(weight)
            self.factors = torch.int8 if integers_pay() else torch.float32
            self.register_buffer("weight", _steps(weight, scale).to(self.factors).t())
            self.register_buffer("scale", scale.t())
            self.bias = layer.bias

        def forward(self, x: "Tensor") -> "Tensor":
            rows = x.reshape(-1, x.shape[-1])
            scale = _scale(rows)
            sums = _product(_steps(rows, scale).to(self.factors), self.weight)
            # The scale of a row that is not finite is not, and so neither is its result.
            result = sums.mul_(scale).mul_(self.scale)
            if self.bias is not None:
                result.add_(self.bias)
            return result.view(*x.shape[:-1], self.weight.shape[1])

    return Int8Linear


def _scale(rows: "Tensor") -> "Tensor":
    """(n, k) → (n, 1): what a step of int8 is worth in each row."""
    return rows.abs().amax(dim=1, keepdim=True).clamp_min(_LEAST_SCALE).div(_MOST)


def _steps(rows: "Tensor", scale: "Tensor") -> "Tensor":
    """How many steps of its row's scale each value is: -127 to 127, in float32."""
    return (rows / scale).round_()


def _product(left: "Tensor", right: "Tensor") -> "Tensor":
    import torch

    return torch._int_mm(left, right).float() if left.dtype == torch.int8 else left @ right


@lru_cache(maxsize=1)
def integers_pay() -> bool:
    """Whether this machine multiplies 8-bit integers faster than floats; found by trying both."""
    import torch

    rows, inputs, outputs = _PROBE
    left, right = torch.ones(rows, inputs), torch.ones(inputs, outputs)
    whole = left.to(torch.int8), right.to(torch.int8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for each other where others work on the same cores
    try:
        return _least_seconds(lambda: torch._int_mm(*whole)) < _least_seconds(lambda: left @ right)
    finally:
        torch.set_num_threads(threads)


def _least_seconds(call: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(_PROBE_TIMES):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
