"""Embedded Ray: starts only what the graph needs, without Ray's avoidable waits.

Besides its store and its scheduler Ray starts a job server, an autoscaler monitor and a log
reader, each a Python process that imports for a second. Its agent wants one fixed port on every
machine. If another Ray has that port, or had it a moment ago, the agent retries for three seconds
and then continues without it. Ray also checks once whether its node has registered, and sleeps for
five seconds if not; on a slow machine the node registers just after that check.

If Ray lacks a name of ray_compat.py, Ray's own behaviour applies.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from time import monotonic, sleep
from typing import Any, Final

from pipeline.engine.ray_compat import Private, find, node_names, patched, started_node
from pipeline.heap import ONE_HEAP

UNUSED: Final = (Private.START_API_SERVER, Private.START_MONITOR, Private.START_LOG_MONITOR)
LOOK_SECONDS: Final = 0.02
#: Seconds; after that, Ray's own retries begin.
WAIT_SECONDS: Final = 30.0

_STARTED = count()


@contextmanager
def fast_start() -> Iterator[None]:
    """Within the block, `ray.init` of an embedded Ray starts only what a run needs."""
    with ExitStack() as stack:
        stack.enter_context(inherited(ONE_HEAP))
        for name in UNUSED:
            stack.enter_context(patched(name, lambda _: nothing))
        stack.enter_context(patched(Private.START_PROCESSES, _with_any_port))
        stack.enter_context(patched(Private.GET_NODE, _once_it_is_there))
        yield


def metrics_once() -> dict[str, bool]:
    """System config of an embedded Ray: only the first Ray of a process exports its metrics.

    Ray's core keeps each exporter for as long as the process lives. At each shutdown it waits ten
    seconds for every exporter whose Ray is gone.
    """
    first = next(_STARTED) == 0
    known = find(Private.OPEN_TELEMETRY) is not None
    return {} if first or not known else {"enable_open_telemetry": False}


@contextmanager
def inherited(environment: Mapping[str, str]) -> Iterator[None]:
    """Processes started within the block get `environment`, except variables that are
    set already."""
    added = {name: value for name, value in environment.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def end_at_once() -> None:
    """Let `ray.shutdown` kill an embedded Ray's processes: 0.3 s instead of 5.

    Ray would ask each process to end, which they ignore (see session.py), and wait a second for
    each. They hold nothing that is not committed.
    """
    if (started := started_node()) is not None:
        kill = started.kill_all_processes
        started.kill_all_processes = lambda **_: kill(check_alive=False, allow_graceful=False)


def nothing(*_: Any, **__: Any) -> None:
    """Replaces a function whose effect is not wanted."""


def _with_any_port(start: Callable[[Any], None]) -> Callable[[Any], None]:
    def begin(started: Any) -> None:
        started._ray_params.dashboard_agent_listen_port = 0
        start(started)

    return begin


def _once_it_is_there(get_node: Callable[[str, str], Any]) -> Callable[[str, str], Any]:
    def ask(address: str, node_id: str) -> Any:
        names, until = node_names(address), monotonic() + WAIT_SECONDS
        while names and monotonic() < until and node_id not in names():
            sleep(LOOK_SECONDS)
        return get_node(address, node_id)

    return ask
