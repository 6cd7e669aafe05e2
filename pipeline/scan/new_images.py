"""Images that arrived after a job ended: compares SRC with the store from here, in limited time."""

import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from pipeline.errors import MissingError, NightlabelError
from pipeline.isolation.background import within
from pipeline.scan.ledgers import LOCAL_ROWS, FileReader, local_ledger, rows_of
from pipeline.scan.survey import Survey
from pipeline.sources import open_source
from pipeline.spec import LabelSpec
from pipeline.store.reader import LabelStore

#: Seconds: the user waits for the cluster's answer, and this check is an extra.
COUNT_SECONDS: Final = 10.0
#: Seconds: a client retries for longer on a store that is down; we do not wait for that.
_GRACE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class NewImages:
    """Images without a label of a recipe. `unlabelled` is None if they cannot be counted, which
    `problem` explains; there may be more unless `complete`."""

    unlabelled: int | None
    complete: bool
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def count_new_images(spec: LabelSpec, recipe: str | None) -> NewImages:
    """How many images at SRC have no row of `recipe` (None: the store's current one).

    The submitting machine may have no access to the archive, so this never raises NightlabelError,
    and ends within some ten seconds.
    """
    until = time.monotonic() + COUNT_SECONDS
    try:
        return within(COUNT_SECONDS + _GRACE_SECONDS, lambda: _count(spec, recipe, until))
    except TimeoutError:
        return NewImages(None, False, f"no answer from storage within {COUNT_SECONDS:.0f} s")
    except NightlabelError as error:
        return NewImages(None, False, str(error))


def _count(spec: LabelSpec, recipe: str | None, until: float) -> NewImages:
    store = LabelStore(spec.dst)
    files = store.live(recipe)
    if not files:
        raise MissingError(f"{spec.dst}, as seen from here, has no labels of this job")
    if rows_of(files) > LOCAL_ROWS:
        return NewImages(
            None, False, f"{rows_of(files):,} labels are too many to look through from here"
        )
    source = open_source(spec)
    source.check(spec.dst)
    reader = FileReader.for_scope(store.folder, source, store.runs())
    ledgers = [local_ledger(reader, files)]
    survey = Survey(keep_seen=False)
    for shard in source.shards():
        for _ in survey.remaining(source, shard, ledgers, retry_errors=False):
            if time.monotonic() > until:
                return NewImages(_todo(survey), complete=False)
    return NewImages(_todo(survey), complete=True)


def _todo(survey: Survey) -> int:
    return sum(survey.counts.get(name, 0) for name in ("new", "changed", "retried"))
