"""Of the weights that a model's files lack, finds those that a label or vector depends on.

transformers fills them at random. A counter of batches, a mask for training or a head that
classification leaves out may have any value; a class head may not, nor a pooler that is read. No
config says which is which, so they are overwritten, and the results compared.
"""

from typing import TYPE_CHECKING, Any, Final

from pipeline.models.backends.surgery import Read, all_alike, logits_of

if TYPE_CHECKING:
    from torch import Tensor

_SEEDS: Final = (0, 1)


def reaching(
    model: Any, names: list[str], size: tuple[int, int], read: Read | None = None
) -> list[str]:
    """Those of these parameters and buffers that the results depend on: by default the logits.

    `model` is a transformers network in evaluation mode, which takes images of `size`
    (height, width) and is left unchanged. The same model gives the same answer each time.
    """
    import torch

    if not names:
        return []
    read = read or logits_of(model)
    known = dict(model.named_parameters()) | dict(model.named_buffers())
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, *size, generator=draw).to(model.device, model.dtype)
    with torch.inference_mode():
        before = read(images)
        return [name for name in names if name not in known] + _among(
            read, [name for name in names if name in known], known, images, before
        )


def _among(
    read: Read,
    names: list[str],
    known: "dict[str, Tensor]",
    images: "Tensor",
    before: "tuple[Tensor, ...]",
) -> list[str]:
    """By bisection, since there may be hundreds, and mostly none or one matters."""
    if not names or not _matter(read, [known[name] for name in names], images, before):
        return []
    if len(names) == 1:
        return names
    half = len(names) // 2
    parts = (names[:half], names[half:])
    return [name for part in parts for name in _among(read, part, known, images, before)]


def _matter(
    read: Read, tensors: "list[Tensor]", images: "Tensor", before: "tuple[Tensor, ...]"
) -> bool:
    kept = [tensor.clone() for tensor in tensors]
    try:
        return any(_differ(read, tensors, images, before, seed) for seed in (None, *_SEEDS))
    finally:
        for tensor, content in zip(tensors, kept, strict=True):
            tensor.copy_(content)


def _differ(
    read: Read,
    tensors: "list[Tensor]",
    images: "Tensor",
    before: "tuple[Tensor, ...]",
    seed: int | None,
) -> bool:
    for tensor in tensors:
        tensor.copy_(_anything(tensor, seed))
    try:
        after = read(images)
    except (RuntimeError, ValueError, LookupError):  # such as an index outside a table
        return True
    return not all_alike(after, before)


def _anything(like: "Tensor", seed: int | None) -> "Tensor":
    """NaN (None), which makes every result that uses it NaN, or large noise."""
    import torch

    if seed is None and like.is_floating_point():
        return torch.full(like.shape, float("nan"))
    draw = torch.Generator().manual_seed(seed or 0)
    if like.is_floating_point():
        return torch.randn(like.shape, generator=draw) * 10
    return torch.randint(0, 100, like.shape, generator=draw)
