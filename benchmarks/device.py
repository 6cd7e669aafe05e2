"""Simulated devices: does the graph keep them busy?

    python -m benchmarks.device [--at-hand] [--rows ROWS] DEVICES IMAGES_A_SECOND IMAGES [SIDE]

The graph is the real one, on a Ray cluster of one node a device, all on this machine. A decoder
hands out pixels that it has already, a predictor takes as long as its device would, leaves the
processor alone meanwhile, and makes the rows of labels. Images of a smaller SIDE let two cores feed
a device that eats more than they can copy: what is left is the graph. With --at-hand there are no
decoders, and one node has all devices. ROWS is the size of a batch, if not that of a run. Prints
JSON.
"""

import argparse
import json
import pickle
import subprocess
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, local
from typing import Any, Self

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray

from benchmarks.inputs import made_up_uri
from benchmarks.race import environ, peak_mb
from pipeline import schema
from pipeline.engine.placement import Placement, place
from pipeline.graph.backpressure import Live
from pipeline.graph.batches import pack, unpack
from pipeline.graph.dataset import Stages, labelled_blocks, predicted, set_up
from pipeline.graph.pixel_table import Pixels
from pipeline.graph.stages.decode import give_way
from pipeline.models.backends.torch_engine import CUDA_BATCH
from pipeline.models.backends.transfer import slices
from pipeline.sources.base import refs_table
from pipeline.tasks.classifier import COLUMNS, Classifier
from pipeline.tasks.rows import RowMaker
from tests.parts.archives.real_archives import ROOT

SIDE, CPUS_A_NODE = 224, 2
TICK = 0.1  # seconds
TOP_K = 5
#: Batches that TorchEngine queues: two on the device, and two in pinned buffers behind them.
AHEAD = 4


@dataclass(frozen=True)
class Seen:
    """`images_per_second` and `busy`, the devices' working time over the time: once steady."""

    devices: int
    images: int
    seconds: float
    images_per_second: float
    busy: float
    driver_mb: float
    pixel_bytes_an_image: float


class List:
    """Batches of names that never end in anything but made pixels."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def __call__(self, shards: pa.Table) -> Iterator[pa.Table]:
        for data in shards["shard"].to_pylist():
            first, last = pickle.loads(data)
            for start in range(first, last, self._rows):
                yield pack(refs(range(start, min(last, start + self._rows))))


def refs(numbers: range) -> pa.Table:
    uris = [made_up_uri(number) for number in numbers]
    etags = [f"{number:032x}" for number in numbers]
    return refs_table(uris, etags, [40_000] * len(uris))


class Decode:
    """Pixels without decoding: what is left is to hand them on, in a process that gives way."""

    def __init__(self, side: int) -> None:
        self._side = side

    def __call__(self, batches: pa.Table) -> pa.Table:
        give_way()
        return pack(self.batch(unpack(batches)))

    def batch(self, refs: pa.Table) -> pa.Table:
        pixels = Pixels(refs, self._side, self._side)
        image = np.zeros((self._side, self._side, 3), np.uint8)
        for row in range(refs.num_rows):
            pixels.put(row, image, 500, 375, "jpeg")
        return pixels.table()


class Device:
    """An engine whose device makes so many images a second, one batch after the other.

    As TorchEngine does it copies a batch before the device begins with it, queues the batches of
    several calls, as many as its buffers hold, and lets each call wait for its own results. The
    copy of a buffer to the device is free: it takes place in slices while the buffer is filled.
    `here.spans`: (images, began, over) of each batch of this thread's last call, in seconds of the
    clock.
    """

    precision, device = "fp16", "cuda:simulated"

    def __init__(self, images_per_second: float, side: int) -> None:
        self.labels = [f"class {number}, of some" for number in range(1000)]
        self.image_shape = (side, side, 3)
        self.here = local()
        self._rate, self._queue = images_per_second, Lock()
        self._ends = deque([0.0] * AHEAD, maxlen=AHEAD)  # of the last batches
        self._buffer = np.zeros((CUDA_BATCH, *self.image_shape), np.uint8)
        self._draw = np.random.default_rng(0)

    @property
    def exact(self) -> "Device":
        return self

    def predict(self, pixels: NDArray[np.uint8], /) -> tuple[NDArray[Any], ...]:
        rows = len(pixels)
        with self._queue:
            self.here.spans = [
                self._queued(pixels[start : start + CUDA_BATCH])
                for start in range(0, rows, CUDA_BATCH)
            ]
            over = self._ends[-1]
            results = self._draw.integers(0, len(self.labels), (rows, TOP_K))
            scores = self._draw.random((rows, TOP_K), np.float32)
        _sleep_until(over)
        return results, scores

    def _queued(self, batch: NDArray[np.uint8]) -> tuple[int, float, float]:
        _sleep_until(self._ends[0])  # a buffer is free
        for part in slices(len(batch)):
            self._buffer[: len(batch)][part] = batch[part]
        began = max(time.time(), self._ends[-1])
        over = began + (len(batch) / self._rate if self._rate else 0.0)
        self._ends.append(over)
        return len(batch), began, over


def _sleep_until(clock: float) -> None:
    time.sleep(max(0.0, clock - time.time()))


class Predict:
    """The rows of a night that labels, of a simulated device. What it did goes to a file of
    `folder`: `[images, began, over, bytes]` a line, one for each batch of the device."""

    def __init__(self, images_per_second: float, side: int, folder: str) -> None:
        self._engine = Device(images_per_second, side)
        classifier = Classifier(self._engine)
        self._rows = RowMaker(schema.rows_of(COLUMNS), classifier, "run", "recipe")
        name = ray.get_runtime_context().get_actor_id()
        self._told = Path(folder, str(name))

    def __call__(self, batches: pa.Table) -> pa.Table:
        rows = pack(self._rows(unpack(batches)))
        size = batches.nbytes
        with self._told.open("a") as told:
            for span in self._engine.here.spans:
                print(json.dumps([*span, size]), file=told)
                size = 0
        return rows


class Calls:
    """All that devices did, in sums by time: a list of it would be what grows in the driver."""

    def __init__(self) -> None:
        self.rows = self.bytes = 0
        self._spans: dict[str, tuple[float, float]] = {}  # device → its first beginning, last end
        # By tick: seconds that devices worked, images that they were done with.
        self._worked: defaultdict[int, float] = defaultdict(float)
        self._done: Counter[int] = Counter()

    def add(self, device: str, rows: int, began: float, over: float, size: int) -> None:
        """One call of a device, in no order."""
        self.rows += rows
        self.bytes += size
        since, until = self._spans.get(device, (began, over))
        self._spans[device] = min(since, began), max(until, over)
        self._done[int(over / TICK)] += rows
        for tick in range(int(began / TICK), int(over / TICK) + 1):
            within = min(over, (tick + 1) * TICK) - max(began, tick * TICK)
            self._worked[tick] += within

    @classmethod
    def told(cls, folder: Path) -> Self:
        calls = cls()
        for device in folder.iterdir():
            for line in device.read_text().splitlines():
                calls.add(device.name, *json.loads(line))
        return calls

    def steady(self) -> tuple[float, float]:
        """Images a second, and the devices' working time over all of it, in the last third of
        the time that all devices worked.

        Before it nodes that share two cores start some thirty processes: a minute for four.
        """
        since = max(since for since, _ in self._spans.values())
        until = min(until for _, until in self._spans.values())
        first, end = round((until - (until - since) / 3) / TICK), int(until / TICK)
        if first >= end:
            raise ValueError("too few images to see all devices work side by side")
        seconds = (end - first) * TICK
        images = sum(self._done[tick] for tick in range(first, end))
        worked = sum(self._worked[tick] for tick in range(first, end))
        return images / seconds, worked / seconds / len(self._spans)


def run(placement: Placement, rate: float, images: int, *, side: int = SIDE) -> Seen:
    """The graph over so many images, on the Ray that this process is connected to."""
    pieces = 4 * placement.listers
    ends = np.linspace(0, images, pieces + 1, dtype=int).tolist()
    shards = list(pairwise(ends))

    def graph(stages: Stages) -> Iterator[object]:
        return labelled_blocks(stages, placement, shards, Live(placement.bounds))

    return _seen(graph, placement, rate, images, side)


def at_hand(placement: Placement, rate: float, batches: int, *, side: int = SIDE) -> Seen:
    """Predictors alone, over one decoded batch again and again: what a device waits for, if not
    for decoders."""
    images = batches * placement.batch_rows
    decoded = pack(Decode(side).batch(refs(range(placement.batch_rows))))
    block = ray.put(decoded)

    def graph(stages: Stages) -> Iterator[object]:
        set_up(Live(placement.bounds), placement)
        blocks = ray.data.from_arrow_refs([block] * batches)
        return iter(predicted(blocks, stages, placement).iter_internal_ref_bundles())

    return _seen(graph, placement, rate, images, side)


def _seen(
    graph: Callable[[Stages], Iterator[object]],
    placement: Placement,
    rate: float,
    images: int,
    side: int,
) -> Seen:
    with TemporaryDirectory() as folder:
        arguments = (rate, side, folder)
        began = time.perf_counter()
        for _ in graph(Stages(List(placement.batch_rows), Decode(side), Predict, arguments)):
            pass
        seconds = time.perf_counter() - began
        calls = Calls.told(Path(folder))
    if calls.rows != images:
        raise ValueError(f"{calls.rows} of {images} images came out")
    rate_seen, busy = calls.steady()
    return Seen(
        devices=placement.predictors[1],
        images=images,
        seconds=round(seconds, 1),
        images_per_second=round(rate_seen, 1),
        busy=round(busy, 3),
        driver_mb=round(peak_mb(), 1),
        pixel_bytes_an_image=round(calls.bytes / images, 1),
    )


def simulated(
    devices: int, rate: float, images: int, side: int = SIDE, options: Sequence[str] = ()
) -> dict[str, float]:
    """`run`, or `at_hand`, on a cluster of its own, in a process of its own."""
    numbers = [str(devices), str(rate), str(images), str(side)]
    command = [sys.executable, "-m", "benchmarks.device", *options, *numbers]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environ())
    if done.returncode:
        raise RuntimeError(f"{devices} devices failed:\n{done.stderr[-4000:]}")
    seen: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seen


def measured(
    devices: int,
    rate: float,
    images: int,
    side: int = SIDE,
    *,
    on_hand: bool = False,
    rows: int | None = None,
) -> Seen:
    """`run`, or `at_hand`, on a cluster that this process starts and ends."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    gpus = devices if on_hand else 1
    try:
        for _ in range(devices // gpus):
            cluster.add_node(num_cpus=CPUS_A_NODE, num_gpus=gpus)
        ray.init(cluster.address, log_to_driver=False)
        placement = place(ray.cluster_resources(), None)
        placement = replace(placement, batch_rows=rows or placement.batch_rows)
        if on_hand:
            seen = at_hand(placement, rate, images // placement.batch_rows, side=side)
        else:
            seen = run(placement, rate, images, side=side)
        ray.shutdown()
    finally:
        cluster.shutdown()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--at-hand", action="store_true")
    parser.add_argument("--rows", type=int)
    parser.add_argument("devices", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("images", type=int)
    parser.add_argument("side", type=int, nargs="?", default=SIDE)
    asked = parser.parse_args()
    numbers = (asked.devices, asked.rate, asked.images, asked.side)
    print(json.dumps(asdict(measured(*numbers, on_hand=asked.at_hand, rows=asked.rows))))


if __name__ == "__main__":
    main()
