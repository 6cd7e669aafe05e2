"""Simulated devices: does the graph keep them busy?

    python -m benchmarks.device DEVICES IMAGES_A_SECOND IMAGES [SIDE]

The graph is the real one, on a Ray cluster of one node a device, all on this machine. A decoder
hands out pixels that it has already, a predictor takes as long as its device would and leaves the
processor alone meanwhile. Images of a smaller SIDE let two cores feed a device that eats more than
they can copy: what is left is the graph. Prints JSON.
"""

import json
import pickle
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pyarrow as pa
import ray

from benchmarks.inputs import made_up_uri
from benchmarks.race import environ, peak_mb
from pipeline.engine.placement import Placement, place
from pipeline.graph.backpressure import Live
from pipeline.graph.batches import pack, unpack
from pipeline.graph.dataset import Stages, labelled_blocks
from pipeline.graph.pixel_table import Pixels
from pipeline.sources.base import refs_table
from tests.parts.archives.real_archives import ROOT

SIDE, CPUS_A_NODE = 224, 2
TICK = 0.1  # seconds


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
                yield pack(_refs(range(start, min(last, start + self._rows))))


def _refs(numbers: range) -> pa.Table:
    uris = [made_up_uri(number) for number in numbers]
    etags = [f"{number:032x}" for number in numbers]
    return refs_table(uris, etags, [40_000] * len(uris))


class Decode:
    """Pixels without decoding: what is left is to hand them on."""

    def __init__(self, side: int) -> None:
        self._side = side

    def __call__(self, batches: pa.Table) -> pa.Table:
        refs = unpack(batches)
        pixels = Pixels(refs, self._side, self._side)
        image = np.zeros((self._side, self._side, 3), np.uint8)
        for row in range(refs.num_rows):
            pixels.put(row, image, 500, 375, "jpeg")
        return pack(pixels.table())


class Predict:
    """A device that takes so many images a second, one batch after the other."""

    def __init__(self, images_per_second: float) -> None:
        self._rate = images_per_second
        self._name = ray.get_runtime_context().get_actor_id()

    def __call__(self, batches: pa.Table) -> pa.Table:
        began = time.time()
        pixels = unpack(batches)
        if self._rate:
            time.sleep(pixels.num_rows / self._rate)
        row = {"device": self._name, "rows": pixels.num_rows, "began": began, "over": time.time()}
        return pa.Table.from_pylist([row | {"bytes": batches.nbytes}])


class Calls:
    """All that devices did, in sums by time: a list of it would be what grows in the driver."""

    def __init__(self) -> None:
        self.rows = self.bytes = 0
        self._spans: dict[str, tuple[float, float]] = {}  # device → its first beginning, last end
        # By tick: seconds that devices worked, images that they were done with.
        self._worked: defaultdict[int, float] = defaultdict(float)
        self._done: Counter[int] = Counter()

    def add(self, call: dict[str, Any]) -> None:
        """A row of what Predict gives, in no order."""
        began, over = call["began"], call["over"]
        self.rows += call["rows"]
        self.bytes += call["bytes"]
        since, until = self._spans.get(call["device"], (began, over))
        self._spans[call["device"]] = min(since, began), max(until, over)
        self._done[int(over / TICK)] += call["rows"]
        for tick in range(int(began / TICK), int(over / TICK) + 1):
            within = min(over, (tick + 1) * TICK) - max(began, tick * TICK)
            self._worked[tick] += within

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
    stages = Stages(List(placement.batch_rows), Decode(side), Predict, (rate,))
    began = time.perf_counter()
    calls = Calls()
    for reference, _ in labelled_blocks(stages, placement, shards, Live(placement.bounds)):
        for call in cast("pa.Table", ray.get(reference)).to_pylist():
            calls.add(call)
    seconds = time.perf_counter() - began
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


def simulated(devices: int, rate: float, images: int, side: int = SIDE) -> dict[str, float]:
    """`run` on a cluster of its own, in a process of its own."""
    numbers = [str(devices), str(rate), str(images), str(side)]
    command = [sys.executable, "-m", "benchmarks.device", *numbers]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environ())
    if done.returncode:
        raise RuntimeError(f"{devices} devices failed:\n{done.stderr[-4000:]}")
    seen: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seen


def main() -> None:
    from ray.cluster_utils import Cluster

    devices, rate, images = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    side = int(sys.argv[4]) if sys.argv[4:] else SIDE
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        for _ in range(devices):
            cluster.add_node(num_cpus=CPUS_A_NODE, num_gpus=1)
        ray.init(cluster.address, log_to_driver=False)
        seen = run(place(ray.cluster_resources(), None), rate, images, side=side)
        print(json.dumps(asdict(seen)))
        ray.shutdown()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
