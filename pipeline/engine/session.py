"""A Ray session: connect to the cluster at an address, or start a quiet Ray on this machine."""

import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import ray

from pipeline.engine.address import cluster_address
from pipeline.engine.embedded import end_at_once, fast_start, metrics_once
from pipeline.engine.gcs import check_cluster
from pipeline.engine.placement import Node
from pipeline.engine.private_ray import private_start
from pipeline.engine.process_title import hide_secrets
from pipeline.engine.ray_compat import Private, patched, reset_token
from pipeline.errors import ClusterError, NightlabelError, PlacementError

#: Ray ends tasks on a machine that runs out of memory, and retries them forever.
OOM_RETRIES = 5

#: Linux has these files where a driver of NVIDIA or AMD is loaded; the last is that of WSL.
GPU_DRIVERS: Final = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))

#: Ray gives a node a resource of this name and its kind of GPU, if it knows the kind.
_GPU_KIND: Final = "accelerator_type:"

#: With less space than this for logs and sockets, Ray hangs, then fails without a reason.
ROOM_BYTES = 64 * 2**20


def _never() -> bool:
    return False


@contextmanager
def session(address: str | None, in_use: Callable[[], bool] = _never) -> Iterator[dict[str, float]]:
    """Connect, or start an embedded Ray; yields the cluster's total resources.

    `address`, else RAY_ADDRESS, names a cluster. A Ray that this process is already
    connected to is used and left as it was. So is a Ray that is still `in_use` at the end.
    Raises NightlabelError for errors that Ray raises within the block.
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
        # Ray aborts the process if it is shut down while a thread uses it; in that case it is left
        # to end with this process.
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


def on_cpus_here(address: str | None) -> bool:
    """Whether a session will be an embedded Ray, on a machine that seems to have no GPU."""
    return cluster_address(address) is None and not gpu_here()


def gpu_here() -> bool:
    """Whether this machine seems to have a GPU of NVIDIA or AMD; torch, which would know, takes
    seconds."""
    return any(driver.exists() for driver in GPU_DRIVERS)


def totals() -> dict[str, float]:
    """The sum over all nodes of the resources that matter here."""
    total = ray.cluster_resources()
    known = ("CPU", "GPU", "memory", "object_store_memory")
    return {name: total[name] for name in known if name in total}


def nodes() -> list[Node]:
    """The nodes that are alive."""
    found = ((node["NodeID"], node["Resources"]) for node in ray.nodes() if node["Alive"])
    return [
        Node(
            name,
            has.get("CPU", 0.0),
            has.get("GPU", 0.0),
            int(has.get("object_store_memory", 0)),
            next((name.removeprefix(_GPU_KIND) for name in has if name.startswith(_GPU_KIND)), ""),
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
        with fast_start(), private_start(folder) as private:
            ray.init(
                "local",
                num_cpus=cores(),
                # Ray also counts GPUs of Apple and Intel, which are not used here.
                num_gpus=None if gpu_here() else 0,
                include_dashboard=False,
                _system_config={"task_oom_retries": OOM_RETRIES} | metrics_once(),
                **private,
                **quiet,
            )
    except Exception as error:
        # Ray raises nothing narrower where its node takes too long to start.
        if not isinstance(error, RuntimeError | OSError) and type(error) is not Exception:
            raise
        reset_token()
        raise PlacementError(
            f"Ray does not start on this machine: {str(error).strip().splitlines()[0]} "
            "(--debug shows all)"
        ) from error


def _named(_: Callable[[], str]) -> Callable[[], str]:
    """Give Ray a command line without secrets: it shows a driver's whole command line to everyone
    who sees the cluster's dashboard, and a signed address may be in it."""
    return lambda: "nightlabel"


@contextmanager
def _unheard(number: signal.Signals) -> Iterator[None]:
    """Block a signal for processes started within the block, as Ray itself does with SIGINT.

    A supervisor that signals a whole process group must not end the workers before the driver
    has committed their results. They still end with the driver. Ray's own handlers,
    which would exit at once with their own code, are not installed: another thread of this process
    may receive the signal within the block.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        with patched(Private.SIGTERM_HANDLER, lambda _: lambda _: None):
            yield
    finally:
        _restore_python_handler(number)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _restore_python_handler(number: signal.Signals) -> None:
    """Restore Python's signal handler, and the function it calls.

    Ray's core installs another in front of it, which aborts the process three seconds after a
    SIGTERM, in the middle of a commit.
    """
    handler = signal.getsignal(number)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(number, handler)


def fetch(reference: "ray.ObjectRef") -> Any:
    """`ray.get`, but our own errors are raised as they were, without Ray's wrapping."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, NightlabelError):
            raise error.cause from None
        raise


def end_process(code: int) -> NoReturn:
    """Exit with `code` at once.

    All work is done. Threads of libraries may otherwise change the exit code, or block, while the
    interpreter shuts down.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def ray_error(error: BaseException) -> NightlabelError:
    """The error that ended Ray, in our own words if it is a known one."""
    for cause in _causes(error):
        if isinstance(cause, NightlabelError):
            return cause
        for kind, words in _MENDS.items():
            if isinstance(cause, kind):
                return NightlabelError(
                    f"{words}; what was committed stays, and the next run continues"
                )
    return NightlabelError(
        f"the graph ended early: {str(error).strip().splitlines()[-1]}; what was committed "
        "stays, and the next run continues (--debug shows all)"
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
    """The error, and every error that Ray wrapped in it."""
    seen: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        if (one := left.pop()) is not None and one not in seen:
            seen.append(one)
            yield one
            left += [getattr(one, "cause", None), one.__cause__]


def cores() -> int:
    """The cores this process may use: in a container, fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
