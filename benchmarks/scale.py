"""What grows with the archive, each figure from a process of its own.

    python -m benchmarks.scale NAME COUNT      prints JSON

The names of objects are made up, and so are a table's files; what handles them is the real code.
`peak_mb` is the memory of the process that drives, its workers' not included.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import inputs
from benchmarks.race import environ, peak_mb
from pipeline import schema
from pipeline.sources import Page, open_source
from pipeline.sources.base import Shard, refs_of_entries
from pipeline.spec import make_spec
from pipeline.storage import Entry, Folder, canonical
from pipeline.store.delta.actions import LiveFile
from pipeline.store.delta.table import Table
from pipeline.store.ledger import Ids, Ledger
from pipeline.store.parts import Part, write_part
from pipeline.tasks.classify import Classify
from tests.parts.archives.real_archives import ROOT

Figures = dict[str, float]

CLASSIFY = Classify()
RECIPE, SLOTS = "r00000001", 2
PAGE, SHARD_KEYS, FILE_ROWS = 1000, 500_000, 1_000_000
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def measured(name: str, count: int) -> Figures:
    """Run one measure in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.scale", name, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environ())
    if done.returncode:
        raise RuntimeError(f"{name} {count} failed:\n{done.stderr[-4000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def medians(name: str, count: int, times: int) -> Figures:
    """Each figure's median over so many processes."""
    seen = [measured(name, count) for _ in range(times)]
    return {figure: statistics.median(one[figure] for one in seen) for figure in seen[0]}


# ---- listings ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyNumbers(Shard):
    first: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True)
class MadeUpBucket:
    """A source of `keys` objects, as a bucket's pages would name them."""

    keys: int

    def shards(self) -> Iterator[Shard]:
        for first in range(0, self.keys, SHARD_KEYS):
            yield KeyNumbers(f"{first}", first, min(self.keys, first + SHARD_KEYS))

    def refs(self, shard: KeyNumbers) -> Iterator[Page]:
        for first in range(shard.first, shard.last, PAGE):
            numbers = range(first, min(shard.last, first + PAGE))
            yield Page(refs_of_entries([_entry(number) for number in numbers]), 0)


def _entry(number: int) -> Entry:
    return Entry(inputs.made_up_uri(number), 40_000, f"{number:032x}", SINCE)


def listing(keys: int) -> Figures:
    """Everything new: list in tasks on two cores, hold against an empty ledger."""
    import ray

    from pipeline.scan.full_scan import survey

    ray.init("local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    began = time.perf_counter()
    found = survey(MadeUpBucket(keys), [Ledger.empty()], lambda _: {}, retry_errors=False)  # type: ignore[arg-type]
    seconds = time.perf_counter() - began
    assert found.counts["new"] == keys
    return {"seconds": seconds, "keys_per_second": keys / seconds}


def manifest(paths: int) -> Figures:
    """A text file of paths, on one core: read, named, told apart, held against the ledger."""
    from pipeline.scan.survey import Survey

    with tempfile.TemporaryDirectory() as folder:
        source = open_source(_manifest_spec(Path(folder), paths))
        found = Survey(keep_seen=False)
        began = time.process_time()
        for shard in source.shards():
            for page in source.refs(shard):
                found.add([Ledger.empty()], page, retry_errors=False)
        seconds = time.process_time() - began
    assert found.counts["new"] == paths
    return {"seconds": seconds, "us_per_path": seconds / paths * 1e6}


def _manifest_spec(folder: Path, paths: int, **fields: Any) -> Any:
    listed = folder / "images.txt"
    with listed.open("w") as file:
        file.writelines(f"{inputs.made_up_uri(number)}\n" for number in range(paths))
    return make_spec(src=str(listed), dst=str(folder / "labels"), **fields)


# ---- what is labelled already ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MadeUpFiles:
    """Reads entries that no file holds: ids by a generator that a file's ordinal seeds."""

    rows: int

    def entries(self, ordinal: int, path: str) -> Ledger:
        del path
        draw = np.random.default_rng(ordinal)
        high = draw.integers(0, 2**64, self.rows, np.uint64)
        return Ledger.of(
            Ids(high, draw.integers(0, 2**32, self.rows, np.uint32)),
            np.ones(self.rows, np.int64),
            np.full(self.rows, ordinal << 3 | 4, np.int32),
        )


def ledger(keys: int) -> Figures:
    """Build it in tasks on two cores, then ask it for keys that it has, page by page."""
    import ray

    from pipeline.scan.ledgers import ledger_shards

    files = [LiveFile(f"{n}", RECIPE, FILE_ROWS, 0) for n in range(keys // FILE_ROWS)]
    ray.init("local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    began = time.perf_counter()
    shards = ledger_shards(MadeUpFiles(FILE_ROWS), files)  # type: ignore[arg-type]
    ray.wait(shards, num_returns=len(shards), fetch_local=False)
    built = time.perf_counter() - began
    ask = ray.remote(num_cpus=1)(_ask)
    began = time.perf_counter()
    sizes, known = zip(*ray.get([ask.remote(shards, n) for n in range(SLOTS)]), strict=True)
    asked = time.perf_counter() - began
    assert min(known) == FILE_ROWS
    return {
        "build_seconds": built,
        "built_per_second": keys / built,
        "asked_per_second": SLOTS * FILE_ROWS / asked,
        "bytes_per_key": sizes[0] / keys,
    }


def _ask(shards: Any, ordinal: int) -> tuple[int, int]:
    """(bytes of all shards, how many of one file's keys they know)."""
    import ray

    from pipeline.store.ledger import subtract

    ledgers: list[Ledger] = ray.get(list(shards))
    asked = MadeUpFiles(FILE_ROWS).entries(ordinal, "")
    packed = np.empty(FILE_ROWS, np.dtype([("high", ">u8"), ("low", ">u4")]))
    packed["high"], packed["low"] = asked.high, asked.low
    ids = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(schema.OBJECT_ID_BYTES), FILE_ROWS, [None, pa.py_buffer(packed.tobytes())]
    ).cast(pa.binary())
    known = 0
    for start in range(0, FILE_ROWS, PAGE):
        count = min(PAGE, FILE_ROWS - start)
        columns = _nulls(schema.REFS, count)
        columns["object_id"] = ids.slice(start, count)
        columns["version"] = pa.repeat(pa.scalar(1, pa.int64()), count)
        columns["uri"] = pa.repeat("", count)
        refs = pa.table(columns, schema=schema.REFS)
        known += subtract(ledgers, refs, retry_errors=False).counts["matched"]
    return sum(one.high.nbytes + one.rest.nbytes for one in ledgers), known


def parts(count: int) -> Figures:
    """A table that names so many files: open it, commit one more."""
    with tempfile.TemporaryDirectory() as name:
        folder = Folder(name)
        table = Table.create(folder, CLASSIFY.columns, CLASSIFY.kind)
        stats = json.dumps({"numRecords": 1000})
        named = [
            Part(f"_parts/run/{n:06}.parquet", RECIPE, 1000, 0, 100_000, stats)
            for n in range(count)
        ]
        for start in range(0, count, 1000):
            table.commit(added=named[start : start + 1000])
        began = time.perf_counter()
        opened = Table.open(folder)
        assert opened is not None
        files = opened.live()
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        opened.commit(added=[Part("_parts/run/one-more.parquet", RECIPE, 1, 0, 1, stats)])
        committed = time.perf_counter() - began
    assert len(files) == count
    return {"open_seconds": seconds, "commit_seconds": committed}


#: Runs a command and says its memory. A child counts the memory of the process that starts it, so
#: that has to be a small one, which has not made a table.
WITH_ITS_PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def no_news(rows: int) -> Figures:
    """A night of `label` over a manifest whose every path has a row."""
    with tempfile.TemporaryDirectory() as name:
        spec = _manifest_spec(Path(name), rows, model=str(inputs.no_op()))
        _fill(spec, rows)
        command: list[str | Path] = [sys.executable, "-c", WITH_ITS_PEAK]
        command += [Path(sys.executable).with_name("nightlabel"), "label", spec.src, spec.dst]
        command += ["--model", spec.model, "--json", "--no-progress"]
        began = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - began
    *summary, peak = done.stdout.splitlines()
    counts = json.loads("\n".join(summary))["counts"]
    assert (counts["done"], counts["labelled"]) == (rows, 0)
    return {"seconds": seconds, "peak_mb": int(peak) / 1024}


def _fill(spec: Any, rows: int) -> None:
    """A table that says of every path of the manifest that it is labelled."""
    from pipeline.runs.prepare import prepare
    from pipeline.store.choice import Choice, choose
    from pipeline.store.recipes import save_recipe
    from pipeline.store.runs import Counts, RunSummary, save_run

    job = prepare(spec)
    folder = Folder(canonical(spec.dst))
    folder.ensure()
    table = Table.create(folder, CLASSIFY.columns, CLASSIFY.kind)
    save_recipe(folder, job.recipe.id, job.recipe.to_json())
    choose(folder, job.recipe.id, Choice.read(folder))
    files = [
        write_part(
            folder,
            f"recipe={job.recipe.id}/{first:09}.parquet",
            job.recipe.id,
            _labels(job.run_id, job.recipe.id, range(first, min(rows, first + FILE_ROWS))),
        )
        for first in range(0, rows, FILE_ROWS)
    ]
    table.commit(added=files)
    summary = RunSummary(
        run_id=job.run_id,
        started=SINCE,
        finished=SINCE,
        status="complete",
        recipe=job.recipe.id,
        scope=job.source.scope,
        spec=job.recorded_spec,
        counts=Counts(listed=rows, labelled=rows),
        listing_complete=True,
    )
    save_run(folder, summary)


def _labels(run: str, recipe: str, numbers: range) -> pa.Table:
    uris = [inputs.made_up_uri(number) for number in numbers]
    count = len(uris)
    columns = _nulls(CLASSIFY.rows, count)
    columns["uri"] = pa.array(uris)
    columns["object_id"] = pa.array([schema.object_id(uri) for uri in uris], pa.binary())
    for name, value in (("version", 0), ("label", "cat"), ("run_id", run), ("recipe_id", recipe)):
        columns[name] = pa.repeat(pa.scalar(value, CLASSIFY.rows.field(name).type), count)
    columns["labelled_at"] = pa.repeat(pa.scalar(SINCE, schema.TIMESTAMP), count)
    return pa.table(columns, schema=CLASSIFY.rows)


def _nulls(fields: pa.Schema, count: int) -> dict[str, Any]:
    return {field.name: pa.nulls(count, field.type) for field in fields}


# ---- the graph --------------------------------------------------------------------------------


def graph(refs: int) -> Figures:
    """Names through the whole graph, with next to no pixels: does the driver's memory grow?"""
    from dataclasses import asdict

    import ray

    from benchmarks.device import run
    from pipeline.engine.placement import place

    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    return asdict(run(place({"CPU": 3.0}, None), 0.0, refs, side=8))


MEASURES: dict[str, Callable[[int], Figures]] = {
    "listing": listing,
    "manifest": manifest,
    "ledger": ledger,
    "parts": parts,
    "no-news": no_news,
    "graph": graph,
}


def main() -> None:
    name, count = sys.argv[1], int(sys.argv[2])
    figures = MEASURES[name](count)
    print(json.dumps({"peak_mb": peak_mb()} | figures))


if __name__ == "__main__":
    main()
