"""A Ray to run on: the cluster at an address, or a quiet one on this machine."""

import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import ray

from pipeline.engine.address import cluster_address
from pipeline.engine.embedded import end_at_once, lean_start, metrics_once
from pipeline.engine.gcs import check_cluster
from pipeline.engine.placement import Node
from pipeline.engine.private_ray import private_start
from pipeline.engine.process_title import hide_secrets
from pipeline.engine.ray_compat import Private, patched, reset_token
from pipeline.errors import ClusterError, NightlabelError, PlacementError

#: Ray ends the tasks of a machine that runs out of memory, and tries them again for ever.
OOM_RETRIES = 5

#: Less than this for its logs and sockets and Ray hangs, then fails without saying why.
ROOM_BYTES = 64 * 2**20


def _never() -> bool:
    return False


@contextmanager
def session(address: str | None, in_use: Callable[[], bool] = _never) -> Iterator[dict[str, float]]:
    """Connect, or start an embedded Ray; yields the cluster's total resources.

    `address`, else RAY_ADDRESS, names a cluster. A Ray that this process is already
    connected to is used as it is and left as it was, and so is one that is still `in_use` at the
    end. Raises NightlabelError for what Ray raises meanwhile.
    """
    if ray.is_initialized():
        with _border():
            yield totals()
        return
    check_cluster(address)
    address = cluster_address(address)
    _start(address)
    try:
        with _border():
            yield totals()
    finally:
        # Ray aborts the process if it is shut down over a thread that works with it. It ends
        # with this process then.
        if not in_use():
            if address is None:
                end_at_once()
            ray.shutdown()
            if address is None:
                reset_token()


@contextmanager
def _border() -> Iterator[None]:
    try:
        yield
    except ray.exceptions.RayError as error:
        raise ray_error(error) from error


def totals() -> dict[str, float]:
    """What all nodes have, of what matters here."""
    total = ray.cluster_resources()
    known = ("CPU", "GPU", "memory", "object_store_memory")
    return {name: total[name] for name in known if name in total}


def nodes() -> list[Node]:
    """Those that are alive."""
    found = ((node["NodeID"], node["Resources"]) for node in ray.nodes() if node["Alive"])
    return [
        Node(
            name,
            has.get("CPU", 0.0),
            has.get("GPU", 0.0),
            int(has.get("object_store_memory", 0)),
        )
        for name, has in found
    ]


def _start(address: str | None) -> None:
    hide_secrets()
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    with _unheard(signal.SIGTERM), patched(Private.ENTRYPOINT_NAME, _named):
        if address is None:
            _embedded(quiet)
            return
        try:
            ray.init(address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ClusterError(
                f"this machine cannot join the Ray cluster at {address}: {reason} "
                "(--debug shows all)"
            ) from error


def _embedded(quiet: dict[str, Any]) -> None:
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108
    if (free := shutil.disk_usage(folder).free) < ROOM_BYTES:
        raise PlacementError(
            f"{folder} has {free / 2**20:.0f} MB left, and Ray needs it for its files and for what "
            "does not fit in memory: make room in it, or name another folder in RAY_TMPDIR"
        )
    try:
        with lean_start(), private_start(folder) as private:
            ray.init(
                "local",
                num_cpus=cores(),
                include_dashboard=False,
                _system_config={"task_oom_retries": OOM_RETRIES} | metrics_once(),
                **private,
                **quiet,
            )
    except (RuntimeError, OSError) as error:
        reset_token()
        raise PlacementError(
            f"Ray does not start on this machine: {str(error).strip().splitlines()[0]} "
            "(--debug shows all)"
        ) from error


def _named(_: Callable[[], str]) -> Callable[[], str]:
    """Ray shows the whole command line of a driver to all who see the cluster's dashboard, and
    there may be a signed address in it."""
    return lambda: "nightlabel"


@contextmanager
def _unheard(number: signal.Signals) -> Iterator[None]:
    """Processes started meanwhile inherit a blocked signal, as Ray itself does with SIGINT.

    A supervisor that ends a whole process group must not end the workers before the driver
    has committed what they made. They end with the driver all the same. Ray's own handlers,
    which would exit at once with a code of theirs, are not set: another thread of this process
    may hear the signal meanwhile.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        with patched(Private.SIGTERM_HANDLER, lambda _: lambda _: None):
            yield
    finally:
        _hear_first(number)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _hear_first(number: signal.Signals) -> None:
    """Put Python's handler back in its place, with what it calls.

    Ray's core sets another before it, which aborts the process three seconds after a SIGTERM,
    in the midst of a commit.
    """
    handler = signal.getsignal(number)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(number, handler)


def fetch(reference: "ray.ObjectRef") -> Any:
    """`ray.get`, but our own errors come out as they were raised, without Ray's wrapping."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, NightlabelError):
            raise error.cause from None
        raise


def end_process(code: int) -> NoReturn:
    """Exit with `code` at once.

    What is done is done: nothing that threads of libraries do while an interpreter ends may make
    another code of it, or wait.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def ray_error(error: BaseException) -> NightlabelError:
    """What Ray died of, in our own words where they are known."""
    for cause in _causes(error):
        if isinstance(cause, NightlabelError):
            return cause
        for kind, words in _MENDS.items():
            if isinstance(cause, kind):
                return NightlabelError(
                    f"{words}; what was committed stays, and the next run goes on"
                )
    return NightlabelError(
        f"the graph ended early: {str(error).strip().splitlines()[-1]}; what was committed "
        "stays, and the next run goes on (--debug shows all)"
    )


_MENDS: Final[dict[type[Exception], str]] = {
    ray.exceptions.OutOfMemoryError: (
        "the machine ran out of memory and Ray ended workers again and again: use fewer "
        "--predictors, a smaller --batch-size or --max-pixels, or a larger machine"
    ),
    ray.exceptions.OutOfDiskError: (
        "Ray's disk is full, which takes what does not fit in memory: make room in /tmp, or "
        "name another folder in RAY_TMPDIR"
    ),
    ray.exceptions.ObjectStoreFullError: (
        "Ray's object store is full: give the machine more shared memory (/dev/shm), or use "
        "fewer --predictors"
    ),
}


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and whatever Ray wrapped in it."""
    seen: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        if (one := left.pop()) is not None and one not in seen:
            seen.append(one)
            yield one
            left += [getattr(one, "cause", None), one.__cause__]


def cores() -> int:
    """The cores this process may use, which in a container are fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
