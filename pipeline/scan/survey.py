"""Survey: counts of a listing and, on request, the ledger entries that it matched."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.images import Depths
from pipeline.sources import Page, Source
from pipeline.store.ledger import Ledger, subtract
from pipeline.store.runs import LEFT_OUT
from pipeline.store.states import Retried

Seen = dict[int, list[np.ndarray[Any, np.dtype[np.int64]]]]


class Survey:
    """A sum over pages, shards and tasks."""

    def __init__(self, *, keep_seen: bool) -> None:
        self.counts: dict[str, int] = {}
        #: by ledger shard: indices of the in-scope entries that the listing saw
        self.seen: Seen = {}
        #: what could not be listed: uri → why
        self.unreadable: dict[str, str] = {}
        #: of the images that were decoded during this listing
        self.depths: Depths = {}
        #: of the GPUs that labelled meanwhile, by activity
        self.device_seconds: dict[str, float] = {}
        self._keep_seen = keep_seen

    def remaining(
        self, source: Source, shard: Any, ledgers: Sequence[Ledger], *, retry_errors: Retried
    ) -> Iterator[pa.Table]:
        """List a shard and subtract the ledgers: yields each page's refs that need a row."""
        for page in source.refs(shard):
            yield self.add(ledgers, page, retry_errors=retry_errors)

    def add(self, ledgers: Sequence[Ledger], page: Page, *, retry_errors: Retried) -> pa.Table:
        """Count one page of a source; returns its refs that need a label."""
        todo = subtract(ledgers, page.refs, retry_errors=retry_errors)
        self.count(todo.counts | {"excluded": page.excluded})
        self.count({f"{LEFT_OUT}{name}": number for name, number in page.left_out.items()})
        self.unreadable.update(page.unreadable)
        if self._keep_seen:
            for shard, entries in todo.found:
                self.seen.setdefault(shard, []).append(entries)
        return todo.refs

    def merge(self, other: "Survey") -> None:
        self.count(other.counts)
        self.see(other.seen)
        self.unreadable.update(other.unreadable)

    def see(self, seen: Seen) -> None:
        for shard, entries in seen.items():
            self.seen.setdefault(shard, []).extend(entries)

    def count(self, counts: dict[str, int]) -> None:
        for name, number in counts.items():
            self.counts[name] = self.counts.get(name, 0) + number

    def unseen(self, ledgers: Sequence[Ledger]) -> dict[int, list[bytes]]:
        """In-scope ledger entries that were not listed: object ids by file ordinal."""
        gone: dict[int, list[bytes]] = {}
        for shard, ledger in enumerate(ledgers):
            seen = np.zeros(len(ledger), dtype=bool)
            for entries in self.seen.get(shard, []):
                seen[entries] = True
            for file, ids in ledger.unseen(seen).items():
                gone.setdefault(file, []).extend(ids)
        return gone
