"""A classifier in fp32 on an x86 CPU, with its linear layers in oneDNN's own layout.

torch calls a BLAS for a linear layer. That rearranges the same weights at every call, needs the
bias copied into the result first, and leaves later operations to another pass through memory.
oneDNN keeps the weights arranged, and adds bias, GELU and residual as it writes the result.
torch.compile uses the same when it freezes a network, and takes a minute for it. Sums are added in
another order, so the last digits of scores change.
"""

import platform
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipeline.models.backends.surgery import replace

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def has_onednn(device: "torch.device") -> bool:
    """Whether torch has oneDNN's kernels for `device`: an x86 CPU."""
    import torch

    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return device.type == "cpu" and x86 and onednn


def pack(model: Any) -> None:
    """Replace the linear layers of a transformers classifier, in place."""
    import torch

    replace(model, lambda layer: packed_linear()(layer) if type(layer) is torch.nn.Linear else None)


@lru_cache(maxsize=1)
def packed_linear() -> type:
    """The layer's type; torch is already imported at that point."""
    import torch

    class PackedLinear(torch.nn.Module):
        """y = x · Wᵀ + b, and GELU of that if `gelu` names its form; float32 in and out."""

        absorbs_gelu = True

        def __init__(self, layer: torch.nn.Linear) -> None:
            super().__init__()
            weight = layer.weight.detach()
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
            self.bias = layer.bias
            self.gelu: str | None = None

        def forward(self, x: "Tensor") -> "Tensor":
            what, form = ("none", "") if self.gelu is None else ("gelu", self.gelu)
            product = torch.ops.mkldnn._linear_pointwise
            result: Tensor = product(x, self.packed, self.bias, what, [], form)
            return result

        def plus(self, x: "Tensor", other: "Tensor") -> "Tensor":
            """x · Wᵀ + b + other, of the result's shape."""
            product = torch.ops.mkldnn._linear_pointwise.binary
            result: Tensor = product(x, other.contiguous(), self.packed, self.bias, "add")
            return result

    return PackedLinear
