"""What all changes to a loaded network need: layers in place of others, and the same results."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

#: Of the largest value: fp32 and halves round to less, and another function is off by more.
_CLOSE: Final = 1e-3
_CLOSE_IN_HALVES: Final = 5e-2


def replace(model: Any, instead: "Callable[[Module], Module | None]") -> None:
    """Put what `instead` makes of a layer in that layer's place; where it is None, it stays."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if (layer := instead(child)) is not None:
                setattr(parent, name, layer)


def alike(after: "Tensor", before: "Tensor") -> bool:
    """Whether the two are apart by no more than rounding; never where a value is not finite."""
    import torch

    close = _CLOSE if before.dtype == torch.float32 else _CLOSE_IN_HALVES
    return bool(((after - before).abs() <= close * before.abs().max()).all())
