"""Stops a run whose cluster has shrunk and that labels no more; without this check it would wait
forever."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from pipeline.engine.placement import Placement
from pipeline.errors import PlacementError

LOOK_SECONDS: Final = 10.0

#: Seconds without a block of rows, for a cluster to replace a node that it lost.
PATIENCE_SECONDS: Final = 300.0


class Capacity:
    """Watches whether the graph still fits on the cluster, or goes on with less.

    `resources` returns the cluster's current totals.
    """

    def __init__(
        self,
        placement: Placement,
        resources: Callable[[], Mapping[str, float]],
        *,
        patience: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._placement, self._resources = placement, resources
        self._patience, self._clock = patience, clock
        self._looked = self._enough = clock()
        self._blocks = 0

    def check(self, blocks: int) -> Mapping[str, float] | None:
        """The current totals, read from time to time; None in between. The graph has given so many
        `blocks` of rows until now.

        Raises PlacementError if the graph has not fitted, and no block has come, for longer than
        `patience`.
        """
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return None
        self._looked = now
        there = self._resources()
        lacking = self._placement.lacking(there)
        if not lacking or blocks > self._blocks:
            self._enough, self._blocks = now, blocks
        elif now - self._enough > self._patience:
            raise PlacementError(
                f"the cluster has lost nodes: {lacking}; nothing was labelled for "
                f"{self._patience:.0f} s; what was committed stays, and the next run "
                "continues on the nodes that are left"
            )
        return there
