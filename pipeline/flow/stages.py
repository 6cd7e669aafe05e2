"""The three stages of the graph, each from one Arrow table to another.

    shards ──List──▶ REFS to label ──Decode──▶ PIXELS ──Predict──▶ LABELLED

Every ref that leaves List leaves Predict as one row: a label, or an error code.
"""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray

from pipeline import schema
from pipeline.errors import ImageError, ModelError, NightlabelError, TransientError
from pipeline.flow.careful import Careful, Decoder, attempt_number
from pipeline.flow.job import Job
from pipeline.flow.pixels import Pixels
from pipeline.flow.survey import Survey
from pipeline.store.ledger import Ledger

if TYPE_CHECKING:
    from pathlib import Path

    from ray import ObjectRef
    from ray.actor import ActorHandle

    from pipeline.images import Preprocess
    from pipeline.models.engine import Engine
    from pipeline.storage import Canaries

READS_IN_FLIGHT = 32


class List:
    """Shards to the refs that still need a label.

    A shard's counts are told under its number, so that a retried task is counted once.
    """

    def __init__(self, job: Job, ledgers: "Sequence[ObjectRef]", tally: "ActorHandle") -> None:
        self._job, self._ledgers, self._tally = job, ledgers, tally

    def __call__(self, shards: pa.Table) -> Iterator[pa.Table]:
        ledgers: list[Ledger] = ray.get(list(self._ledgers))
        for number, data in zip(*shards.to_pydict().values(), strict=True):
            yield from self._one(ledgers, number, pickle.loads(data))  # noqa: S301 - our own

    def _one(self, ledgers: Sequence[Ledger], number: int, shard: Any) -> Iterator[pa.Table]:
        survey = Survey(keep_seen=self._job.spec.delete)
        for page in self._job.source.refs(shard):
            yield survey.add(ledgers, page, retry_errors=self._job.spec.retry_errors)
        ray.get(self._tally.add.remote(number, survey))
        yield schema.REFS.empty_table()


class Decode:
    """Refs to pixels: many reads in flight, each image decoded as it arrives.

    A block whose worker died is decoded carefully the next time, see careful.py.
    """

    def __init__(self, job: Job, tally: "ActorHandle | None" = None) -> None:
        self._job, self._tally = job, tally

    def __call__(self, refs: pa.Table) -> pa.Table:
        try:
            return self._pixels(refs)
        except NightlabelError as error:
            if self._tally is not None:
                # Ray would tell the driver of a UDF that failed and lose the kind of error.
                ray.get(self._tally.fail.remote(error))
            raise

    def _pixels(self, refs: pa.Table) -> pa.Table:
        pixels = Pixels(refs, self._job.preprocess.height, self._job.preprocess.width)
        with self._decoder() as decode:
            for index, outcome in self._read(refs):
                if isinstance(outcome, bytes):
                    self._decode(decode, index, outcome, pixels)
                else:
                    pixels.fail(index, outcome)
        return pixels.table()

    def _decoder(self) -> AbstractContextManager[Decoder]:
        from pipeline.images import prepare

        shape, spec = self._job.preprocess, self._job.spec
        decode = partial(prepare, preprocess=shape, exif=spec.exif, max_pixels=spec.max_pixels)
        return Careful(decode) if attempt_number() else nullcontext(decode)

    def _read(self, refs: pa.Table) -> Iterator[tuple[int, bytes | ImageError | TransientError]]:
        from pipeline.storage import Want, read_steadily

        columns = ("uri", "etag", "size")
        modified = refs["modified"].cast(pa.int64()).to_pylist()
        rows = zip(*(refs[name].to_pylist() for name in columns), modified, strict=True)
        wants = [Want(*row) for row in rows]
        return read_steadily(
            wants,
            canaries(self._job.run_id, self._tally),
            max_bytes=self._job.spec.max_bytes,
            in_flight=READS_IN_FLIGHT,
        )

    def _decode(self, decode: Decoder, index: int, data: bytes, pixels: Pixels) -> None:
        try:
            image = decode(data)
        except ImageError as error:
            pixels.fail(index, error)
        else:
            pixels.put(index, image.pixels, image.width, image.height, image.format)


@lru_cache(maxsize=1)
def canaries(run_id: str, tally: "ActorHandle | None") -> "Canaries":
    """What this process read well in a run; the tally passes it on to those that read nothing."""
    from pipeline.storage import Canaries

    del run_id
    if tally is None:
        return Canaries()
    return Canaries(ask=lambda: ray.get(tally.good.remote()), tell=tally.read_well.remote)


class Predict:
    """Pixels to labels, in an actor that loads the model once."""

    def __init__(self, job: Job, tally: "ActorHandle") -> None:
        try:
            self._classify = load_classifier(job)
        except ModelError as error:
            # Ray would tell the driver of a dead actor and lose the kind of error.
            ray.get(tally.fail.remote(error))
            raise

    def __call__(self, pixels: pa.Table) -> pa.Table:
        labelled: pa.Table = self._classify(pixels)
        return labelled


def load_classifier(job: Job) -> Any:
    """The job's model, ready to turn PIXELS into LABELLED. Raises ModelError."""
    from pipeline.models.classifier import Classifier
    from pipeline.models.fetch import fetch

    spec = job.spec
    folder = fetch(job.model, job.revision).path
    engine = load_engine(folder, job.preprocess, spec.precision, spec.top_k, spec.batch_size)
    return Classifier(engine, run_id=job.run_id, recipe_id=job.recipe.id)


def load_engine(
    folder: "Path", shape: "Preprocess", precision: str, top_k: int, batch_size: int | None
) -> "Engine":
    """A model folder on this process's device, with a thread: predictors run side by side."""
    from pipeline.models.engine import Engine

    return Engine.load(
        folder,
        height=shape.height,
        width=shape.width,
        rescale=shape.rescale,
        mean=shape.mean,
        std=shape.std,
        precision=precision,
        top_k=top_k,
        batch_size=batch_size,
        threads=1,
    )
