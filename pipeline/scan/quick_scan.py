"""A look at the listing before Ray is started: a night without news ends with it."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from pipeline.scan.survey import Survey
from pipeline.sources import Source
from pipeline.store.ledger import Ledger
from pipeline.store.states import Retried

#: A look may always take this long.
GLANCE_SECONDS: Final = 3.0
#: And this long if it then is at its end: Ray's start and a second listing take longer.
LOOK_SECONDS: Final = 10.0


def nothing_to_label(
    source: Source,
    ledgers: Sequence[Ledger],
    *,
    keep_seen: bool,
    retry_errors: Retried,
    clock: Callable[[], float] = time.monotonic,
) -> Survey | None:
    """The whole survey where nothing is to be labelled and that shows soon, else None.

    Without news no more is listed than the ledgers hold, so the pace tells the end.
    """
    began = clock()
    rows = sum(map(len, ledgers))
    survey = Survey(keep_seen=keep_seen)
    for shard in source.shards():
        for todo in survey.remaining(source, shard, ledgers, retry_errors=retry_errors):
            if todo.num_rows or not _soon(clock() - began, survey.counts["listed"], rows):
                return None
    return survey


def _soon(elapsed: float, listed: int, rows: int) -> bool:
    """Will a look that so far took `elapsed` s for `listed` of at most `rows` refs end soon?"""
    return elapsed <= GLANCE_SECONDS or elapsed * rows <= LOOK_SECONDS * listed
