"""Bytes of an image → the model's uint8 pixels, on one core: ours, Pillow's, the processor's.

Whoever is measured must first give the right pixels: ours are the reference's to the bit, and
those of `--decode fast` are held against them. Times are CPU time of one thread, image by image,
the contenders in turns; a round is all images once.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.images import Preprocess, prepare
from pipeline.images.formats import opened
from pipeline.images.processors import load_processor, run
from pipeline.images.reference import reference_pixels

Pixels = NDArray[np.uint8]
Way = Callable[[bytes], Pixels]


@dataclass
class Contest:
    """Milliseconds an image for each way, a figure a round."""

    title: str
    images: int
    rounds: dict[str, list[float]] = field(default_factory=dict)
    worst: int = 0
    mean: float = 0.0

    def median(self, way: str) -> float:
        return statistics.median(self.rounds[way])

    def ratio(self, way: str, to: str) -> float:
        """How many times as fast `way` is: the median over rounds, each of which has both."""
        pairs = zip(self.rounds[to], self.rounds[way], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)


def contest(title: str, files: Sequence[Path], model: Path, rounds: int) -> Contest:
    """Check the answers, then let each way have all images, `rounds` times over."""
    preprocess, processor = Preprocess.from_folder(model), load_processor(model)
    data = [path.read_bytes() for path in files]
    ways: dict[str, Way] = {
        "nightlabel": lambda one: prepare(one, preprocess).pixels,
        "nightlabel --decode fast": lambda one: prepare(one, preprocess, fast=True).pixels,
        "Pillow": partial(_pillow, size=(preprocess.width, preprocess.height)),
        "Hugging Face PIL processor": lambda one: run(processor, _rgb(one), normalise=True),
    }
    found = Contest(title, len(data))
    _check(found, data, ways, model)
    for _ in range(rounds):
        for name, way in ways.items():
            found.rounds.setdefault(name, []).append(_milliseconds(way, data))
    return found


def _rgb(data: bytes) -> Image.Image:
    return opened(data).convert("RGB")


def _pillow(data: bytes, size: tuple[int, int]) -> Pixels:
    return np.asarray(_rgb(data).resize(size, Image.Resampling.BILINEAR))


def _milliseconds(way: Way, data: Sequence[bytes]) -> float:
    began = time.thread_time()
    for one in data:
        way(one)
    return (time.thread_time() - began) / len(data) * 1e3


def _check(found: Contest, data: Sequence[bytes], ways: dict[str, Way], model: Path) -> None:
    off: list[Any] = []
    for one in data:
        expected = reference_pixels(one, model, True)
        assert np.array_equal(ways["nightlabel"](one), expected)
        assert np.array_equal(ways["Pillow"](one), expected)
        off.append(np.abs(ways["nightlabel --decode fast"](one).astype(int) - expected))
    found.worst = int(max(array.max() for array in off))
    found.mean = float(np.mean([array.mean() for array in off]))
