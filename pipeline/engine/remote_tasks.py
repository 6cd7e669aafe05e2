"""Plain Ray tasks outside the graph."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import ray

from pipeline.engine.placement import IO_SHARE, io_tasks
from pipeline.engine.session import fetch

if TYPE_CHECKING:
    from ray import ObjectRef


def in_tasks(
    function: Callable[..., Any],
    calls: Iterable[tuple[Any, ...]],
    options: Mapping[str, Any] | None = None,
) -> Iterator[Any]:
    """The results of `function` for each tuple of arguments, in the same order.

    At most as many run at once as the cluster has CPU slots: each takes a worker process.
    `options` are Ray's, and say where to run.
    """
    task = ray.remote(num_cpus=IO_SHARE, **(options or {}))(function)
    most = io_tasks(ray.cluster_resources().get("CPU", 0.0))
    running: deque[ObjectRef] = deque()
    for call in calls:
        if len(running) == most:
            yield fetch(running.popleft())
        running.append(task.remote(*call))
    while running:
        yield fetch(running.popleft())
