"""Single-node stubs: replace three actors of Ray Data when the graph runs on an embedded Ray.

One actor collects statistics for a dashboard. One shares a cluster among datasets and asks an
autoscaler for more. One knows which node an actor is on. An embedded Ray has no dashboard, no other
dataset and no other node, and each actor would be a Python that imports while a model loads.

If Ray lacks one of the names in ray_compat.py, that actor is started as usual.
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
    """Within the block, use the stubs."""
    with ExitStack() as stack:
        for name, instead in INSTEAD.items():
            stack.enter_context(patched(name, partial(_rather, instead)))
        yield


class _WholeMachine:
    """Reserves all resources for every caller."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def request_resources(self, *_: Any, **__: Any) -> None: ...

    def cancel_request(self) -> None: ...

    def get_reserved_resources(self) -> dict[str, dict[str, float]]:
        return self._reserved

    @cached_property
    def _reserved(self) -> dict[str, dict[str, float]]:
        return {ray.get_runtime_context().get_node_id(): ray.cluster_resources()}


class _Unheard:
    """Replaces the actor that records where other actors are, and ignores the calls."""

    class update_actor_location:  # noqa: N801 - the name of a method, as `.remote` calls it
        @staticmethod
        def remote(*_: Any) -> None: ...


def _rather(instead: Any, _: Any) -> Any:
    return instead


#: Each private name and its stub. If an actor's node is unknown, a graph uses its first actor.
INSTEAD: Final[dict[Private, Any]] = {
    Private.DATASET_ID: lambda: uuid4().hex,
    Private.REGISTER_DATASET: nothing,
    Private.UPDATE_METRICS: nothing,
    Private.COORDINATOR: _WholeMachine,
    Private.LOCATION_TRACKER: _Unheard,
    Private.ACTOR_LOCATIONS: lambda _: {},
}
