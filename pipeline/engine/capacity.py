"""A cluster may shrink while a run lasts; one that stays too small would hold it up for ever."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from pipeline.engine.placement import Placement
from pipeline.errors import PlacementError

LOOK_SECONDS: Final = 10.0

#: What a cluster gets to put another node in the place of one that is gone.
PATIENCE_SECONDS: Final = 300.0


class Capacity:
    """Watches whether a cluster still holds a graph. `resources` tells its present totals."""

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

    def check(self) -> Mapping[str, float] | None:
        """The present totals now and then, else None.

        Raises PlacementError where the graph has not had room for longer than `patience`.
        """
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return None
        self._looked = now
        there = self._resources()
        lacking = self._placement.lacking(there)
        if not lacking:
            self._enough = now
        elif now - self._enough > self._patience:
            raise PlacementError(
                f"the cluster has lost nodes: {lacking}, for {self._patience:.0f} s now; what was "
                "committed stays, and the next run goes on with what there is"
            )
        return there
