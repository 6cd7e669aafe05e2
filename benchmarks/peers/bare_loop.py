"""Nightlabel's own fetch, decode, resize, model and Parquet, in two plain processes without Ray.

    python -m benchmarks.peers.bare_loop IMAGES MODEL OUT [TASK]

It shows what the machine could do if moving work about cost nothing: no blocks, no object
store, no leases and commits. Each process takes every second image. TASK is classify, unless
another is named; one without a network has no use for MODEL.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

PROCESSES, ROWS = 2, 64


def main() -> None:
    images, model, out = (Path(argument) for argument in sys.argv[1:4])
    task = sys.argv[4] if len(sys.argv) > 4 else "classify"
    out.mkdir(parents=True)
    options = {"src": str(images), "dst": str(out / "store"), "task": task}
    if task == "classify":
        options["model"] = str(model)
    with ProcessPoolExecutor(PROCESSES) as pool:
        running = [pool.submit(label, options, out, number) for number in range(PROCESSES)]
        for one in running:
            one.result()


def label(options: dict[str, str], out: Path, number: int) -> None:
    import pyarrow.parquet as pq

    from pipeline.runs.prepare import prepare as resolve
    from pipeline.spec import make_spec

    job = resolve(make_spec(**options))
    worker = job.task.load(job)
    pages = (page.refs for shard in job.source.shards() for page in job.source.refs(shard))
    blocks = (page.slice(start, ROWS) for page in pages for start in range(0, page.num_rows, ROWS))
    for index, refs in enumerate(blocks):
        if index % PROCESSES == number:
            labelled = worker(pixels_of(job, refs))
            pq.write_table(labelled, out / f"{index:06}.parquet", compression="zstd")


def pixels_of(job: Any, refs: Any) -> Any:
    from pipeline.graph.pixel_table import Pixels
    from pipeline.images import prepare
    from pipeline.sources import wants_of
    from pipeline.storage import read_many

    pixels = Pixels(refs, job.preprocess.height, job.preprocess.width)
    for index, data in read_many(wants_of(refs), max_bytes=job.spec.max_bytes):
        assert isinstance(data, bytes), data
        image = prepare(data, job.preprocess)
        pixels.put(index, image.pixels, image.width, image.height, image.format)
    return pixels.table()


if __name__ == "__main__":
    main()
