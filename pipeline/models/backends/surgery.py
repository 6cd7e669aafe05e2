"""Shared tools for changing a loaded network: replace layers, and compare the results."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

#: A function from scaled pixels, (n, 3, H, W), to the results that a task reads of a network, each
#: (n, …).
Read = Callable[["Tensor"], "tuple[Tensor, ...]"]

#: Share of the largest value: rounding errors of fp32 and half precision are smaller, differences
#: between functions are larger.
_CLOSE: Final = 1e-3
_CLOSE_IN_HALVES: Final = 5e-2


def logits_of(model: Any) -> Read:
    """The results that a task reads of a plain classifier: its logits."""
    return lambda pixels: (model(pixel_values=pixels).logits,)


def replace(model: Any, instead: "Callable[[Module], Module | None]") -> None:
    """Replace each layer by the result of `instead`; a layer for which it is None stays."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if (layer := instead(child)) is not None:
                setattr(parent, name, layer)


def all_alike(after: "tuple[Tensor, ...]", before: "tuple[Tensor, ...]") -> bool:
    """Whether all results of one read equal those of another."""
    return all(map(alike, after, before))


def alike(after: "Tensor", before: "Tensor") -> bool:
    """Whether two results differ by no more than rounding; never if a value is not finite."""
    import torch

    close = _CLOSE if before.dtype == torch.float32 else _CLOSE_IN_HALVES
    return bool(((after - before).abs() <= close * before.abs().max()).all())
