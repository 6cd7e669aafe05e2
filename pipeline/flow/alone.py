"""Ray Data on a Ray of our own: what it asks of a cluster, answered without a process.

It keeps three actors. One holds figures for a dashboard, one shares a cluster out among datasets
and asks an autoscaler for more, one knows which node an actor is on. Here is no dashboard, no other
dataset and no other node, and each would be a Python that imports while a model loads.

The names below are not public: used nowhere else, one that Ray Data lacks is left alone, and what
comes of it is tested.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from typing import Any, Final
from uuid import uuid4

import ray
from ray.data._internal import stats
from ray.data._internal.cluster_autoscaler import rate_based_cluster_autoscaler as autoscaler
from ray.data._internal.execution.operators import actor_pool_map_operator as actors

from pipeline.flow.embedded import nothing, replaced


@contextmanager
def alone() -> Iterator[None]:
    """For a graph on this machine and no other."""
    with ExitStack() as stack:
        for owner, name, instead in INSTEAD:
            stack.enter_context(replaced(owner, name, partial(_rather, instead)))
        yield


class _WholeMachine:
    """Reserves all that there is, for whoever asks."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def request_resources(self, *_: Any, **__: Any) -> None: ...

    def cancel_request(self) -> None: ...

    def get_reserved_resources(self) -> dict[str, dict[str, float]]:
        return self._reserved

    @cached_property
    def _reserved(self) -> dict[str, dict[str, float]]:
        return {ray.get_runtime_context().get_node_id(): ray.cluster_resources()}


class _Unheard:
    """In the place of an actor that is told where another one is."""

    class update_actor_location:  # noqa: N801 - the name of a method, as `.remote` calls it
        @staticmethod
        def remote(*_: Any) -> None: ...


def _rather(instead: Any, _: Any) -> Any:
    return instead


#: In whose place stands what. A graph takes an actor whose node is not known to be on its first.
INSTEAD: Final[tuple[tuple[Any, str, Any], ...]] = (
    (stats._StatsManager, "gen_dataset_id_from_stats_actor", lambda: uuid4().hex),
    (stats._StatsManager, "register_dataset_to_stats_actor", nothing),
    (stats._StatsManager, "update_execution_metrics", nothing),
    (autoscaler, "DefaultAutoscalingCoordinator", _WholeMachine),
    (actors, "get_or_create_actor_location_tracker", _Unheard),
    (actors, "get_actor_locations", lambda _: {}),
)
