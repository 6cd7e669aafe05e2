"""Benchmark: the rates of decoding and of predicting alone, and of a whole run; shows the
bottleneck.

Reading and decoding is measured with a task on every core that decodes. Predicting is measured
with every predictor on its device. Both use the code and the numbers of a real run: where GPUs
predict, decoders pack batches and put them into Ray's object store, and predictors take them from
there, several at a time, and put rows there. Then a real run labels a part of the archive into a
scratch folder.
"""

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final, Literal

import pyarrow as pa
import ray
from pydantic import BaseModel, ConfigDict

from pipeline.engine.placement import Placement
from pipeline.engine.session import fetch, session
from pipeline.errors import NightlabelError, SpecError
from pipeline.graph.batches import evenly, pack
from pipeline.graph.coordinator import CoordinatorClient
from pipeline.graph.job import Job, Sealed, with_graph
from pipeline.graph.progress import Listener, Progress
from pipeline.graph.result_queue import Stop
from pipeline.graph.scaling import placed
from pipeline.graph.stages.decode import Decode
from pipeline.graph.stages.own_device import keep_to_own_device
from pipeline.graph.stages.predict import CALLS, Predict
from pipeline.isolation.model_process import ModelProcess
from pipeline.runs.label import label
from pipeline.runs.network_graph import PendingGraph
from pipeline.runs.prepare import prepare
from pipeline.spec import LabelSpec, make_spec
from pipeline.storage import join
from pipeline.store.names import is_ours
from pipeline.store.runs import RunSummary

if TYPE_CHECKING:
    from ray.actor import ActorHandle

#: A run labels this many times the images that may be buffered: a shorter run would measure its
#: start and end, not its rate.
LEAST_TIMES = 4

#: A batch is another object than the last ones, whose pixels may be in a processor's cache.
_BATCHES: Final = 8

Limit = Literal["decoding", "predicting"]


class Bench(BaseModel):
    """Images a second of each part, and of the whole."""

    model_config = ConfigDict(frozen=True)

    src: str
    images: int
    mean_bytes: int
    decoders: int
    predictors: int
    device: str
    decode_per_second: float
    predict_per_second: float
    ideal_per_second: float
    run_images: int
    run_errors: int
    run_per_second: float
    first_label_seconds: float
    limit: Limit
    decoders_wanted: int
    #: What GPUs did in the whole run, in seconds of all of them: works, waits, copies, rows.
    device_seconds: dict[str, float] = {}

    @property
    def share(self) -> float:
        """Rate of the whole run as a share of the ideal."""
        return self.run_per_second / self.ideal_per_second


def bench(spec: LabelSpec, seconds: float, on_progress: Listener | None = None) -> Bench:
    """Measure `spec`, each part for this many seconds; uses a temporary folder in `spec.dst`.

    Raises NightlabelError as `label` does, and if nothing can be decoded.
    """
    say = on_progress or (lambda _: None)
    say(Progress("checking"))
    with ExitStack() as stack:
        process = stack.enter_context(ModelProcess())
        job = prepare(spec, process=process)
        stack.enter_context(session(spec.address))
        placement = placed(job)
        graph = None
        if job.task.network:
            graph, _ = PendingGraph(job, process).shared(placement, Stop())
        rows = placement.bounds.decoded * placement.batch_rows
        refs = _first(job, rows)
        decoders = placement.cores
        say(Progress("decoding alone"))
        decoded, pixels = _decode(job, refs, placement, decoders, seconds)
        predicted, device = 0.0, "cpu"
        if job.task.network:
            say(Progress("predicting alone"))
            if placement.predictor_gpus:
                predicted, device = _predict_on_gpus(job, pixels, placement, seconds)
            else:
                predicted, device = _predict(job, graph, pixels, placement, seconds)
        ideal = placement.rate(decoded / decoders, predicted / max(1, placement.predictors[1]))
        run = _run(job, max(LEAST_TIMES * rows, math.ceil(ideal * seconds)), say)
    return Bench(
        src=job.recorded_spec["src"],
        images=refs.num_rows,
        mean_bytes=round(sum(size or 0 for size in refs["size"].to_pylist()) / refs.num_rows),
        decoders=decoders,
        predictors=placement.predictors[1],
        device=device,
        decode_per_second=round(decoded, 1),
        predict_per_second=round(predicted, 1),
        ideal_per_second=round(ideal, 1),
        limit="decoding" if decoded < predicted or not job.task.network else "predicting",
        decoders_wanted=math.ceil(predicted / (decoded / decoders)) or decoders,
        **run,
    )


def _first(job: Job, rows: int) -> pa.Table:
    pages = (page.refs for shard in job.source.shards() for page in job.source.refs(shard))
    refs = next(evenly(pages, rows), None)
    if refs is None:
        raise SpecError("src", job.recorded_spec["src"], "has no images to measure")
    return refs


def _decode(
    job: Job, refs: pa.Table, placement: Placement, decoders: int, seconds: float
) -> tuple[float, "ray.ObjectRef"]:
    """(images a second of all decoders, one batch of decoded images)."""
    share = placement.decoder_cpus or placement.predictor_cpus
    passed_on = bool(placement.predictor_gpus)
    task = ray.remote(num_cpus=share, num_returns=2)(_decode_for)
    coordinator = CoordinatorClient().actor
    batches = ray.put(list(evenly([refs], placement.batch_rows)))
    working = [
        task.remote(job, coordinator, batches, number, seconds, passed_on)
        for number in range(decoders)
    ]
    return sum(fetch(rate) for rate, _ in working), working[0][1]


def _decode_for(
    job: Job,
    coordinator: "ActorHandle",
    batches: list[pa.Table],
    number: int,
    seconds: float,
    passed_on: bool,
) -> tuple[float, pa.Table]:
    """Decode all batches in rotation; each decoder, by its number, starts at another batch.

    `passed_on`: to predictors, through the object store.
    """
    start = number % len(batches)
    batches = batches[start:] + batches[:start]
    decode = Decode(job, coordinator).batch
    pixels = decode(batches[0])  # imports and connections do not count
    if not pixels["error_code"].null_count:
        code = pixels["error_message"][0]
        raise NightlabelError(f"none of the first {pixels.num_rows} images is decoded: {code}")
    stage = (lambda refs: ray.put(pack(decode(refs)))) if passed_on else decode
    return _rate(stage, batches, seconds), pixels


def _predict(
    job: Job,
    graph: "ray.ObjectRef | None",
    pixels: "ray.ObjectRef",
    placement: Placement,
    seconds: float,
) -> tuple[float, str]:
    """(images a second of all predictors, their device), on CPUs."""
    task = ray.remote(num_cpus=placement.predictor_cpus)(_predict_for)
    inside = [graph] if graph is not None else []  # a list is not fetched by Ray
    working = [task.remote(job, inside, pixels, seconds) for _ in range(placement.predictors[1])]
    found = [fetch(one) for one in working]
    return sum(rate for rate, _ in found), found[0][1]


def _predict_for(
    job: Job, graphs: "list[ray.ObjectRef]", pixels: pa.Table, seconds: float
) -> tuple[float, str]:
    keep_to_own_device()
    job = with_graph(job, graphs[0] if graphs else None)
    worker = job.task.load(job)
    worker(pixels)  # the first call compiles and allocates
    return _rate(worker, [pixels], seconds), worker.device


class _Predictor(Predict):
    """An actor that the driver calls; in a run, Ray Data does."""

    def predict(self, batches: pa.Table) -> tuple[pa.Table, None]:
        """Packed rows, which stay in the object store, and that they are there."""
        return self(batches), None

    def device(self) -> str:
        return self._network.device


def _predict_on_gpus(
    job: Job, pixels: "ray.ObjectRef", placement: Placement, seconds: float
) -> tuple[float, str]:
    """(images a second of all predictors, their device), each with as many batches as in a run."""
    actor = ray.remote(
        num_cpus=placement.predictor_cpus,
        num_gpus=placement.predictor_gpus,
        max_concurrency=CALLS,
    )(_Predictor)
    arguments = (Sealed(job), CoordinatorClient().actor)
    predictors = [actor.remote(*arguments) for _ in range(placement.predictors[1])]
    batch: pa.Table = fetch(pixels)
    blocks = [ray.put(pack(batch)) for _ in range(_BATCHES)]
    try:
        for warm in [_call(one, blocks[0]) for one in predictors]:
            fetch(warm)  # the first call compiles and allocates
        batches = _batch_rate(predictors, blocks, placement.in_flight, seconds)
        device: str = fetch(predictors[0].device.remote())
    finally:
        for one in predictors:
            ray.kill(one)
    return batches * batch.num_rows, device


def _batch_rate(
    predictors: "list[ActorHandle]", blocks: "list[ray.ObjectRef]", in_flight: int, seconds: float
) -> float:
    """Batches a second, from the first that is done on: then all have the next ones."""
    turn = cycle(blocks)
    waiting = {_call(one, next(turn)): one for _ in range(in_flight) for one in predictors}
    began, took, done = None, 0.0, 0
    while took < seconds or not done:
        [over], _ = ray.wait([*waiting], num_returns=1)
        one = waiting.pop(over)
        waiting[_call(one, next(turn))] = one
        fetch(over)
        now = time.perf_counter()
        if began is None:
            began = now
        else:
            took, done = now - began, done + 1
    return done / took


def _call(predictor: "ActorHandle", block: "ray.ObjectRef") -> "ray.ObjectRef":
    _, done = predictor.predict.options(num_returns=2).remote(block)
    return done


def _rate(stage: Any, tables: list[pa.Table], seconds: float) -> float:
    """Rows a second of a stage that processes these batches in rotation for this long."""
    rows, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        table = tables[rows // tables[0].num_rows % len(tables)]
        stage(table)
        rows += table.num_rows
    return rows / took


def _run(job: Job, images: int, say: Listener) -> dict[str, Any]:
    """A real run over this many images, in a folder of its own that is removed."""
    points: list[tuple[float, int]] = []
    began = time.monotonic()

    def listen(progress: Progress) -> None:
        say(progress)
        points.append((time.monotonic() - began, progress.labelled))

    with _scratch(job) as dst:
        fields = job.spec.model_dump() | {"dst": dst, "max_images": images}
        summary = label(make_spec(**fields), listen)
    return _measured(summary, points)


@contextmanager
def _scratch(job: Job) -> Iterator[str]:
    name = f"nightlabel-bench-{job.run_id}"
    try:
        yield join(job.folder.uri, name)
    finally:
        paths = [job.folder.relative(entry.uri) for entry in job.folder.list(f"{name}/")]
        job.folder.delete([path for path in paths if is_ours(path.removeprefix(f"{name}/"))])


def _measured(summary: RunSummary, points: list[tuple[float, int]]) -> dict[str, Any]:
    """The rate of the middle half of the labels.

    Before it, some images had been decoded before the first label; after it, decoders have
    finished.
    """
    counts = summary.counts
    labelled = [point for point in points if point[1]]
    rate = 0.0
    if labelled:
        most = labelled[-1][1]
        first, before = next(point for point in labelled if point[1] >= most / 4)
        last, after = next(point for point in labelled if point[1] >= most * 3 / 4)
        rate = (after - before) / (last - first) if last > first else 0.0
    return {
        "run_images": counts.labelled + counts.failed,
        "run_errors": counts.failed,
        "run_per_second": round(rate, 1),
        "first_label_seconds": round(labelled[0][0], 1) if labelled else 0.0,
        "device_seconds": summary.device_seconds,
    }
