"""Clipping: detects images of more than 8 bits a channel that lose their content in 8 bits.

`convert("RGB")`, which the reference uses too, clips 16-bit grey and float values to 0…255 and does
not scale them: a photograph of 0…65535 turns almost entirely white, a float one of 0…1 black.
The pixels stay as in the reference; this file only reports that they mean little.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

import numpy as np
from PIL import Image

#: Pillow's modes of more than 8 bits, in words.
DEEP: Final[Mapping[str, str]] = {
    "I;16": "16-bit grey",
    "I;16L": "16-bit grey",
    "I;16B": "16-bit grey",
    "I;16N": "16-bit grey",
    "I": "32-bit grey",
    "F": "float",
}

#: An image is clipped if this share of its pixels is black or white, …
_SHARE = 0.99
#: … and it has more than this many values: a drawing in black and white loses nothing.
_VALUES = 2
#: Pixels along an edge that are checked.
_EDGE = 256
#: Clipped images cause a warning from this share of their mode on.
_MANY = 0.1

Clipped = Literal["white", "black"]


class Depth(NamedTuple):
    """How many images of a mode were decoded, and how many of them turned white or black."""

    images: int = 0
    white: int = 0
    black: int = 0

    def plus(self, other: "Depth") -> "Depth":
        return Depth(*(sum(pair) for pair in zip(self, other, strict=True)))


#: By Pillow's mode.
Depths = dict[str, Depth]


def depths_of(images: Iterable[tuple[str, Clipped | None]]) -> Depths:
    """Counts for images, given as (mode, clipped), with more than 8 bits."""
    return added(
        {mode: Depth(1, clipped == "white", clipped == "black")}
        for mode, clipped in images
        if mode in DEEP
    )


def added(counts: Iterable[Mapping[str, Depth]]) -> Depths:
    """The sum of counts."""
    total: Depths = {}
    for one in counts:
        for mode, depth in one.items():
            total[mode] = total.get(mode, Depth()).plus(depth)
    return total


def clipping_warnings(depths: Mapping[str, Depth]) -> Iterator[str]:
    """A line for each mode with many images that clip to white or to black."""
    for mode, depth in sorted(depths.items()):
        kind = f"{depth.images:,} {DEEP.get(mode, 'deep')} ({mode}) images"
        for colour, number in (("white", depth.white), ("black", depth.black)):
            if number and number >= _MANY * depth.images:
                yield (
                    f"{number:,} of {kind} clip to {colour}: their labels mean little; scale "
                    "them to 8 bits and label those instead"
                )


def clipped_to(image: Image.Image) -> Clipped | None:
    """What nearly all of a loaded image turns to in 8 bits, although it has more values.

    Always None for an image of 8 bits. Checks every n-th pixel of every n-th row.
    """
    if image.mode not in DEEP:
        return None
    size = min(image.width, _EDGE), min(image.height, _EDGE)
    looked_at = image.resize(size, Image.Resampling.NEAREST)
    if len(np.unique(np.asarray(looked_at))) <= _VALUES:
        return None
    grey = np.asarray(looked_at.convert("RGB"))[..., 0]
    white, black = np.mean(grey == 255), np.mean(grey == 0)
    if white + black < _SHARE:
        return None
    return "white" if white >= black else "black"
