"""The three stages of the graph, each from one Arrow table to another.

    shards ──List──▶ REFS to label ──Decode──▶ PIXELS ──Predict──▶ LABELLED

Every ref that leaves List leaves Predict as one row: a label, or an error code.
"""

import pickle
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray

from pipeline import schema
from pipeline.errors import ImageError, ModelError, TransientError
from pipeline.flow.job import Job
from pipeline.flow.survey import Survey
from pipeline.store.ledger import Ledger

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

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
    """Refs to pixels: many reads in flight, each image decoded as it arrives."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self, refs: pa.Table) -> pa.Table:
        pixels = Pixels(self._job.preprocess.height, self._job.preprocess.width, refs.num_rows)
        for index, outcome in self._read(refs):
            if isinstance(outcome, bytes):
                self._decode(index, outcome, pixels)
            else:
                pixels.fail(index, outcome)
        return pixels.table(refs)

    def _read(self, refs: pa.Table) -> Iterator[tuple[int, bytes | ImageError | TransientError]]:
        from pipeline.storage import Want, read_many

        columns = ("uri", "etag", "size")
        modified = refs["modified"].cast(pa.int64()).to_pylist()
        rows = zip(*(refs[name].to_pylist() for name in columns), modified, strict=True)
        wants = [Want(*row) for row in rows]
        return read_many(wants, max_bytes=self._job.spec.max_bytes, in_flight=READS_IN_FLIGHT)

    def _decode(self, index: int, data: bytes, pixels: "Pixels") -> None:
        from pipeline.images import prepare

        spec = self._job.spec
        try:
            image = prepare(data, self._job.preprocess, exif=spec.exif, max_pixels=spec.max_pixels)
        except ImageError as error:
            pixels.fail(index, error)
        else:
            pixels.put(index, image.pixels, image.width, image.height, image.format)


class Pixels:
    """A PIXELS table while it is filled, its images side by side in one buffer."""

    def __init__(self, height: int, width: int, rows: int) -> None:
        self._buffer = np.empty((rows, height, width, 3), np.uint8)
        self._order: list[int] = []
        self._offsets = [0]
        self._seen: list[tuple[int | None, int | None, str | None]] = []
        self._errors: list[tuple[str | None, str | None]] = []
        self._filled = 0

    def put(self, index: int, image: Any, width: int, height: int, kind: str) -> None:
        """`image`: uint8 (H, W, 3) of row `index` of the refs; width and height as seen."""
        self._buffer[self._filled] = image
        self._filled += 1
        self._add(index, (width, height, kind), (None, None))

    def fail(self, index: int, error: ImageError | TransientError) -> None:
        self._add(index, (None, None, None), (str(error.code), error.message))

    def table(self, refs: pa.Table) -> pa.Table:
        """PIXELS, the rows in the order in which they were filled."""
        width, height, kind = _columns(self._seen, 3)
        code, message = _columns(self._errors, 2)
        added = {"width": width, "height": height, "format": kind, "pixels": self._binary()}
        added |= {"error_code": code, "error_message": message}
        table = refs.take(pa.array(self._order, pa.int64()))
        for name, column in added.items():
            field = schema.PIXELS.field(name)
            column = column if isinstance(column, pa.Array) else pa.array(column, field.type)
            table = table.append_column(field, column)
        return table.select(schema.PIXELS.names).cast(schema.PIXELS)

    def _add(self, index: int, seen: tuple[Any, ...], error: tuple[Any, ...]) -> None:
        self._order.append(index)
        self._offsets.append(self._filled * self._buffer[0].nbytes)
        self._seen.append(seen)
        self._errors.append(error)

    def _binary(self) -> pa.Array:
        failed = np.array([code is not None for code, _ in self._errors], bool)
        valid = pa.py_buffer(np.packbits(~failed, bitorder="little"))
        offsets = pa.py_buffer(np.asarray(self._offsets, np.int64))
        data = pa.py_buffer(self._buffer[: self._filled].reshape(-1))
        return pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(failed), [valid, offsets, data]
        )


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]


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
    from pipeline.models.engine import Engine
    from pipeline.models.fetch import fetch

    shape = job.preprocess
    engine = Engine.load(
        fetch(job.model, job.revision).path,
        height=shape.height,
        width=shape.width,
        rescale=shape.rescale,
        mean=shape.mean,
        std=shape.std,
        precision=job.spec.precision,
        top_k=job.spec.top_k,
        batch_size=job.spec.batch_size,
        threads=1,  # predictors run side by side, a core each
    )
    return Classifier(engine, run_id=job.run_id, recipe_id=job.recipe.id)
