"""What the graph may hold, and what Ray Data would pile up in the driver over a night.

Ray Data gives each stage a share of the cluster and holds it back by the bytes that lie in its
object store. That starves decoders (docs/design.md), and does nothing about *names that wait to
be decoded*: refs are so small that they lie in the driver's memory, some 200 bytes each, and a
hundred million would be 20 GB. So batches are counted instead, and a lister that may not go on
waits where it is. *Figures of every block*, a kilobyte a stage, go into a report that nobody asks
for; they are cleared.

Ray Data asks a backpressure policy at each turn of its loop.
"""

from typing import TYPE_CHECKING, Any, Final, Self

from pipeline.engine.placement import Bounds
from pipeline.engine.ray_compat import limit_by, policy_base

if TYPE_CHECKING:
    from ray.data import DataContext

    from pipeline.engine.ray_compat import Stage

_BOUNDS: Final = "nightlabel.bounds"
_LISTING: Final = "MapBatches(List)"
_DECODING: Final = "MapBatches(Decode)"


class Live:
    """Bounds that may change while a graph runs: whoever has a copy has this one."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self


def keep_lean(context: "DataContext", bounds: Live) -> None:
    """Let the graph hold so much and no more, whatever Ray Data thinks of its stages' shares."""
    context.set_config(_BOUNDS, bounds)
    limit_by(context, [*_OURS])


class _Bounded(policy_base()):  # type: ignore[misc]
    """Counts batches."""

    @property
    def bounds(self) -> Bounds:
        live: Live = self._data_context.get_config(_BOUNDS)
        return live.bounds

    def waiting_behind(self, op: "Stage") -> int:
        """What came out of `op` and is not worked on yet."""
        after = op.output_dependencies
        return sum(self._topology[one].total_enqueued_input_blocks() for one in after)


class ListingAhead(_Bounded):
    """Neither starts a lister nor takes more of one than there is room for."""

    def can_add_input(self, op: "Stage") -> bool:
        if op.name != _LISTING:
            return True
        return bool(op.num_active_tasks() < self.bounds.listing and self._room(op) > 0)

    def max_task_output_bytes_to_read(self, op: "Stage") -> int | None:
        if op.name != _LISTING:
            return None
        # Of the first batch no size is known: one byte lets one through.
        size: float = op.metrics.average_bytes_per_output or 1
        return int(self._room(op) * size)

    def _room(self, op: "Stage") -> int:
        return max(0, self.bounds.listed - self.waiting_behind(op))


class DecodingAhead(_Bounded):
    """Gives decoders as much as keeps them busy, and no more than predictors have room for."""

    def can_add_input(self, op: "Stage") -> bool:
        if op.name != _DECODING:
            return True
        active = op.num_active_tasks()
        decoded = active + self.waiting_behind(op)
        return bool(active < self.bounds.decoding and decoded < self.bounds.decoded)


class NoHistory(policy_base()):  # type: ignore[misc]
    """Holds nothing back: forgets what the blocks of each stage took."""

    def can_add_input(self, op: "Stage") -> bool:
        for figures in op.get_stats().values():
            figures.clear()
        return True


_OURS: Final = (ListingAhead, DecodingAhead, NoHistory)
