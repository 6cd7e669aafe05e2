"""Fuses each GELU into the linear layer before it, which saves one pass through memory.

No config says which layer that is, and that nothing else reads its output. So the network is
observed at work: a GELU is fused if all its inputs are outputs that a layer has just made. All are
restored if what is read of the network (logits, a vector) then differs.
"""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pipeline.models.backends.surgery import Read, all_alike, logits_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def absorb_gelus(model: Any, pixels: "Tensor", read: Read | None = None) -> None:
    """Let the layers that can compute a GELU themselves take over the GELUs after them, in place.

    Such a layer has `absorbs_gelu`, and `gelu`: None, or the form to compute in torch's words,
    "none" (exactly) or "tanh". `pixels` is any batch that the model accepts, (n, 3, H, W). The
    model is run on it twice, but not at all if no layer is such. `read` is what is read of the
    model, by default its logits.
    """
    import torch

    if not any(map(_absorbs, model.modules())):
        return
    read = read or logits_of(model)
    with torch.inference_mode():
        before, makers = _watched(model, pixels, read)
        for gelu, its_layers in makers.items():
            _absorb(gelu, its_layers)
        after = read(pixels)
    if not all_alike(after, before):
        for gelu, its_layers in makers.items():
            _set_free(gelu, its_layers)


def _watched(
    model: Any, pixels: "Tensor", read: Read
) -> "tuple[tuple[Tensor, ...], dict[Module, list[Any]]]":
    """What is read, and the GELUs whose input such a layer had just made, with their layers."""
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
        for module in modules:
            if _absorbs(module):
                hooks.enter_context(module.register_forward_hook(note))
            elif _form(module) is not None:
                hooks.enter_context(module.register_forward_pre_hook(ask))
        results = read(pixels)
    return results, {gelu: made_by for gelu, made_by in sources.items() if None not in made_by}


def _absorb(gelu: "Module", layers: list[Any]) -> None:
    for layer in layers:
        layer.gelu = _form(gelu)
    gelu.forward = lambda x: x


def _set_free(gelu: "Module", layers: list[Any]) -> None:
    for layer in layers:
        layer.gelu = None
    del gelu.forward


def _absorbs(module: "Module") -> bool:
    return getattr(module, "absorbs_gelu", False)


def _form(module: "Module") -> str | None:
    """How a module computes GELU, in torch's words: none (exactly), tanh; None: it does not."""
    import torch
    from transformers.activations import GELUActivation, GELUTanh

    if type(module) is torch.nn.GELU:
        return module.approximate
    return {GELUActivation: "none", GELUTanh: "tanh"}.get(type(module))
