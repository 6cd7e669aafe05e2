"""A whole run, by the code of `nightlabel label` in this process, without one of its leads."""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks import gpu, race
from benchmarks.acceptance import seconds as by_second
from benchmarks.acceptance.check import agreement
from benchmarks.acceptance.leads import COMPILED, NIGHTS, without
from benchmarks.acceptance.rig import Rig
from pipeline.images import prepare
from pipeline.models.backends.torch_engine import CPU_BATCH
from pipeline.runs.label import label
from pipeline.spec import make_spec
from pipeline.tasks.preprocess_cache import preprocess_of
from tests.parts.archives.real_archives import cache_folder
from tests.parts.clusters.cluster import logical_gpus

HEAD = ["", "img/s", "first label", "whole run", "labels as fp32"]
HEAD += ["works", "waits", "copies", "rows", "nvidia-smi"]


def truth(rig: Rig) -> str:
    """Writes the labels of a sample by fp32. For a process that sees no GPU."""
    import numpy as np

    model = rig.model()
    shape = preprocess_of(model)
    files = sorted(rig.folder().iterdir())[: rig.sample]
    pixels = np.stack([prepare(file.read_bytes(), preprocess=shape).pixels for file in files])
    engine = gpu.load(model, "fp32", CPU_BATCH, False)
    if engine.device != "cpu":
        raise ValueError(f"the sample is to be labelled on the CPU, not on {engine.device}")
    names = [engine.labels[index] for index in gpu.labels(engine, pixels)]
    if len(set(names)) < 2:
        raise ValueError("one label for all: there is nothing to compare")
    labels = {file.name: name for file, name in zip(files, names, strict=True)}
    _truth_file(rig).write_text(json.dumps(labels))
    return f"{len(labels)} images, {len(set(names))} different labels"


def night(rig: Rig, lead: str) -> tuple[list[str], list[list[str]]]:
    """(a row of HEAD, rows of `seconds.HEAD`); raises ValueError if an answer is wrong."""
    images, expected = rig.folder(), json.loads(_truth_file(rig).read_text())
    options: dict[str, Any] = {"src": str(images), "model": str(rig.model())}
    options |= {} if rig.simulated else {"precision": "fp16", "compile": lead == COMPILED}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _ray(rig) as address:
        out = Path(folder) / "labels"
        with without(lead), by_second.watched() as seconds:
            began = time.time()
            summary = label(make_spec(dst=str(out), address=address, **options))
            whole = time.time() - began
        if summary.exit_code:
            raise ValueError(f"the run ended with {summary.exit_code}")
        table = race.rows_of(out)
    same = agreement(table, {file.name for file in images.iterdir()}, expected)
    first, last, count = race.steady_part(table)
    row = [
        NIGHTS[lead],
        f"{count / (last - first):,.0f}" if last > first else "one batch",
        f"{first - began:.1f} s",
        f"{whole:.1f} s",
        f"{same:.2%}",
        *by_second.shares(seconds.totals),
        seconds.utilisation,
    ]
    return row, by_second.rows(seconds)


@contextmanager
def _ray(rig: Rig) -> Iterator[str | None]:
    """None: the run starts its own. A simulated GPU is one that only Ray knows of."""
    if not rig.simulated:
        with patch.dict(os.environ, race.ALONE):
            yield None
        return
    with logical_gpus(1, {"NIGHTLABEL_LOGICAL_GPUS": "1"}) as address:
        yield address


def _truth_file(rig: Rig) -> Path:
    return cache_folder() / f"acceptance-{rig.name}.json"
