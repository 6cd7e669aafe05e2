"""What Ray Data would pile up in the driver over a night, and must not.

*Names that wait to be decoded.* Ray Data holds a stage back by the bytes that lie in its object
store. Refs are so small that they lie in the driver's memory, some 200 bytes each: a hundred
million would be 20 GB. So they are held back by their number; a lister that may not go on waits
where it is. *Figures of every block*, a kilobyte a stage, for a report that nobody asks for.

Both are done in a backpressure policy, which Ray Data asks at each turn of its loop. That
interface is not public: used nowhere else, and what it does is tested.
"""

from typing import TYPE_CHECKING, Final

from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    BackpressurePolicy,
)

if TYPE_CHECKING:
    from ray.data import DataContext
    from ray.data._internal.execution.interfaces import PhysicalOperator

_LIMIT: Final = "nightlabel.batches_ahead"
_LISTING: Final = "MapBatches(List)"


def keep_lean(context: "DataContext", batches_ahead: int) -> None:
    """Let at most so many batches wait for a decoder, beside those that are on their way."""
    context.set_config(_LIMIT, batches_ahead)
    policies = [*ENABLED_BACKPRESSURE_POLICIES, ListingAhead, NoHistory]
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, policies)


class ListingAhead(BackpressurePolicy):  # type: ignore[misc]
    """Neither starts a lister nor takes more of one than there is room for."""

    def can_add_input(self, op: "PhysicalOperator") -> bool:
        return op.name != _LISTING or self._room(op) > 0

    def max_task_output_bytes_to_read(self, op: "PhysicalOperator") -> int | None:
        if op.name != _LISTING:
            return None
        # Of the first batch no size is known: one byte lets one through.
        size: float = op.metrics.average_bytes_per_output or 1
        return int(self._room(op) * size)

    def _room(self, op: "PhysicalOperator") -> int:
        """How many more batches may wait for a decoder."""
        waiting = sum(
            self._topology[after].total_enqueued_input_blocks() for after in op.output_dependencies
        )
        limit: int = self._data_context.get_config(_LIMIT)
        return int(max(0, limit - waiting))


class NoHistory(BackpressurePolicy):  # type: ignore[misc]
    """Holds nothing back: forgets what the blocks of each stage took."""

    def can_add_input(self, op: "PhysicalOperator") -> bool:
        for figures in op.get_stats().values():
            figures.clear()
        return True
