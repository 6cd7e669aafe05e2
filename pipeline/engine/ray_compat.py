"""All private names of Ray that we use, and what happens if a Ray version lacks one.

No other file uses a private name; a test checks that. Each is looked up when it is needed. A Ray
without it still starts and labels, with less: `Private` says what is lost. pyproject.toml excludes
Ray versions that were not tested.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.data import DataContext
    from ray.data._internal.execution.interfaces import PhysicalOperator

    #: A stage of a graph, as Ray's backpressure policies see it.
    Stage = PhysicalOperator


class Private(Enum):
    """A private name of Ray, as `module:attribute`. The comments say what is lost without it."""

    # Parts of the start that we skip or change: without them, it takes some seconds longer.
    START_API_SERVER = "ray._private.node:Node.start_api_server"
    START_MONITOR = "ray._private.node:Node.start_monitor"
    START_LOG_MONITOR = "ray._private.node:Node.start_log_monitor"
    START_PROCESSES = "ray._private.node:Node.start_ray_processes"
    GET_NODE = "ray._private.services:get_node"
    GLOBAL_STATE = "ray._private.state:GlobalState"
    GCS_OPTIONS = "ray._raylet:GcsClientOptions"
    # Who started this Ray: without it, shutdown takes 5 seconds, and the graph keeps three actors.
    STARTED_NODE = "ray._private.worker:_global_node"
    # Whether Ray can stop its metrics: without it, a process's third Ray shuts down slowly.
    OPEN_TELEMETRY = "ray._private.ray_constants:RAY_ENABLE_OPEN_TELEMETRY"
    # Loopback and a token of the run: without them, `ray.init` uses Ray's defaults.
    RESOLVE_LOCALHOST = "ray._private.services:resolve_ip_for_localhost"
    CONFIG = "ray._raylet:Config"
    TOKEN_LOADER = "ray._raylet:AuthenticationTokenLoader"  # noqa: S105 - a name of Ray's
    # The command line that others see: without these, all of it.
    ENTRYPOINT_NAME = "ray._private.utils:get_entrypoint_name"
    SET_TITLE = "ray._raylet:setproctitle"
    # Signals: without it, Ray's own handler ends a run at once.
    SIGTERM_HANDLER = "ray._private.utils:set_sigterm_handler"
    # Whether a cluster answers: without these, `ray.init` reports it later and in more words.
    FIND_CLUSTER = "ray._private.services:canonicalize_bootstrap_address"
    GCS_CLIENT = "ray._raylet:InnerGcsClient"
    # Which attempt of a task this is: without it, a block that kills its workers ends the run.
    WORKER = "ray._private.worker:global_worker"
    # What the graph holds: without it, Ray Data's own limits apply, in bytes instead of batches.
    POLICIES = "ray.data._internal.execution.backpressure_policy:"
    # Three actors of Ray Data: without these names, they are started.
    DATASET_ID = "ray.data._internal.stats:_StatsManager.gen_dataset_id_from_stats_actor"
    REGISTER_DATASET = "ray.data._internal.stats:_StatsManager.register_dataset_to_stats_actor"
    UPDATE_METRICS = "ray.data._internal.stats:_StatsManager.update_execution_metrics"
    COORDINATOR = (
        "ray.data._internal.cluster_autoscaler.rate_based_cluster_autoscaler"
        ":DefaultAutoscalingCoordinator"
    )
    LOCATION_TRACKER = (
        "ray.data._internal.execution.operators.actor_pool_map_operator"
        ":get_or_create_actor_location_tracker"
    )
    ACTOR_LOCATIONS = (
        "ray.data._internal.execution.operators.actor_pool_map_operator:get_actor_locations"
    )


def find(name: Private) -> Any | None:
    """Ray's object of this name, or None."""
    module, _, path = name.value.partition(":")
    try:
        found: Any = import_module(module)
    except ImportError:
        return None
    for part in filter(None, path.split(".")):
        found = getattr(found, part, None)
    return found


@contextmanager
def patched(name: Private, instead: Callable[[Any], Any]) -> Iterator[None]:
    """Within the block, replace Ray's object by the result of `instead`; does nothing if Ray has
    none."""
    own = find(name)
    if own is None:
        yield
        return
    module, _, path = name.value.partition(":")
    owner: Any = import_module(module)
    *outer, last = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    setattr(owner, last, instead(own))
    try:
        yield
    finally:
        setattr(owner, last, own)


def attempt_number() -> int:
    """How many times the current Ray task was tried before; 0 if that is not known."""
    core = getattr(find(Private.WORKER), "core_worker", None)
    number = getattr(core, "get_current_task_attempt_number", None)
    return int(number()) if number is not None else 0


def started_node() -> Any | None:
    """The head node that this process started; None if it is connected to another process's Ray."""
    started = find(Private.STARTED_NODE)
    return started if started is not None and started.is_head() else None


def has_tokens() -> bool:
    """Whether this Ray supports tokens, and can be told to read a new one."""
    return find(Private.TOKEN_LOADER) is not None and hasattr(find(Private.CONFIG), "initialize")


def reset_token() -> None:
    """Make Ray read again from the environment whether there is a token, and which; Ray caches
    both."""
    loader, config = find(Private.TOKEN_LOADER), find(Private.CONFIG)
    if loader is not None and config is not None and has_tokens():
        config.initialize("")
        loader.instance().reset_cache()


def node_names(address: str) -> Callable[[], set[str]] | None:
    """The ids of the nodes of the cluster at `address`; None if Ray cannot be asked for that."""
    options, make = find(Private.GCS_OPTIONS), find(Private.GLOBAL_STATE)
    if options is None or make is None or not hasattr(make, "_initialize_global_state"):
        return None
    state = make()
    state._initialize_global_state(
        options.create(address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False)
    )
    return lambda: {node["NodeID"] for node in state.node_table()}


def policy_base() -> Any:
    """The base class of Ray Data's backpressure policies; `object` if it is missing."""
    return getattr(find(Private.POLICIES), "BackpressurePolicy", object)


def limit_by(context: "DataContext", policies: list[type]) -> None:
    """Use these policies to limit a graph, in place of Ray Data's own."""
    key = getattr(find(Private.POLICIES), "ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY", None)
    if key is not None:
        context.op_resource_reservation_enabled = False
        context.set_config(key, policies)
