"""Plan: what `label` would do, in counts and bytes, and a time estimate from a short probe."""

import time
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from pipeline.engine.memory_budget import budget_here
from pipeline.engine.placement import Placement, place, place_decoders
from pipeline.engine.session import cores
from pipeline.errors import SpecError
from pipeline.graph.job import Job
from pipeline.graph.progress import Listener, Progress, nobody
from pipeline.graph.stages.image_loader import ImageLoader
from pipeline.isolation.model_process import ModelProcess
from pipeline.models.backends.loading import device_count
from pipeline.runs.network_graph import job_here
from pipeline.runs.prepare import check_recipe, open_table, prepare
from pipeline.runs.promotion import current_of
from pipeline.scan.full_scan import ledgers_of, survey
from pipeline.scan.gone import count_gone
from pipeline.scan.ledgers import FileReader
from pipeline.spec import LabelSpec
from pipeline.store.run_index import RunIndex
from pipeline.store.runs import Counts, load_runs, named_unreadable

PROBE_IMAGES = 16

#: From "starting" until predictors begin to load: Ray's own start (1.5 s on two cores, less on
#: more) and its first workers. On a cluster Ray already runs; connecting takes about as long.
RAY_START_SECONDS = 3.0


class Probe(BaseModel):
    """Seconds an image on one core of this machine, and the estimate for the whole run."""

    model_config = ConfigDict(frozen=True)

    images: int
    read_and_decode_seconds: float
    predict_seconds: float
    device: str
    runtime: str = Field("", description="what runs the network: OpenVINO, or torch and why")
    images_per_second: float
    start_seconds: float = Field(description="Ray's start (estimated) and the model's (measured)")
    expected_seconds: float = Field(description="of the whole run, including its start")
    #: The results of the probe, in a line for people.
    summary: str = Field("", exclude=True)


class Plan(BaseModel):
    """What `label` would do now."""

    model_config = ConfigDict(frozen=True)

    src: str
    dst: str
    recipe: str
    current: str | None = None
    refused: str | None
    counts: Counts
    unreadable: dict[str, str] = Field(default_factory=dict)
    memory: str = Field("", description="of this machine, and the part that large images may use")
    probe: Probe | None = None


def plan(spec: LabelSpec, *, probe: bool = True, listener: Listener = nobody) -> Plan:
    """List and subtract, label nothing, write nothing.

    With `probe`, the first few images are labelled in this process to estimate the time.
    """
    with ModelProcess() as process:
        return _planned(spec, probe=probe, listener=listener, process=process)


def _planned(spec: LabelSpec, *, probe: bool, listener: Listener, process: ModelProcess) -> Plan:
    listener(Progress("checking"))
    job = prepare(spec, listener=listener, process=process)
    listener(Progress("listing"))
    table = open_table(job.folder)
    live = table.live() if table else []
    files = [file for file in live if file.recipe == job.recipe.id]
    runs = load_runs(job.folder, RunIndex.read(job.folder)) if table else []
    first = _First(PROBE_IMAGES if probe else 0)
    private = spec.allow_private
    reader = FileReader.for_scope(job.folder, job.source, runs, allow_private=private)
    with ledgers_of(reader, files, spec.address) as ledgers:
        found = survey(job.source, ledgers, first, retry_errors=spec.retry_errors)
        in_scope = sum(ledger.count_in_scope() for ledger in ledgers)
        counts = Counts.of(found.counts)
        counts.unreadable = len(found.unreadable)
        counts.gone = count_gone(spec, found, reader, files, in_scope)
    probed = None
    if first.refs is not None:
        listener(Progress("probing"))
        probed = _probe(*job_here(job, process), first.refs, counts.todo)
    return Plan(
        src=job.recorded_spec["src"],
        dst=job.recorded_spec["dst"],
        recipe=job.recipe.id,
        current=current_of(job.folder, table) if table else None,
        refused=_refusal(job, table),
        counts=counts,
        unreadable=named_unreadable(found.unreadable),
        memory=str(budget_here(spec, job.weights, network=job.task.network)),
        probe=probed,
    )


class _First:
    """Keeps the first refs of the first page."""

    def __init__(self, wanted: int) -> None:
        self.refs: pa.Table | None = None
        self._wanted = wanted

    def __call__(self, todo: pa.Table) -> dict[str, int]:
        if self.refs is None and self._wanted and todo.num_rows:
            self.refs = todo.slice(0, self._wanted)
        return {}


def _refusal(job: Job, table: Any) -> str | None:
    try:
        if table is not None:
            check_recipe(job, table)
    except SpecError as error:
        return str(error)
    return None


def _probe(job: Job, runtime: str, refs: pa.Table, todo: int) -> Probe:
    decode = ImageLoader(job).pixels
    decode(refs.slice(0, 1))  # imports and connections do not count
    decoding, pixels = _timed(decode, refs)
    began = time.perf_counter()
    worker = job.task.load(job)
    worker(pixels.slice(0, 1))
    start = RAY_START_SECONDS + time.perf_counter() - began
    predicting, rows = _timed(worker, pixels)
    gpus = 0 if worker.device == "cpu" else device_count()
    here = {"CPU": cores(), "GPU": gpus}
    images = refs.num_rows
    rate = _placement(job, here).rate(*_rates(job, images, decoding, predicting))
    return Probe(
        images=images,
        read_and_decode_seconds=round(decoding / images, 5),
        predict_seconds=round(predicting / images, 5),
        device=worker.device,
        runtime=runtime,
        images_per_second=round(rate, 1),
        start_seconds=round(start, 1),
        expected_seconds=round(start + todo / rate, 1),
        summary=job.task.summary(rows),
    )


def _placement(job: Job, here: Mapping[str, float]) -> Placement:
    if not job.task.network:
        return place_decoders(here)
    return place(here, job.spec.predictor_range, gpus_each=job.spec.gpus_per_predictor)


def _rates(job: Job, images: int, decoding: float, working: float) -> tuple[float, float]:
    """Images a second of decoding and of predicting; without a network, decoders do both."""
    if not job.task.network:
        return images / (decoding + working), 0.0
    return images / decoding, images / working


def _timed(function: Any, argument: pa.Table) -> tuple[float, pa.Table]:
    began = time.perf_counter()
    result = function(argument)
    return time.perf_counter() - began, result
