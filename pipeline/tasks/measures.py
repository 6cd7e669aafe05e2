"""Measures: what an image looks like, in five numbers, with NumPy alone.

All but the aspect are computed on the image squeezed to SIDE × SIDE pixels, so that images of all
sizes can be compared, and so that every machine gives the same numbers. Grey is
Y = 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601-7, 2.5.1), from 0 to 255.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Pixels of each edge of the measured image.
SIDE: Final = 256
#: The hash uses a grey image with this many pixels an edge, each the mean of a block.
GREY: Final = 32
#: The hash has one bit a coefficient: this number squared.
WAVES: Final = 8
_BLOCK: Final = SIDE // GREY

Floats = NDArray[np.float32]

#: R, G, B → Y, R − G, (R + G)/2 − B.
_CHANNELS: Final = np.array([[0.299, 1.0, 0.5], [0.587, -1.0, 0.5], [0.114, 0.0, -1.0]], np.float32)


def _cosines() -> Floats:
    """Rows 1 to WAVES of the orthonormal DCT-II of GREY samples, (WAVES, GREY)."""
    wave, sample = np.arange(1, WAVES + 1)[:, None], np.arange(GREY)[None, :]
    scale = np.sqrt(2 / GREY)
    found: Floats = (scale * np.cos(np.pi * wave * (2 * sample + 1) / (2 * GREY))).astype("f4")
    return found


_COSINES: Final = _cosines()


def measure(image: NDArray[np.uint8]) -> tuple[int, float, float, float]:
    """uint8 (SIDE, SIDE, 3) → (phash, sharpness, brightness, colourfulness)."""
    channels = np.ascontiguousarray((image.reshape(-1, 3).astype(np.float32) @ _CHANNELS).T)
    grey = channels[0].reshape(SIDE, SIDE)
    return phash(grey), sharpness(grey), brightness(grey), colourfulness(channels[1:])


def phash(grey: Floats) -> int:
    """The perceptual hash, a signed integer of 64 bits.

    Take the DCT-II of the 32 × 32 grey image, and its coefficients of waves 1 to 8 both ways, row
    by row from the most significant bit: a bit is 1 if its coefficient is above their median. Two
    images look alike if few bits differ: of 64, up to 10 or so. Zauner, Implementation and
    Benchmarking of Perceptual Image Hash Functions (2010), 3.2.1. Coefficients are first rounded to
    whole numbers, so that a plain area, whose coefficients are only rounding errors, has the hash
    0.
    """
    small = grey.reshape(GREY, _BLOCK, GREY, _BLOCK).mean(axis=(1, 3), dtype=np.float32)
    waves = np.rint(_COSINES @ small @ _COSINES.T).ravel()
    bits = np.packbits(waves > np.median(waves)).tobytes()
    return int.from_bytes(bits, "big", signed=True)


def sharpness(grey: Floats) -> float:
    """Variance of the Laplacian (4 neighbours) within the border: from 0, plain or out of focus,
    to some thousands; never above 1020².

    Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy (ICPR 2000), LAPV.
    """
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(np.var(laplacian))


def brightness(grey: Floats) -> float:
    """The mean grey, from 0 (black) to 1 (white)."""
    return float(np.mean(grey)) / 255


def colourfulness(opponents: Floats) -> float:
    """From 0 (grey) by 33 (moderate) and 59 (quite colourful) to 109 and more (extreme); never
    above 470.

    `opponents`: (2, n) of R − G and (R + G)/2 − B. The root of the sum of their variances, and 0.3
    times that of their squared means: Hasler & Süsstrunk, Measuring colourfulness in natural
    images (SPIE 2003), equation 12 and table 2.
    """
    mean, spread = opponents.mean(axis=1), opponents.var(axis=1)
    return float(np.sqrt(spread.sum()) + 0.3 * np.sqrt((mean * mean).sum()))
