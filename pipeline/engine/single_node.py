"""Ray Data on a Ray of our own: what it asks of a cluster, answered without a process.

It keeps three actors. One holds figures for a dashboard, one shares a cluster out among datasets
and asks an autoscaler for more, one knows which node an actor is on. Here is no dashboard, no other
dataset and no other node, and each would be a Python that imports while a model loads.

One that a Ray lacks by the name in ray_compat.py is started as ever.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from typing import Any, Final
from uuid import uuid4

import ray

from pipeline.engine.embedded import nothing
from pipeline.engine.ray_compat import Private, patched


@contextmanager
def alone() -> Iterator[None]:
    """For a graph on this machine and no other."""
    with ExitStack() as stack:
        for name, instead in INSTEAD.items():
            stack.enter_context(patched(name, partial(_rather, instead)))
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
INSTEAD: Final[dict[Private, Any]] = {
    Private.DATASET_ID: lambda: uuid4().hex,
    Private.REGISTER_DATASET: nothing,
    Private.UPDATE_METRICS: nothing,
    Private.COORDINATOR: _WholeMachine,
    Private.LOCATION_TRACKER: _Unheard,
    Private.ACTOR_LOCATIONS: lambda _: {},
}
