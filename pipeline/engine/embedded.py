"""A Ray of our own: only what the graph needs of it, and started without waiting in vain.

Beside its store and its scheduler Ray starts a job server, an autoscaler's monitor and a reader of
logs, each a Python that imports for a second. Its agent wants one port on every machine, and where
another Ray has that, or had it a moment ago, tries again for three seconds before it does without.
And Ray asks whether its node is there, sleeps for five seconds if not, and asks again: a slow
machine's is there a little later.

Where a Ray lacks a name of ray_compat.py it does as it does by itself.
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
#: Then Ray's own patience begins.
WAIT_SECONDS: Final = 30.0

_STARTED = count()


@contextmanager
def lean_start() -> Iterator[None]:
    """For `ray.init` of a Ray on this machine."""
    with ExitStack() as stack:
        stack.enter_context(inherited(ONE_HEAP))
        for name in UNUSED:
            stack.enter_context(patched(name, lambda _: nothing))
        stack.enter_context(patched(Private.START_PROCESSES, _with_any_port))
        stack.enter_context(patched(Private.GET_NODE, _once_it_is_there))
        yield


def metrics_once() -> dict[str, bool]:
    """System config of a Ray of our own: the first of a process exports its metrics, no later one.

    Ray's core keeps what exports them for as long as the process lives, and waits ten seconds at
    each shutdown for every one whose Ray is gone.
    """
    first = next(_STARTED) == 0
    known = find(Private.OPEN_TELEMETRY) is not None
    return {} if first or not known else {"enable_open_telemetry": False}


@contextmanager
def inherited(environment: Mapping[str, str]) -> Iterator[None]:
    """Processes started meanwhile have `environment`, where this one has nothing else set."""
    added = {name: value for name, value in environment.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def end_at_once() -> None:
    """Let `ray.shutdown` kill an embedded Ray's processes: 0.3 s and not 5.

    It would ask each to end, which they don't hear (see session.py), and wait a second for
    each. They hold nothing that is not committed.
    """
    if (started := started_node()) is not None:
        kill = started.kill_all_processes
        started.kill_all_processes = lambda **_: kill(check_alive=False, allow_graceful=False)


def nothing(*_: Any, **__: Any) -> None:
    """In the place of a function whose effect is not wanted."""


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
