"""A classifier in fp32 on an x86 CPU, with its linear layers in oneDNN's own layout.

torch hands a linear layer to a BLAS: that rearranges the same weights at every call, wants the
bias copied into the result first, and leaves the activation to another walk through memory.
oneDNN keeps the weights arranged and does bias and GELU on the way out; torch.compile calls the
same when it freezes a network, and takes a minute for it. Sums are added up in another order, so
scores change in their last digits.

A GELU becomes part of the layer before it where a look at the network at work shows that it gets
nothing but such layers' results, and where the logits stay what they were.
"""

import platform
from contextlib import ExitStack
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module

#: Of the largest logit: fp32 rounds to far less, and a layer that others read too is off by more.
_CLOSE = 1e-3


def packing_pays(device: "torch.device") -> bool:
    """Whether torch has oneDNN's kernels for `device`: an x86 CPU."""
    import torch

    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return device.type == "cpu" and x86 and onednn


def pack(model: Any, pixels: "Tensor") -> None:
    """Replace the linear layers of a classifier of transformers, in place.

    `pixels` is any batch that the model takes, (n, 3, H, W) float32; it is run twice.
    """
    import torch

    linear = _packed_linear()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear:
                setattr(parent, name, linear(child))
    with torch.inference_mode():
        before, makers = _watched(model, pixels)
        for gelu, layers in makers.items():
            _take_in(gelu, layers)
        after = model(pixel_values=pixels).logits
    # Not so where a logit is not finite: what cannot be compared is not taken in.
    if not ((after - before).abs() <= _CLOSE * before.abs().max()).all():
        for gelu, layers in makers.items():
            _give_back(gelu, layers)


@lru_cache(maxsize=1)
def _packed_linear() -> type:
    import torch

    class PackedLinear(torch.nn.Module):
        """y = x · Wᵀ + b, and GELU of that where `gelu` names its form; float32 in and out."""

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

    return PackedLinear


def _watched(model: Any, pixels: "Tensor") -> "tuple[Tensor, dict[Module, list[Any]]]":
    """The logits, and the GELUs that got what a packed layer had just made, with those layers."""
    last: tuple[Module | None, Tensor | None] = None, None
    sources: dict[Module, list[Any]] = {}

    def note(layer: "Module", _: Any, result: "Tensor") -> None:
        nonlocal last
        last = layer, result

    def ask(gelu: "Module", given: "tuple[Tensor, ...]") -> None:
        layer, result = last
        sources.setdefault(gelu, []).append(layer if given[0] is result else None)

    modules: list[Module] = list(model.modules())
    with ExitStack() as hooks:
        for layer in filter(_is_packed, modules):
            hooks.enter_context(layer.register_forward_hook(note))
        for gelu in filter(_form, modules):
            hooks.enter_context(gelu.register_forward_pre_hook(ask))
        logits: Tensor = model(pixel_values=pixels).logits
    return logits, {gelu: layers for gelu, layers in sources.items() if None not in layers}


def _take_in(gelu: "Module", layers: list[Any]) -> None:
    for layer in layers:
        layer.gelu = _form(gelu)
    gelu.forward = lambda x: x


def _give_back(gelu: "Module", layers: list[Any]) -> None:
    for layer in layers:
        layer.gelu = None
    del gelu.forward


def _is_packed(module: "Module") -> bool:
    return isinstance(module, _packed_linear())


def _form(module: "Module") -> str | None:
    """How a module computes GELU, in torch's words: none (exactly), tanh; None: it does not."""
    import torch
    from transformers.activations import GELUActivation, GELUTanh

    if type(module) is torch.nn.GELU:
        return module.approximate
    return {GELUActivation: "none", GELUTanh: "tanh"}.get(type(module))
