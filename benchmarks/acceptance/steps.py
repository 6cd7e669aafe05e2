"""The steps that measure, each in a process of its own: prints JSON, `{"rows": …}` and the like.

python -m benchmarks.acceptance.steps RIG STEP [ARGUMENT]
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from benchmarks import device, gpu, inputs
from benchmarks.acceptance import leads, stand_in
from benchmarks.acceptance.check import enough
from benchmarks.acceptance.night import night, truth
from benchmarks.acceptance.rig import RIGS, Rig
from pipeline.engine.batch_rows import GPU_BATCH_ROWS
from pipeline.engine.placement import Placement, place
from pipeline.models.backends.base import Engine
from pipeline.models.backends.torch_engine import CUDA_BATCH
from pipeline.tasks.classifier import Classifier

#: Bytes of a ViT-B/16's weights, by which blocks are cut.
WEIGHTS = 346_000_000
NANS = (0, 1, 16)
WAYS: dict[str, tuple[gpu.Way, ...]] = {
    "ViT-B/16": (
        ("fp32", CUDA_BATCH, False),
        ("fp16", CUDA_BATCH, False),
        ("fp16", CUDA_BATCH, True),
    ),
    "ResNet-50": (("fp16", CUDA_BATCH, False),),
}


def prepared(rig: Rig, _: str) -> dict[str, Any]:
    """Files and networks that later steps would else make while they are timed."""
    files = rig.folder()
    inputs.synthetic_jpegs(GPU_BATCH_ROWS if not rig.simulated else rig.distinct)
    rig.model()
    count = sum(1 for _ in files.iterdir())
    return {"rows": [["images", f"{count:,} names of {rig.distinct:,} synthetic JPEGs"]]}


def checked(rig: Rig, _: str) -> dict[str, Any]:
    return {"rows": [["labels to compare with", truth(rig)]]}


def whole(rig: Rig, lead: str) -> dict[str, Any]:
    row, seconds = night(rig, lead)
    return {"rows": [row], "seconds": seconds}


def sleeping(rig: Rig, lead: str) -> dict[str, Any]:
    """The graph beside a device that sleeps, without this lead."""
    with leads.without(lead):
        placement = _block_rows()
        seen = device.measured(
            1,
            rig.rate,
            round(rig.rate * 6),
            32,
            on_hand=lead != "priority",
            rows=placement.batch_rows,
        )
    name = f"{leads.NIGHTS[lead]}{', with decoders' if lead == 'priority' else ''}"
    rate, busy = f"{seen.images_per_second:,.0f}", f"{seen.busy:.1%}"
    return {"rows": [[name, str(placement.batch_rows), f"{rig.rate:,}", rate, busy]]}


def network(rig: Rig, name: str) -> dict[str, Any]:
    with ExitStack() as stack:
        if rig.simulated:
            fakes: dict[str, Any] = {"load": stand_in.load, "on_device": stand_in.on_device}
            stack.enter_context(patch.multiple(gpu, **fakes))
            stack.enter_context(patch.dict(gpu.NETWORKS, {name: rig.model}))
        rows = list(gpu.rows(name, rig.seconds, WAYS[name], lambda _: _images(rig)))
    for row in rows:
        share = float(row[gpu.HEAD.index("labels as fp32")].rstrip("%"))
        enough(round(share * 100), 10_000)
    return {"rows": rows}


def overflowing(rig: Rig, _: str) -> dict[str, Any]:
    """Milliseconds of a block of which some rows have no finite scores in fp16."""
    model = rig.model()
    pixels = _block(rig)
    load: Callable[..., Any] = stand_in.load if rig.simulated else gpu.load
    plain = load(model, "fp16", CUDA_BATCH, False)
    exact, rows = plain.exact, list[list[str]]()
    expected = [exact.labels[index] for index in gpu.labels(exact, pixels)]
    for count in NANS:
        classify = Classifier(Overflows(plain, exact, count))
        answers = classify(pixels, pa.table({}))
        again = answers.precision.to_pylist().count("fp32")
        if again != count:
            raise ValueError(f"{again} of {count} rows that overflow were labelled again")
        if answers.columns["label"].to_pylist()[:count] != expected[:count]:
            raise ValueError("rows that overflow do not have the labels of fp32")
        rate = gpu.rate(partial(classify, pixels, pa.table({})), len(pixels), rig.seconds)
        took = 1000 * len(pixels) / rate
        rows.append([f"{count} of {len(pixels)}", f"{took:.1f}"])
    return {"rows": rows}


class Overflows:
    """An engine whose first `count` rows overflow in half precision."""

    def __init__(self, plain: Engine, exact: Engine, count: int) -> None:
        self._plain, self.exact, self._count = plain, exact, count
        self.labels, self.precision, self.device = plain.labels, plain.precision, plain.device
        self.image_shape = plain.image_shape

    def predict(self, pixels: NDArray[np.uint8], /) -> tuple[NDArray[Any], ...]:
        indices, scores = (np.array(result) for result in self._plain.predict(pixels))
        scores[: self._count] = np.nan
        return indices, scores


def packing(rig: Rig, _: str) -> dict[str, Any]:
    rows = _block_rows().batch_rows
    pixels = device.Decode(device.SIDE).batch(device.refs(range(rows)))
    made = leads.labelled_block(stand_in.Sleeping(0.0), pixels)
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    found = {
        name: leads.packing(block, 5 if rig.simulated else 30)
        for name, block in (("pixels to a predictor", pixels), ("rows from it", made))
    }
    ray.shutdown()
    return {
        "rows": [
            [f"{name}, {rows} images", *(f"{took:.2f}" for took in ways.values())]
            for name, ways in found.items()
        ]
    }


def _block_rows() -> Placement:
    """A placement on one fast GPU, with the blocks of a ViT-B/16."""
    return place({"CPU": 2.0, "GPU": 1.0}, None).for_model(WEIGHTS, None)


def _images(rig: Rig) -> Any:
    return inputs.synthetic_jpegs(rig.distinct if rig.simulated else GPU_BATCH_ROWS)


def _block(rig: Rig) -> NDArray[np.uint8]:
    return gpu.decoded(rig.model(), lambda _: _images(rig))


STEPS: dict[str, Callable[[Rig, str], dict[str, Any]]] = {
    "prepared": prepared,
    "checked": checked,
    "whole": whole,
    "sleeping": sleeping,
    "network": network,
    "overflowing": overflowing,
    "packing": packing,
}


def main() -> None:
    rig, step, *argument = sys.argv[1:]
    began = time.perf_counter()
    found = STEPS[step](RIGS[rig], *(argument or [""]))
    print(json.dumps(found | {"took": round(time.perf_counter() - began, 1)}))


if __name__ == "__main__":
    main()
