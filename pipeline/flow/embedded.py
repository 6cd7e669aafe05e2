"""A Ray of our own: only what the graph needs of it, and started without waiting in vain.

Beside its store and its scheduler Ray starts a job server, an autoscaler's monitor and a reader of
logs, each a Python that imports for a second. Its agent wants one port on every machine, and where
another Ray has that, or had it a moment ago, tries again for three seconds before it does without.
And Ray asks whether its node is there, sleeps for five seconds if not, and asks again: a slow
machine's is there a little later.

The names below are not public: used nowhere else, one that a Ray lacks is left alone, and what
comes of it is tested.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from time import monotonic, sleep
from typing import Any, Final

import ray
from ray._private import node, ray_constants, services
from ray._private.state import GlobalState

from pipeline.heap import ONE_HEAP

UNUSED: Final = ("start_api_server", "start_monitor", "start_log_monitor")
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
            stack.enter_context(replaced(node.Node, name, lambda _: nothing))
        stack.enter_context(replaced(node.Node, "start_ray_processes", _with_any_port))
        stack.enter_context(replaced(services, "get_node", _once_it_is_there))
        yield


def metrics_once() -> dict[str, bool]:
    """System config of a Ray of our own: the first of a process exports its metrics, no later one.

    Ray's core keeps what exports them for as long as the process lives, and waits ten seconds at
    each shutdown for every one whose Ray is gone.
    """
    first = next(_STARTED) == 0
    known = hasattr(ray_constants, "RAY_ENABLE_OPEN_TELEMETRY")
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


@contextmanager
def replaced(owner: Any, name: str, instead: Callable[[Any], Any]) -> Iterator[None]:
    """`owner` has what `instead` makes of its own `name` meanwhile; nothing where it has none."""
    if not hasattr(owner, name):
        yield
        return
    own = getattr(owner, name)
    setattr(owner, name, instead(own))
    try:
        yield
    finally:
        setattr(owner, name, own)


def ours() -> Any | None:
    """The Ray that this process started, None where it has none or is connected to another's."""
    started = getattr(ray._private.worker, "_global_node", None)
    return started if started is not None and started.is_head() else None


def end_at_once() -> None:
    """Let `ray.shutdown` kill an embedded Ray's processes: 0.3 s and not 5.

    It would ask each to end, which they don't hear (see session.py), and wait a second for
    each. They hold nothing that is not committed.
    """
    if (started := ours()) is not None:
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
        state, until = _state_of(address), monotonic() + WAIT_SECONDS
        while monotonic() < until and all(one["NodeID"] != node_id for one in state.node_table()):
            sleep(LOOK_SECONDS)
        return get_node(address, node_id)

    return ask


def _state_of(address: str) -> GlobalState:
    options = ray._raylet.GcsClientOptions.create(
        address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False
    )
    state = GlobalState()
    state._initialize_global_state(options)
    return state
