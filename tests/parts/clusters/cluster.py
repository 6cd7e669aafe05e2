"""A Ray cluster of several nodes on this machine, with a job server, each node its own raylet."""

import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.parts.processes.process_tree import below, title
from tests.parts.processes.watch import role_of

#: What ray-cluster.yaml gives a job to commit in.
STOP_SECONDS = 30
END_SECONDS = 60.0


@dataclass(frozen=True)
class LocalCluster:
    """`url` is that of its job server, `address` that of its GCS; Ray's files are in `folder`."""

    url: str
    address: str
    folder: Path
    ray: Any

    def add(self, **resources: int) -> Any:
        """A node with a folder of its own, as on a machine of its own: in a shared one, each node's
        agent would remove the package that a job runs from, and unpack it again."""
        folder = tempfile.mkdtemp(prefix="n", dir=self.folder)
        return self.ray.add_node(
            dashboard_agent_listen_port=free_port(), temp_dir=folder, **resources
        )

    def lose(self, node: Any) -> None:
        """As if its power went."""
        self.ray.remove_node(node, allow_graceful=False)


@contextmanager
def local_cluster() -> Iterator[LocalCluster]:
    """A head that runs no tasks; nodes are up to the test. Its processes end with it."""
    from ray.cluster_utils import Cluster

    port = free_port()
    with (
        pytest.MonkeyPatch.context() as patch,
        # A socket's path may be 107 bytes long, and Ray adds many.
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder,
    ):
        # The Python of a job is found as on any node: by its path.
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        patch.setenv("RAY_JOB_STOP_WAIT_TIME_S", str(STOP_SECONDS))
        patch.delenv("RAY_ADDRESS", raising=False)
        before = set(below(os.getpid()))
        found = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": True,
                "dashboard_port": port,
                # The head's agent starts jobs. All agents have one port by default, and one that
                # finds it taken, by a Ray that is just ending, goes without.
                "dashboard_agent_listen_port": free_port(),
                "temp_dir": folder,
            },
        )
        # As `ray start` does: a job takes any other Ray on this machine for its own without it.
        Path(folder, "ray_current_cluster").write_text(found.address)
        try:
            yield LocalCluster(f"http://127.0.0.1:{port}", found.address, Path(folder), found)
        finally:
            started = _of_ray(before)
            found.shutdown()
            _wait_for_the_last(started)


@contextmanager
def logical_gpus(gpus: int, env: Mapping[str, str] = os.environ) -> Iterator[str]:
    """A cluster of one node with two cores and so many GPUs that only Ray knows of; yields its
    address. Its workers have `env`."""
    from ray.cluster_utils import Cluster

    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder,
    ):
        for name, value in env.items():
            patch.setenv(name, value)
        before = set(below(os.getpid()))
        node = {"num_cpus": 2, "num_gpus": gpus, "include_dashboard": False, "temp_dir": folder}
        found = Cluster(initialize_head=True, head_node_args=node)
        try:
            yield found.address
        finally:
            started = _of_ray(before)
            found.shutdown()
            _wait_for_the_last(started)


def _of_ray(before: set[int]) -> set[int]:
    """Processes of Ray that this one has started since, and what they have started, such as jobs; a
    test may have started others, too."""
    new = set(below(os.getpid())) - before
    ray = {pid for pid in new if role_of(title(pid)) != "other"}
    return ray.union(*map(below, ray))


def _wait_for_the_last(processes: set[int]) -> None:
    """Ray's agents outlive their raylet by a moment, and write into its folder until they end."""
    until = time.monotonic() + END_SECONDS
    while left := [title(pid) for pid in processes if title(pid)]:
        if time.monotonic() > until:
            raise TimeoutError(f"{left} outlive their cluster")
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
