"""Pooling: from a vision backbone's output to one vector an image.

- `cls`: `last_hidden_state[:, 0]`, the class token after the last layer (and its norm, if the
  network has one there).
- `mean`: the mean of the patches' tokens: `last_hidden_state[:, k:].mean(1)`, without the k tokens
  before them (class, distillation, registers); for a convolutional network, of its last map.
- `pooler`: `pooler_output`, which the network itself computes from its tokens or its map.
- `projection`: `visual_projection(pooler_output)`, CLIP's image embedding, comparable with its
   texts.

No vector is normalised. Running the network once shows which of them it has.
"""

from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import BadModelError

if TYPE_CHECKING:
    from torch import Tensor

#: In the order of preference if the user names none.
POOLINGS: Final = ("projection", "cls", "pooler", "mean")

_CLASS: Final = frozenset({"cls_token", "class_embedding"})
#: Parameters that become tokens in front of the patches'.
_BEFORE_PATCHES: Final = _CLASS | {"distillation_token", "register_tokens"}

#: timm's maps have their channels either before or after height and width.
_TIMM: Final = "timm_wrapper"


def tokens_before_patches(tower: Any) -> int:
    """How many of a transformer's tokens do not represent a patch."""
    return sum(
        parameter.numel() // parameter.shape[-1]
        for name, parameter in tower.named_parameters()
        if name.rpartition(".")[2] in _BEFORE_PATCHES
    )


def poolings_of(
    tower: Any, output: Any, size: tuple[int, int], *, projects: bool = False
) -> list[str]:
    """Those that a network has, the default one first.

    `output` is the result of `tower` for images of `size`, (height, width).
    """
    pooled = getattr(output, "pooler_output", None)
    there = {
        "projection": projects and pooled is not None,
        "cls": _has_class_token(tower, output, size),
        "pooler": pooled is not None,
        "mean": _has_patches(tower, output, size),
    }
    return [pooling for pooling in POOLINGS if there[pooling]]


def pool(tower: Any, output: Any, pooling: str, projection: Any = None) -> "Tensor":
    """The vectors, (n, dim), of images for which `tower` gave `output`."""
    hidden = output.last_hidden_state
    if pooling == "cls":
        result = hidden[:, 0]
    elif pooling == "mean" and hidden.ndim == 4:
        result = hidden.mean(dim=(2, 3))
    elif pooling == "mean":
        result = hidden[:, tokens_before_patches(tower) :].mean(dim=1)
    else:
        result = output.pooler_output.flatten(1)
    vectors: Tensor = projection(result) if pooling == "projection" else result
    return vectors


def chosen(tower: Any, pooling: str | None, there: list[str]) -> str:
    """`pooling`, or if None the first that exists. Raises BadModelError if it does not exist."""
    kind = type(tower).__name__
    if not there:
        raise BadModelError(f"a {kind} gives no vector of an image; choose another --model")
    if pooling is not None and pooling not in there:
        raise BadModelError(
            f"a {kind} has no {pooling} vectors; it has {', '.join(there)}: choose one of them"
        )
    return pooling or there[0]


def _has_class_token(tower: Any, output: Any, size: tuple[int, int]) -> bool:
    names = {name.rpartition(".")[2] for name, _ in tower.named_parameters()}
    return (
        bool(names & _CLASS)
        and output.last_hidden_state.ndim == 3
        and _is_whole(tower, output.last_hidden_state.shape[1], size)
    )


def _has_patches(tower: Any, output: Any, size: tuple[int, int]) -> bool:
    hidden = output.last_hidden_state
    if tower.config.model_type == _TIMM:
        return False
    if hidden.ndim == 4:
        return _channels_first(tower, output)
    return hidden.ndim == 3 and _is_whole(tower, hidden.shape[1], size)


def _is_whole(tower: Any, tokens: int, size: tuple[int, int]) -> bool:
    """Whether all tokens are patches, except for the known ones in front."""
    before = tokens_before_patches(tower)
    if not before:
        return True
    patch = getattr(tower.config, "patch_size", None)
    edges: list[Any] = list(patch) if isinstance(patch, list | tuple) else [patch, patch]
    if len(edges) != 2 or not all(isinstance(edge, int) and edge > 0 for edge in edges):
        return False
    return bool(tokens == before + (size[0] // edges[0]) * (size[1] // edges[1]))


def _channels_first(tower: Any, output: Any) -> bool:
    channels = output.last_hidden_state.shape[1]
    pooled = getattr(output, "pooler_output", None)
    if pooled is not None:
        return bool(pooled.flatten(1).shape[1] == channels)
    widths = getattr(tower.config, "hidden_sizes", None) or [None]
    return bool(widths[-1] == channels)
