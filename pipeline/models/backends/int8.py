"""int8: a classifier whose linear layers multiply 8-bit integers, for CPUs.

Weights get one scale for each output channel, once; activations one scale for each row (a token of
an image) at run time. One scale for a whole batch would be worse in two ways: a few tokens of a ViT
are many times as large as the others, and an image's label would depend on its neighbours. All
other operations, and the class head, stay in float32.

torch multiplies integers fast if the CPU has instructions for it (AVX-512 VNNI, AMX), and one by
one if not, at a twentieth of the speed of floats: seen on an EPYC with AVX2. There the
same integers are multiplied as floats, which represent them exactly up to 2²⁴. A run is then as
fast as in fp32, no faster, and its labels equal those of other machines.
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
#: The byte that stands for zero: oneDNN multiplies unsigned activations by signed weights.
_ZERO = 128
_LEAST_SCALE = 1e-12
#: Rows, inputs and outputs of the product that times the two ways: 0.1 s at worst.
_PROBE = (128, 256, 256)
_PROBE_TIMES = 10


def quantise(model: Any, *, head: bool = True) -> None:
    """Replace the linear layers of a transformers network, in place, except a class `head`.

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
    """The layer's type; torch is already imported at that point."""
    import torch

    class Int8Linear(torch.nn.Module):
        """y = x · Wᵀ + b with 8-bit factors and exact sums; float32 in and out.

        Followed by a GELU if `gelu` names its form.
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
            # A row that is not finite has a scale and a result that are not finite either.
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
    """The same, with floats that hold the same integers."""

    def __init__(self, weight: "Tensor", scale: "Tensor") -> None:
        self._weight, self._scale = weight.t(), scale

    def __call__(self, steps: "Tensor") -> "Tensor":
        return ((steps - _ZERO) @ self._weight).mul_(self._scale)


def _scale(rows: "Tensor") -> "Tensor":
    """(n, k) → (n, 1): the value of one int8 step in each row."""
    import torch

    most = torch.maximum(rows.amax(dim=1, keepdim=True), rows.amin(dim=1, keepdim=True).neg_())
    return most.clamp_min_(_LEAST_SCALE).div_(_MOST)


def _steps(rows: "Tensor", scale: "Tensor") -> "Tensor":
    """Each value as a number of steps of its row's scale, plus 128: 1 to 255, in float32."""
    return (rows / scale).add_(_ZERO).round_()


@lru_cache(maxsize=1)
def integers_pay() -> bool:
    """Whether this machine multiplies bytes correctly, and faster than floats; measured."""
    import torch

    if not integers_hold():
        return False
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several calls wait for each other if others use the same cores
    try:
        integers, floats = map(_least_seconds, _largest_products())
    finally:
        torch.set_num_threads(threads)
    return integers < floats


@lru_cache(maxsize=1)
def integers_hold() -> bool:
    """Without VNNI some CPUs sum products of bytes in 16 bits, which the largest overflow."""
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
