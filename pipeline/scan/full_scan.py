"""Full scan: compares a complete listing with the ledger and labels nothing; for `plan` and
`verify`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray

from pipeline.engine.remote_tasks import in_tasks
from pipeline.engine.session import session
from pipeline.scan.ledgers import LOCAL_ROWS, FileReader, ledger_shards, local_ledger, rows_of
from pipeline.scan.survey import Survey
from pipeline.sources import Source
from pipeline.store.delta.actions import LiveFile
from pipeline.store.ledger import Ledger
from pipeline.store.states import Retried

if TYPE_CHECKING:
    from ray import ObjectRef

#: Called with each page of refs that need a label, in this process or in a task.
Watcher = Callable[[pa.Table], dict[str, int]]


@contextmanager
def ledgers_of(
    reader: FileReader, files: Sequence[LiveFile], address: str | None
) -> Iterator[list[Ledger]]:
    """The ledger: in this process if it is small, else built in tasks and mapped from the object
    store."""
    if rows_of(files) <= LOCAL_ROWS:
        yield [local_ledger(reader, files)]
        return
    with session(address):
        yield ray.get(ledger_shards(reader, files))


def survey(
    source: Source,
    ledgers: Sequence[Ledger],
    watch: Watcher,
    *,
    retry_errors: Retried,
    keep_seen: bool = False,
) -> Survey:
    """List all of `source`; counts include those that `watch` returns for the refs to label."""
    shards = list(source.shards())
    if not ray.is_initialized() or len(shards) == 1:
        surveys: Any = (
            _one(source, shard, ledgers, watch, retry_errors, keep_seen) for shard in shards
        )
    else:
        shared: list[ObjectRef] = [ray.put(ledger) for ledger in ledgers]
        calls = [(shared, source, shard, watch, retry_errors, keep_seen) for shard in shards]
        surveys = in_tasks(_one_remote, calls)
    total = Survey(keep_seen=keep_seen)
    for found in surveys:
        total.merge(found)
    return total


def _one(
    source: Source,
    shard: Any,
    ledgers: Sequence[Ledger],
    watch: Watcher,
    retry_errors: Retried,
    keep_seen: bool,
) -> Survey:
    found = Survey(keep_seen=keep_seen)
    for todo in found.remaining(source, shard, ledgers, retry_errors=retry_errors):
        found.count(watch(todo))
    return found


def _one_remote(shared: "list[ObjectRef]", source: Source, shard: Any, *rest: Any) -> Survey:
    watch, retry_errors, keep_seen = rest
    return _one(source, shard, ray.get(shared), watch, retry_errors, keep_seen)
