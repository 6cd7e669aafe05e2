"""Batch size: how many images are listed, decoded and predicted together.

It is chosen once, when the graph is placed, and listers cut by it: a retry cuts the same batches.
"""

import math
from collections.abc import Mapping
from typing import Final

#: Where nothing is known of the network. Large: a large batch costs less overhead a row.
GPU_BATCH_ROWS: Final = 512

#: Between two calls a device loses some milliseconds, so a batch on a GPU should take it 100 ms. A
#: ViT-B/16 has 346 MB of weights, and an H200 (989 TFLOPS in half precision by its data sheet) did
#: 9,882 images of 224x224 a second with it.
GPU_BATCH_SECONDS: Final = 0.1
GPU_PER_SECOND: Final = 9_882 * 346_000_000 * 224 * 224  # images, bytes of weights, pixels
GPU_TFLOPS: Final = 989.0
GPU_BATCH_RANGE: Final = (512, 2048)
#: Bytes of a batch's pixels: its decoder has them twice, in its own memory and in Ray's store.
GPU_BATCH_BYTES: Final = 256 * 2**20
#: Share of a node's object store for pixels. The rest is for what Ray has not yet released: if the
#: store is full, Ray writes to the disk.
STORE_SHARE: Final = 0.5
#: A smaller batch would be less than one forward pass.
GPU_LEAST_ROWS: Final = 256
#: Dense TFLOPS in half precision, by data sheets, of slower GPUs, by Ray's names for them.
SLOWER_GPUS: Final[Mapping[str, float]] = {
    "A100": 312.0,
    "L40S": 362.0,
    "V100": 125.0,
    "L4": 121.0,
    "A10G": 70.0,
    "T4": 65.0,
    "P100": 19.0,
}

#: On a CPU a batch is about what a core predicts in two seconds: the first label comes soon, a stop
#: loses little, and the overhead of a batch in the graph is negligible. For a ViT-Ti with 23 MB of
#: weights this is 64 images, for larger networks fewer. Many cores get larger batches, since one
#: driver hands out all of them: sixteen a second for 32 cores or more.
CPU_BATCH_ROWS: Final = 64
CPU_BATCH_WEIGHTS: Final = 23_000_000
CPU_BATCH_CORES: Final = 32
CPU_BATCH_RANGE: Final = (16, 256)

#: Without predictors: a decoder takes a second or a few for this many photographs.
DECODED_BATCH_ROWS: Final = 128


def cpu_batch_rows(weights: int, predictors: int) -> int:
    """Images in a batch for a model with this many bytes of weights: a power of two."""
    rows = CPU_BATCH_ROWS * CPU_BATCH_WEIGHTS / max(weights, 1)
    rows *= max(1.0, predictors / CPU_BATCH_CORES)
    return _power_of_two(rows, CPU_BATCH_RANGE)


def gpu_batch_rows(weights: int, pixels: int, kinds: frozenset[str], room: float) -> int:
    """Images of so many `pixels` in a batch for a model with this many bytes of weights: a power
    of two.

    `kinds` are Ray's names of the GPUs; the fastest decides, and an unknown one counts as fast.
    `room` is the object store in bytes for each batch that a node may have.
    """
    tflops = max((SLOWER_GPUS.get(kind, GPU_TFLOPS) for kind in kinds), default=GPU_TFLOPS)
    per_second = GPU_PER_SECOND / (max(weights, 1) * max(pixels, 1)) * tflops / GPU_TFLOPS
    rows = _power_of_two(GPU_BATCH_SECONDS * per_second, GPU_BATCH_RANGE)
    most = min(STORE_SHARE * room, GPU_BATCH_BYTES)
    while rows > GPU_LEAST_ROWS and rows * pixels * 3 > most:
        rows //= 2
    return rows


def decoded_batch_rows(cpus: int) -> int:
    """Images in a batch where decoders do all the work."""
    larger = 1 << round(math.log2(max(1.0, cpus / CPU_BATCH_CORES)))
    return min(DECODED_BATCH_ROWS * larger, GPU_BATCH_ROWS)


def whole_passes(rows: int, forward: int | None) -> int:
    """`rows`, or a little more: a multiple of the images in a forward pass, if that is given."""
    return math.ceil(rows / forward) * forward if forward else rows


def _power_of_two(rows: float, within: tuple[int, int]) -> int:
    least, most = within
    return 1 << round(math.log2(min(max(rows, least), most)))
