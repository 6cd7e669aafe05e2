"""Backpressure policies: limit how many batches the graph holds, and keep the driver's memory flat.

Ray Data gives each stage a share of the cluster and limits it by bytes in the object store. That
starves the decoders (docs/design.md). It also does not limit *refs that wait to be decoded*: they
are so small that they stay in the driver's memory, some 200 bytes each, and a hundred million
would take 20 GB. So we count batches instead, and a lister that has reached its limit waits.
*Statistics of every block*, a kilobyte a stage, go into a report that nobody reads; we clear them.

Ray Data asks a backpressure policy at each turn of its loop.
"""

import time
from typing import TYPE_CHECKING, Any, Final, Self

from pipeline.engine.placement import Bounds
from pipeline.engine.ray_compat import limit_by, policy_base

if TYPE_CHECKING:
    from ray.data import DataContext

    from pipeline.engine.ray_compat import Stage

#: Seconds in which only one lister runs: others would import, for a second each, on the cores that
#: load the network. One lister is enough for a small archive, and for a large one until then.
LISTING_ALONE: Final = 3.0

_BOUNDS: Final = "nightlabel.bounds"
_LISTING: Final = "MapBatches(List)"
_DECODING: Final = "MapBatches(Decode)"


class Live:
    """Bounds that may change while a graph runs: all copies share this one object."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self


def limit_graph(context: "DataContext", bounds: Live) -> None:
    """Limit the graph by `bounds`, in place of Ray Data's own limits for each stage."""
    context.set_config(_BOUNDS, bounds)
    limit_by(context, [*_OURS])


class _Bounded(policy_base()):  # type: ignore[misc]
    """A policy that counts batches."""

    @property
    def bounds(self) -> Bounds:
        live: Live = self._data_context.get_config(_BOUNDS)
        return live.bounds

    def waiting_behind(self, op: "Stage") -> int:
        """Batches that came out of `op` and are not being worked on yet."""
        after = op.output_dependencies
        return sum(self._topology[one].total_enqueued_input_blocks() for one in after)


class ListingAhead(_Bounded):
    """Starts a lister, and takes its output, only while there is room."""

    _began: float | None = None

    def can_add_input(self, op: "Stage") -> bool:
        if op.name != _LISTING:
            return True
        return bool(op.num_active_tasks() < self._listers() and self._room(op) > 0)

    def _listers(self) -> int:
        now = time.monotonic()
        self._began = self._began or now
        return 1 if now - self._began < LISTING_ALONE else self.bounds.listing

    def max_task_output_bytes_to_read(self, op: "Stage") -> int | None:
        if op.name != _LISTING:
            return None
        # The size of the first batch is unknown: one byte lets one batch through.
        size: float = op.metrics.average_bytes_per_output or 1
        return int(self._room(op) * size)

    def _room(self, op: "Stage") -> int:
        return max(0, self.bounds.listed - self.waiting_behind(op))


class DecodingAhead(_Bounded):
    """Keeps decoders busy, but decodes no more than predictors have room for."""

    def can_add_input(self, op: "Stage") -> bool:
        if op.name != _DECODING:
            return True
        active = op.num_active_tasks()
        decoded = active + self.waiting_behind(op)
        return bool(active < self.bounds.decoding and decoded < self.bounds.decoded)


class NoHistory(policy_base()):  # type: ignore[misc]
    """Limits nothing; only clears the statistics of each stage's blocks."""

    def can_add_input(self, op: "Stage") -> bool:
        for figures in op.get_stats().values():
            figures.clear()
        return True


_OURS: Final = (ListingAhead, DecodingAhead, NoHistory)
