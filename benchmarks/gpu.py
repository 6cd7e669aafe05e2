"""What a GPU makes of a network alone: by precision, batch size and `--compile`.

    python -m benchmarks.gpu [--seconds SECONDS] [--only NETWORK]

A predictor's own engine labels the same decoded JPEGs again and again, in the batches that a run
hands to it. Beside it the same network labels pixels that lie on the device already: what is
missing is what the way to the device costs. Prints Markdown, row by row.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import inputs
from pipeline.engine.batch_rows import GPU_BATCH_ROWS
from pipeline.images import prepare
from pipeline.models.backends.loading import device_name, load_classifier, pick_device
from pipeline.models.backends.torch_engine import CUDA_BATCH, TorchEngine
from pipeline.models.scorer import Scorer
from pipeline.tasks.loading import torch_engine
from pipeline.tasks.preprocess_cache import preprocess_of

NETWORKS: dict[str, Callable[[], Path]] = {
    "ViT-Ti/16": inputs.vit_tiny,
    "ViT-B/16": inputs.vit_base,
    "ResNet-50": inputs.resnet_50,
}
#: (precision, images in a batch of the device, compiled)
Way = tuple[str, int, bool]
WAYS: tuple[Way, ...] = (
    ("fp32", CUDA_BATCH, False),
    ("fp16", CUDA_BATCH, False),
    ("bf16", 64, False),
    ("bf16", 128, False),
    ("bf16", CUDA_BATCH, False),
    ("bf16", 512, False),
    ("bf16", CUDA_BATCH, True),
    ("bf16", 512, True),
)
HEAD = ["", "precision", "batch", "compiled", "predictor", "on the device", "of that"]
HEAD += ["labels as fp32", "seconds to load"]


def rows(
    network: str,
    seconds: float,
    ways: Sequence[Way] = WAYS,
    images: Callable[[int], Path] = inputs.small_jpegs,
) -> Iterator[list[str]]:
    """One a way, with the columns HEAD; `images` makes a folder of so many."""
    model = NETWORKS[network]()
    pixels = decoded(model, images)
    truth = labels(load(model, "fp32", CUDA_BATCH, False), pixels)
    for precision, batch, compiled in ways:
        began = time.perf_counter()
        engine = load(model, precision, batch, compiled)
        loaded = time.perf_counter() - began
        same = (labels(engine, pixels) == truth).mean()
        whole = rate(partial(engine.predict, pixels), len(pixels), seconds)
        del engine
        alone = None if compiled else on_device(model, precision, batch, pixels, seconds)
        yield [
            network,
            precision,
            str(batch),
            "yes" if compiled else "",
            f"{whole:,.0f}",
            f"{alone:,.0f}" if alone else "",
            f"{whole / alone:.0%}" if alone else "",
            f"{same:.2%}",
            f"{loaded:.1f}",
        ]


def decoded(
    model: Path, images: Callable[[int], Path], count: int = GPU_BATCH_ROWS
) -> NDArray[np.uint8]:
    """(count, H, W, 3): what one call of a predictor gets."""
    shape = preprocess_of(model)
    files = sorted(images(count).iterdir())
    return np.stack([prepare(file.read_bytes(), preprocess=shape).pixels for file in files])


def load(model: Path, precision: str, batch: int, compiled: bool) -> TorchEngine:
    options: dict[str, Any] = {"precision": precision, "top_k": 5}
    return torch_engine(model, preprocess_of(model), **options, batch_size=batch, compile=compiled)


def labels(engine: TorchEngine, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    indices, _ = engine.predict(pixels)
    return indices[:, 0]


def on_device(
    model: Path, precision: str, batch: int, pixels: NDArray[np.uint8], seconds: float
) -> float:
    """Images a second of pixels that lie there."""
    import torch

    shape, device = preprocess_of(model), pick_device()
    scale: dict[str, Any] = {"rescale": shape.rescale, "mean": shape.mean, "std": shape.std}
    scorer = Scorer(load_classifier(model, device, precision), top_k=5, **scale)
    there = torch.from_numpy(pixels[:batch]).to(device)

    def call() -> None:
        scorer(there)
        torch.cuda.synchronize(device)

    with torch.inference_mode():
        return rate(call, len(there), seconds)


def rate(call: Callable[[], object], images: int, seconds: float) -> float:
    """Images a second, after two calls that may compile and allocate."""
    call()
    call()
    calls, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        call()
        calls += 1
    return calls * images / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", choices=NETWORKS, action="append")
    options = parser.parse_args()
    device = pick_device()
    if device.type != "cuda":
        parser.error("this machine has no CUDA device; nightlabel bench measures what there is")
    print(f"{device_name(device)}; images a second:\n")
    print(f"|{'|'.join(HEAD)}|")
    print("|" + "---|" * len(HEAD))
    for network in options.only or NETWORKS:
        for row in rows(network, options.seconds):
            print(f"|{'|'.join(row)}|", flush=True)


if __name__ == "__main__":
    main()
