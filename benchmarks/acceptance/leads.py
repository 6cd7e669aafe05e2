"""Leads, each switched off: a run beside one that has them all.

The product has no switches for them. All but one are numbers of the driver, which this process is,
so they are replaced here. How batches are packed is code of the workers: `packing` compares that
without a run.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import ray

from benchmarks.device import Decode as Copying
from pipeline import schema
from pipeline.graph.batches import pack, unpack
from pipeline.graph.stages.decode import Decode
from pipeline.models.backends.base import Engine
from pipeline.tasks.classifier import COLUMNS, Classifier
from pipeline.tasks.rows import RowMaker

#: The lead that is off → for people. "" is none, COMPILED an option more.
COMPILED = "compiled"
NIGHTS = {
    "": "all on",
    "calls": "one call at a time",
    "queue": "four batches at the predictor, not eight",
    "blocks": "blocks of 512",
    "priority": "decoders do not give way",
    COMPILED: "all on, compiled",
}


@contextmanager
def without(lead: str) -> Iterator[None]:
    """The driver without this lead; the stages of a run and of benchmarks.device alike."""
    with ExitStack() as stack:
        for name, value in REPLACED[lead].items():
            stack.enter_context(patch(name, value))
        yield


class EagerCopying(Copying):
    """`benchmarks.device.Decode` with the priority of a predictor."""

    def __call__(self, batches: pa.Table) -> pa.Table:
        return pack(self.batch(unpack(batches)))


def eager_decode(job: Any, coordinator: Any, *, beside_gpus: bool) -> Decode:  # noqa: ARG001
    return Decode(job, coordinator, beside_gpus=False)


REPLACED: dict[str, dict[str, object]] = {
    "": {},
    "calls": {"pipeline.graph.dataset.GPU_CALLS": 1},
    "queue": {"pipeline.engine.placement.GPU_IN_FLIGHT": 4},
    "blocks": {"pipeline.engine.batch_rows.GPU_BATCH_RANGE": (512, 512)},
    "priority": {
        "pipeline.graph.dataset.Decode": eager_decode,
        "benchmarks.device.Decode": EagerCopying,
    },
    COMPILED: {},
}


def packing(block: pa.Table, times: int) -> dict[str, float]:
    """Milliseconds to put a block into Ray's store and to have it back, both ways of packing."""
    ways: dict[str, tuple[Callable[[pa.Table], Any], Callable[[Any], pa.Table]]] = {
        "column by column": (lambda table: table, lambda table: table),
        "as one Arrow stream": (pack, unpack),
    }
    return {way: _there_and_back(block, *both, times) for way, both in ways.items()}


def _there_and_back(
    block: pa.Table, out: Callable[[pa.Table], Any], back: Callable[[Any], pa.Table], times: int
) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        again = back(ray.get(ray.put(out(block))))
        took.append(time.perf_counter() - began)
        if not again.equals(block):
            raise ValueError("a block came back as another")
    return 1000 * statistics.median(took)


def labelled_block(engine: Engine, pixels: pa.Table) -> pa.Table:
    """Rows, as a predictor makes them."""
    return RowMaker(schema.rows_of(COLUMNS), Classifier(engine), "run", "recipe")(pixels)
