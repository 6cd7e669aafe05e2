"""What a core makes of a network: by OpenVINO in each precision, and by torch.

One thread, batches as a run has them, pixels that are decoded already; the ways take turns. Weights
are random.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import inputs, labels
from pipeline.models.backends.base import Engine
from pipeline.tasks.loading import torch_engine
from pipeline.tasks.preprocess_cache import preprocess_of

NETWORKS: dict[str, Callable[[], Path]] = {
    "ViT-Ti/16": inputs.vit_tiny,
    "ViT-B/16": inputs.vit_base,
}
SECONDS = 5.0
#: Images of one call: whole batches.
IMAGES = 32


def engines(model: Path) -> dict[str, Engine]:
    ways = {f"OpenVINO, {name}": labels.engine(model, name) for name in ("fp32", "bf16", "int8")}
    by_torch = torch_engine(model, preprocess_of(model), precision="fp32", top_k=1)
    return {"torch, fp32": by_torch, **ways}


def rates(network: str, rounds: int) -> dict[str, float]:
    """Images a second of each way, the median of rounds in turns."""
    ways = engines(NETWORKS[network]())
    shape = next(iter(ways.values())).image_shape
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape), np.uint8)
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seen[name].append(_rate(way, pixels))
    return {name: statistics.median(found) for name, found in seen.items()}


def _rate(way: Engine, pixels: NDArray[np.uint8]) -> float:
    way.predict(pixels)
    done, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < SECONDS:
        way.predict(pixels)
        done += len(pixels)
    return done / took
