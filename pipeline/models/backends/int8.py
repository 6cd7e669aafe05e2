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
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError
from pipeline.models.backends.packed import has_onednn
from pipeline.models.backends.surgery import replace

if TYPE_CHECKING:
    from torch import Tensor

_MOST = 127
#: The byte that stands for zero: oneDNN multiplies unsigned activations with signed weights.
_ZERO = 128
_LEAST_SCALE = 1e-12
#: Rows, inputs and outputs of the product by which the two ways are timed: 0.1 s at the worst.
_PROBE = (128, 256, 256)
_PROBE_TIMES = 10


def quantise(model: Any, *, head: bool = True) -> None:
    """Replace the linear layers of a network of transformers, in place, but for a class `head`.

    Raises ModelError if there are none, as in a convolutional network.
    """
    import torch

    linear = [layer for layer in model.modules() if type(layer) is torch.nn.Linear]
    heads = [layer for layer in linear if head and layer.out_features == model.config.num_labels]
    inner = {layer for layer in linear if layer not in heads[-1:]}
    if not inner:
        kind = type(model).__name__
        raise ModelError(f"{kind} has no linear layers for --precision int8 to speed up: use fp32")
    replace(model, lambda layer: int8_linear()(layer) if layer in inner else None)


@lru_cache(maxsize=1)
def int8_linear() -> type:
    """The layer's type; torch is imported by then."""
    import torch

    class Int8Linear(torch.nn.Module):
        """y = x · Wᵀ + b with factors of 8 bits and their exact sums; float32 in and out.

        GELU of that, where `gelu` names its form.
        """

        absorbs_gelu = True

        def __init__(self, layer: torch.nn.Linear) -> None:
            super().__init__()
            weight = layer.weight.detach()
            scale = _scale(weight)
            product = _IntegerProduct if integers_pay() else _FloatProduct
            self.product = product((weight / scale).round_(), scale.flatten())
            self.bias = layer.bias
            self.gelu: str | None = None

        def forward(self, x: "Tensor") -> "Tensor":
            rows = x.reshape(-1, x.shape[-1])
            scale = _scale(rows)
            # The scale of a row that is not finite is not, and so neither is its result.
            result = self.product(_steps(rows, scale)).mul_(scale)
            if self.bias is not None:
                result.add_(self.bias)
            if self.gelu is not None:
                torch.ops.aten.gelu_(result, approximate=self.gelu)
            return result.view(*x.shape[:-1], result.shape[1])

    return Int8Linear


class _IntegerProduct:
    """Steps above zero, (n, k) float32, times weights as bytes, in the weights' unit: float32."""

    def __init__(self, weight: "Tensor", scale: "Tensor") -> None:
        import torch

        self._weight = torch.ops.onednn.qlinear_prepack(weight.to(torch.int8), None)
        self._scale, self._zeros = scale, torch.zeros(len(scale), dtype=torch.int32)

    def __call__(self, steps: "Tensor") -> "Tensor":
        import torch

        inputs = steps.to(torch.uint8), 1.0, _ZERO
        weights = self._weight, self._scale, self._zeros
        as_floats: tuple[Any, ...] = (None, 1.0, 0, torch.float32, "none", [], "")
        result: Tensor = torch.ops.onednn.qlinear_pointwise(*inputs, *weights, *as_floats)
        return result


class _FloatProduct:
    """The same, by floats that hold the same integers."""

    def __init__(self, weight: "Tensor", scale: "Tensor") -> None:
        self._weight, self._scale = weight.t(), scale

    def __call__(self, steps: "Tensor") -> "Tensor":
        return ((steps - _ZERO) @ self._weight).mul_(self._scale)


def _scale(rows: "Tensor") -> "Tensor":
    """(n, k) → (n, 1): what a step of int8 is worth in each row."""
    import torch

    most = torch.maximum(rows.amax(dim=1, keepdim=True), rows.amin(dim=1, keepdim=True).neg_())
    return most.clamp_min_(_LEAST_SCALE).div_(_MOST)


def _steps(rows: "Tensor", scale: "Tensor") -> "Tensor":
    """How many steps of its row's scale each value is, and 128 more: 1 to 255, in float32."""
    return (rows / scale).add_(_ZERO).round_()


@lru_cache(maxsize=1)
def integers_pay() -> bool:
    """Whether this machine multiplies bytes right, and faster than floats; found by trying."""
    import torch

    if not integers_hold():
        return False
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for each other where others work on the same cores
    try:
        integers, floats = map(_least_seconds, _largest_products())
    finally:
        torch.set_num_threads(threads)
    return integers < floats


@lru_cache(maxsize=1)
def integers_hold() -> bool:
    """Without VNNI some CPUs add products of bytes up in 16 bits, which the largest overflow."""
    import torch

    if not has_onednn(torch.device("cpu")):
        return False
    by_integers, by_floats = _largest_products()
    return torch.equal(by_integers(), by_floats())


def _largest_products() -> "tuple[Callable[[], Tensor], Callable[[], Tensor]]":
    import torch

    rows, inputs, outputs = _PROBE
    steps = torch.full((rows, inputs), float(_ZERO + _MOST))
    weight = torch.full((outputs, inputs), float(_MOST))
    integers, floats = (
        kind(weight, torch.ones(outputs)) for kind in (_IntegerProduct, _FloatProduct)
    )
    return partial(integers, steps), partial(floats, steps)


def _least_seconds(call: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(_PROBE_TIMES):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
