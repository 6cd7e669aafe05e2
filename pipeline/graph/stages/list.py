"""List: a task that mostly waits, from shards to batches of refs that need a label."""

import pickle
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray

from pipeline.errors import StoreError
from pipeline.graph.batches import digest, evenly, pack
from pipeline.graph.job import Job
from pipeline.graph.stages.failures import reporting_errors
from pipeline.scan.survey import Survey
from pipeline.storage import public
from pipeline.store.ledger import Ledger

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle


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
        with reporting_errors(self._coordinator):
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
        asked = self._coordinator.batch.remote(shard, number, digest(batch), batch.num_rows, counts)
        granted: int | None = ray.get(asked)
        if granted is None:
            raise self._changed()
        return granted

    def _changed(self) -> StoreError:
        return StoreError(
            f"{public(self._job.spec.src)} changed while a part of it was listed again, since "
            "a worker or a node was lost; what was committed stays, and the next run continues"
        )
