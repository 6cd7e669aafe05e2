"""The three stages of the graph, each from one Arrow table to another.

    shards ──List──▶ REFS to do ──Decode──▶ PIXELS ──Predict──▶ rows of the task

A task without a network has no Predict stage: the process that decodes a batch also runs the task
on it, so pixels stay in one process. Stages exchange batches; each batch is one row (batches.py).
Every ref that leaves List leaves the last stage as one row of its batch: a result or an error code.
"""

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, lru_cache, partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray

from pipeline.engine.memory_budget import budget_here, process_memory
from pipeline.engine.ray_compat import attempt_number
from pipeline.errors import ImageError, ModelError, NightlabelError, StoreError, TransientError
from pipeline.graph.batches import evenly, pack, unpack
from pipeline.graph.job import Job, Sealed, with_graph
from pipeline.graph.metrics import READ_BYTES, Meters, Watch
from pipeline.graph.pixel_table import Pixels
from pipeline.heap import for_good, keep_photographs
from pipeline.images import Clipped, Depths, depths_of
from pipeline.isolation.bisection import Decoder, IsolatedDecoder, IsolatedLabeller
from pipeline.isolation.limits import memory_limit, time_limit
from pipeline.isolation.node_room import NodeRoom
from pipeline.scan.survey import Survey
from pipeline.sources import rules_of, wants_of
from pipeline.storage import Canaries, public, read_steadily
from pipeline.store.ledger import Ledger
from pipeline.tasks import Worker

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

    from pipeline.images import Prepared, Room

READS_IN_FLIGHT = 32

#: A block whose worker dies is retried this many times, then the run ends; its images stay
#: unlabelled. Ray's own default is to retry forever.
TASK_RETRIES = 3

#: A predictor whose process dies this many times in a row while loading is not restarted.
LOAD_TRIES = 3

_DIGEST_BYTES = 8

#: A context manager that limits the decoding of one image.
Bounds = Callable[[], AbstractContextManager[None]]


class List:
    """Shards to batches of refs that need a label, `rows` in each but the last batch of a shard.

    A shard's counts are reported under its number, so that a retried task counts once. Ray
    lists a shard again if its worker dies, or a node with some of its batches, and takes only
    the batches it is missing. These must equal the earlier ones. If images came or went in
    between they do not, and rows would be lost or duplicated. So the run ends in that case.
    """

    def __init__(
        self, job: Job, ledgers: "Sequence[ObjectRef]", coordinator: "ActorHandle", rows: int
    ) -> None:
        self._job, self._ledgers, self._coordinator, self._rows = job, ledgers, coordinator, rows

    def __call__(self, shards: pa.Table) -> Iterator[pa.Table]:
        with _telling(self._coordinator):
            ledgers: list[Ledger] = ray.get(list(self._ledgers))
            for number, data in zip(*shards.to_pydict().values(), strict=True):
                yield from self._one(ledgers, number, pickle.loads(data))  # noqa: S301 - our own

    def _one(self, ledgers: Sequence[Ledger], shard: int, piece: Any) -> Iterator[pa.Table]:
        survey = Survey(keep_seen=self._job.spec.delete)
        source, again = self._job.source, self._job.spec.retry_errors
        todo = survey.remaining(source, piece, ledgers, retry_errors=again)
        batches = 0
        for batch in evenly(todo, self._rows):
            granted = self._granted(shard, batches, batch, survey.counts)
            batches += 1
            if granted:
                yield pack(batch.slice(0, granted))
            if granted < batch.num_rows:
                return  # as many as this run may label; the shard is not listed to its end
        if not ray.get(self._coordinator.add.remote(shard, survey, batches)):
            raise self._changed()

    def _granted(self, shard: int, number: int, batch: pa.Table, counts: dict[str, int]) -> int:
        asked = self._coordinator.batch.remote(
            shard, number, _digest(batch), batch.num_rows, counts
        )
        granted: int | None = ray.get(asked)
        if granted is None:
            raise self._changed()
        return granted

    def _changed(self) -> StoreError:
        return StoreError(
            f"{public(self._job.spec.src)} changed while a part of it was listed again, since "
            "a worker or a node was lost; what was committed stays, and the next run goes on"
        )


def _digest(refs: pa.Table) -> bytes:
    ids = refs["object_id"].to_pylist()
    return blake2b(b"".join(ids), digest_size=_DIGEST_BYTES).digest()


class Decode:
    """Refs to pixels: many reads in flight, each image decoded as it arrives.

    If a worker died on a batch, the retry isolates each image, see bisection.py.
    """

    def __init__(self, job: Job, coordinator: "ActorHandle | None" = None) -> None:
        self._job, self._coordinator = job, coordinator

    def __call__(self, batches: pa.Table) -> pa.Table:
        keep_photographs()
        with _telling(self._coordinator):
            try:
                return pack(self.batch(unpack(batches)))
            except MemoryError:
                if self._coordinator is None:
                    raise
                # An image that uses up memory may take it from other images in its process: the
                # batch is retried, with each image in a child process.
                os._exit(1)

    def batch(self, refs: pa.Table) -> pa.Table:
        """PIXELS for a predictor, or the rows of a task without one."""
        pixels = self.pixels(refs)
        if self._job.task.network:
            return pixels
        watch = Watch()
        rows = self._work(pixels)
        watch.lap("measure")
        if self._coordinator is not None:
            Meters.of(self._job.spec.dst).took(watch)
            self._coordinator.labelled.remote(rows.num_rows)
        return rows

    def _work(self, pixels: pa.Table) -> pa.Table:
        worker = loaded(self._job)
        if self._coordinator is None or not attempt_number():
            return worker(pixels)
        # The task's own code may have ended the worker.
        with IsolatedLabeller(partial(self._job.task.load, self._job), worker) as careful:
            return careful(pixels)

    def pixels(self, refs: pa.Table) -> pa.Table:
        """PIXELS, one row for each of `refs`, in the same order."""
        pixels = Pixels(refs, self._job.preprocess.height, self._job.preprocess.width)
        read = 0
        seen: list[tuple[str, Clipped | None]] = []
        watch = Watch()
        with self._decoder(refs) as (decode, bounds):
            for index, outcome in self._read(refs):
                watch.lap("read")
                if isinstance(outcome, bytes):
                    read += len(outcome)
                    with bounds():
                        seen += self._decode(decode, index, outcome, pixels)
                else:
                    pixels.fail(index, outcome)
                watch.lap("decode")
        self._measure(read, watch)
        self._tell_depths(refs, depths_of(seen))
        return pixels.table()

    def _measure(self, read: int, watch: Watch) -> None:
        if self._coordinator is not None:
            meters = Meters.of(self._job.spec.dst)
            meters.add(READ_BYTES, read)
            meters.took(watch)

    def _tell_depths(self, refs: pa.Table, depths: Depths) -> None:
        # Waits, so that the driver has the report before it has the batch.
        if depths and self._coordinator is not None:
            ray.get(self._coordinator.decoded.remote(_digest(refs), depths))

    @contextmanager
    def _decoder(self, refs: pa.Table) -> Iterator[tuple[Decoder, Bounds]]:
        """The decode function, with the time limit for each image."""
        if self._coordinator is None:
            # This is not a Ray task: nobody would retry after the process ended.
            yield self._isolated, nullcontext
        elif attempt_number():
            with self._isolated as careful:
                yield careful, nullcontext
        else:
            spec, known = self._job.spec, not refs["size"].null_count
            with memory_limit(process_memory(spec, sizes_known=known)):
                # Only a large image needs to know the node's memory.
                decode = self._prepare(lambda needs: self._room(needs))
                yield decode, partial(time_limit, spec.max_seconds)

    def _prepare(self, room: "Room") -> Decoder:
        from pipeline.images import prepare

        shape, spec = self._job.preprocess, self._job.spec
        return partial(
            prepare,
            preprocess=shape,
            exif=spec.exif,
            max_pixels=spec.max_pixels,
            fast=spec.decode == "fast",
            room=room,
        )

    @cached_property
    def _room(self) -> NodeRoom:
        job = self._job
        return NodeRoom(budget_here(job.spec, job.weights, network=job.task.network))

    @cached_property
    def _isolated(self) -> IsolatedDecoder["Prepared"]:
        spec = self._job.spec
        decode, memory = self._prepare(self._room), process_memory(spec)
        return IsolatedDecoder(decode, seconds=spec.max_seconds, memory=memory)

    def _read(self, refs: pa.Table) -> Iterator[tuple[int, bytes | ImageError | TransientError]]:
        return read_steadily(
            wants_of(refs),
            canaries(self._job.run_id, self._coordinator),
            max_bytes=self._job.spec.max_bytes,
            rules=rules_of(self._job.spec),
            in_flight=READS_IN_FLIGHT,
        )

    def _decode(
        self, decode: Decoder, index: int, data: bytes, pixels: Pixels
    ) -> list[tuple[str, Clipped | None]]:
        """Put an image into its row; returns its mode and what it clips to, if it is an image."""
        try:
            image = decode(data)
        except ImageError as error:
            pixels.fail(index, error)
            return []
        pixels.put(index, image.pixels, image.width, image.height, image.format)
        return [(image.mode, image.clipped)]


_LOADED: dict[str, Worker] = {}


def loaded(job: Job) -> Worker:
    """The worker of a task without a network, created once a process and run."""
    if job.run_id not in _LOADED:
        _LOADED.clear()
        _LOADED[job.run_id] = job.task.load(job)
    return _LOADED[job.run_id]


@lru_cache(maxsize=1)
def canaries(run_id: str, coordinator: "ActorHandle | None") -> Canaries:
    """Objects that this process read in a run; a process that read none gets them from the
    coordinator."""
    del run_id
    if coordinator is None:
        return Canaries()
    return Canaries(
        ask=lambda: ray.get(coordinator.good.remote()), tell=coordinator.read_well.remote
    )


class Predict:
    """Pixels to rows, in an actor that loads the task's network once.

    If a predictor died on a batch, the retry isolates its images, see bisection.py.
    """

    def __init__(
        self, sealed: Sealed, coordinator: "ActorHandle", graph: "ObjectRef | None" = None
    ) -> None:
        job = with_graph(sealed.job, graph)
        self._job, self._coordinator = job, coordinator
        name = ray.get_runtime_context().get_actor_id() or ""
        with _telling(coordinator):
            if ray.get(coordinator.starting.remote(name)) > LOAD_TRIES:
                # Ray would restart its process forever.
                raise ModelError(
                    f"loading {job.model} has ended its process {LOAD_TRIES} times: look for a "
                    "broken driver, device or torch, or too little memory; `nightlabel doctor` "
                    "shows what is installed"
                )
            with for_good():
                self._worker = job.task.load(job)
        coordinator.ready.remote(name)
        self._meters, self._watch = Meters.of(job.spec.dst), Watch()

    def __call__(self, batches: pa.Table) -> pa.Table:
        with _telling(self._coordinator):
            self._watch.lap("wait")
            labelled = self._labelled(unpack(batches))
            self._watch.lap("predict")
            self._meters.took(self._watch)
            self._coordinator.labelled.remote(labelled.num_rows)
            return pack(labelled)

    def _labelled(self, pixels: pa.Table) -> pa.Table:
        if not attempt_number():
            return self._label(pixels)
        self._count_retry()
        with IsolatedLabeller(partial(self._job.task.load, self._job), self._worker) as careful:
            return careful(pixels)

    def _count_retry(self) -> None:
        """Count a retry ourselves. Ray's own count is useless here: it also goes up each time Ray
        cannot reach an actor whose node is gone, which happens many times before another actor
        replaces it."""
        block = ray.get_runtime_context().get_task_id()
        if ray.get(self._coordinator.retried.remote(block)) > TASK_RETRIES:
            raise NightlabelError(
                f"a block of images has ended {TASK_RETRIES + 1} predictors: look for too little "
                "memory or a broken device; `nightlabel doctor` shows what is installed"
            )

    def _label(self, pixels: pa.Table) -> pa.Table:
        from pipeline.models.backends.base import DeviceLostError

        try:
            return self._worker(pixels)
        except DeviceLostError:
            # Its process can do nothing more on this device. A new process tries again.
            os._exit(1)


@contextmanager
def _telling(coordinator: "ActorHandle | None") -> Iterator[None]:
    """Report our own errors to the coordinator too. Ray tells the driver that a UDF or an actor
    failed, but not the type of the error."""
    try:
        yield
    except NightlabelError as error:
        if coordinator is not None:
            ray.get(coordinator.fail.remote(error))
        raise
