"""Quick scan: a short listing before Ray starts; a run with nothing new ends after it."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from pipeline.scan.survey import Survey
from pipeline.sources import Source
from pipeline.store.ledger import Ledger
from pipeline.store.states import Retried

#: The quick scan may always take this long.
GLANCE_SECONDS: Final = 3.0
#: And this long if it then finishes: starting Ray and listing again would take longer.
LOOK_SECONDS: Final = 10.0


def nothing_to_label(
    source: Source,
    ledgers: Sequence[Ledger],
    *,
    keep_seen: bool,
    retry_errors: Retried,
    clock: Callable[[], float] = time.monotonic,
) -> Survey | None:
    """The whole survey if nothing is to be labelled and that is clear soon, else None.

    If there is nothing new, the listing is no longer than the ledgers, so its pace predicts its
    end.
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
    """Will a scan that took `elapsed` s for `listed` of at most `rows` refs end soon?"""
    return elapsed <= GLANCE_SECONDS or elapsed * rows <= LOOK_SECONDS * listed
