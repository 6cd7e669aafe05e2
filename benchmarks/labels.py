"""What the quick ways do to labels: int8 beside fp32, `--decode fast` beside exact, real model."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.images import Prepared, prepare
from pipeline.models.backends.base import Engine
from pipeline.models.backends.openvino_engine import OpenVinoEngine
from pipeline.models.fetch import fetch
from pipeline.models.purpose import CLASSIFYING
from pipeline.tasks.graph_maker import GraphRequest, make_graph
from pipeline.tasks.preprocess_cache import preprocess_of

BATCH = 16


@dataclass
class Comparison:
    """Labels of the same images in two ways, and the seconds that each took, batch by batch."""

    title: str
    images: int = 0
    flips: list[str] = field(default_factory=list)
    most: float = 0.0
    seconds: tuple[float, float] = (0.0, 0.0)

    @property
    def same(self) -> float:
        return 1 - len(self.flips) / self.images

    @property
    def ratio(self) -> float:
        return self.seconds[0] / self.seconds[1]


def narrow(precision: str, files: Sequence[Path], model: Path) -> Comparison:
    """Engines in fp32 and another precision, one thread each, batches in turns."""
    shape = preprocess_of(model)
    engines = [engine(model, name) for name in ("fp32", precision)]
    return _compare(precision, files, engines, [partial(prepare, preprocess=shape)])


def fast(files: Sequence[Path], model: Path) -> Comparison:
    """One engine; the pixels are those of `--decode exact` and `--decode fast`."""
    shape = preprocess_of(model)
    exact = engine(model, "fp32")
    ways = [partial(prepare, preprocess=shape, fast=quick) for quick in (False, True)]
    return _compare("--decode fast", files, [exact], ways)


def engine(model: Path, precision: str) -> Engine:
    """As a worker on CPUs has it, with one thread."""
    weights, shape = fetch(str(model), None).weights_sha256, preprocess_of(model)
    graph = make_graph(GraphRequest(model, weights, shape, CLASSIFYING, precision))
    return OpenVinoEngine(graph, top_k=1, batch_size=BATCH, threads=1)


def _compare(
    title: str,
    files: Sequence[Path],
    engines: Sequence[Engine],
    decoders: Sequence[Callable[[bytes], Prepared]],
) -> Comparison:
    """Two engines or two decoders; of the other, one serves both ways."""
    found = Comparison(title)
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        data = [path.read_bytes() for path in batch]
        pixels = [np.stack([decode(one).pixels for one in data]) for decode in decoders]
        _note(found, batch, [engines[0], engines[-1]], [pixels[0], pixels[-1]])
    return found


def _note(
    found: Comparison,
    files: Sequence[Path],
    engines: Sequence[Engine],
    pixels: Sequence[NDArray[np.uint8]],
) -> None:
    labels, scores, seconds = [], [], list(found.seconds)
    for way in (0, 1):
        began = time.process_time()
        indices, best = engines[way].predict(pixels[way])
        seconds[way] += time.process_time() - began
        labels.append([engines[way].labels[index] for index in indices[:, 0]])
        scores.append(best[:, 0])
    found.seconds = (seconds[0], seconds[1])
    found.images += len(files)
    found.most = max(found.most, float(np.abs(scores[0] - scores[1]).max()))
    for row, path in enumerate(files):
        if labels[0][row] != labels[1][row]:
            before = f"{labels[0][row]} {scores[0][row]:.3f}"
            found.flips.append(f"{path.name}: {before} → {labels[1][row]} {scores[1][row]:.3f}")
