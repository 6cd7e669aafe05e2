"""A Ray to run on: the cluster at an address, or a quiet one on this machine."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from pipeline.errors import NightlabelError, PlacementError
from pipeline.flow.placement import local_slots

#: Ray ends the tasks of a machine that runs out of memory, and tries them again for ever.
OOM_RETRIES = 5


@contextmanager
def session(address: str | None) -> Iterator[dict[str, float]]:
    """Connect, or start an embedded Ray; yields the cluster's total resources.

    `address`, else RAY_ADDRESS, names a cluster. A Ray that this process is already
    connected to is used as it is and left as it was.
    """
    if ray.is_initialized():
        yield _resources()
        return
    address = address or os.environ.get("RAY_ADDRESS")
    _start(address)
    try:
        yield _resources()
    finally:
        if address is None:
            _end_at_once()
        ray.shutdown()


def _resources() -> dict[str, float]:
    total = ray.cluster_resources()
    known = ("CPU", "GPU", "memory", "object_store_memory")
    return {name: total[name] for name in known if name in total}


def _start(address: str | None) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    with _unheard(signal.SIGTERM):
        if address is None:
            ray.init(
                "local",
                num_cpus=local_slots(cores()),
                include_dashboard=False,
                _system_config={"task_oom_retries": OOM_RETRIES},
                **quiet,
            )
            return
        try:
            ray.init(address, **quiet)
        except ConnectionError as error:
            raise PlacementError(f"no Ray cluster answers at {address}: {error}") from None


def _end_at_once() -> None:
    """Let `ray.shutdown` kill an embedded Ray's processes: 0.3 s and not 5.

    It would ask each to end, which they don't hear (see `_unheard`), and wait a second for
    each. They hold nothing that is not committed.
    """
    node = getattr(ray._private.worker, "_global_node", None)
    if node is not None:
        kill = node.kill_all_processes
        node.kill_all_processes = lambda **_: kill(check_alive=False, allow_graceful=False)


@contextmanager
def _unheard(number: signal.Signals) -> Iterator[None]:
    """Processes started meanwhile inherit a blocked signal, as Ray itself does with SIGINT.

    A supervisor that ends a whole process group must not end the workers before the driver
    has committed what they made. They end with the driver all the same. Ray's own handler,
    which would exit at once, is put back to ours.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    handler = signal.getsignal(number)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def fetch(reference: "ray.ObjectRef") -> Any:
    """`ray.get`, but our own errors come out as they were raised, without Ray's wrapping."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, NightlabelError):
            raise error.cause from None
        raise


def cores() -> int:
    """The cores this process may use, which in a container are fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
