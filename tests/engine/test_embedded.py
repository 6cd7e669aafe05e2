"""A Ray of our own starts soon, and with nothing that nobody looks at."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import ray
from ray._raylet import AuthenticationMode, AuthenticationTokenLoader, get_authentication_mode

from pipeline.engine.embedded import UNUSED, _once_it_is_there, fast_start
from pipeline.engine.private_ray import MODE, TOKEN
from pipeline.engine.ray_compat import Private, find, reset_token, started_node
from pipeline.engine.session import session
from pipeline.heap import ONE_HEAP
from tests.parts.clusters.ray_environment import ray_environment
from tests.parts.processes.process_tree import below, title

#: The port that the agent of every Ray wants.
AGENT_PORT = 52365


#: How long each of four Rays that worked took to end.
FOUR = """
import json, time
import ray
from pipeline.engine.session import session

seconds = []
for number in range(4):
    with session(None):
        assert ray.get(ray.remote(lambda: number).remote()) == number
        began = time.monotonic()
    seconds.append(time.monotonic() - began)
print(json.dumps(seconds))
"""


def _titles() -> list[str]:
    return [title(pid) for pid in below(os.getpid())]


@pytest.mark.ray
def test_only_what_the_graph_needs_is_started() -> None:
    with session(None):
        started = [title for title in _titles() if "raylet_socket_name" not in title]
        assert any("gcs_server" in title for title in started)
        unused = ("dashboard.py", "autoscaler/_private/monitor.py", "log_monitor.py")
        assert not [name for name in unused if any(name in title for title in started)]
        assert ray.get(ray.remote(lambda: os.getpid()).remote()) != os.getpid()


@pytest.mark.ray
def test_a_port_that_is_taken_costs_no_time() -> None:
    with ExitStack() as stack:
        with suppress(OSError):  # another Ray has it
            stack.enter_context(socket.create_server(("", AGENT_PORT)))
        stack.enter_context(session(None))
        node = started_node()
        assert node is not None
        logs = Path(node.get_logs_dir_path())
        assert "Failed to bind" not in (logs / "dashboard_agent.log").read_text()


@pytest.mark.ray
def test_its_processes_have_one_heap_each_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (name,) = ONE_HEAP
    monkeypatch.delenv(name, raising=False)
    with session(None):
        assert ray.get(ray.remote(lambda: os.environ[name]).remote()) == "1"
        assert name not in os.environ
    monkeypatch.setenv(name, "4")
    with fast_start():
        assert os.environ[name] == "4"
    assert os.environ[name] == "4"


def test_rays_own_start_is_as_it_was() -> None:
    names = (*UNUSED, Private.GET_NODE)
    before = [find(name) for name in names]
    with fast_start():
        assert not any(find(name) is own for name, own in zip(names, before, strict=True))
    assert [find(name) for name in names] == before


@pytest.mark.ray
def test_a_later_ray_of_a_process_ends_as_soon_as_the_first() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FOUR], capture_output=True, text=True, timeout=240, check=True
    )
    seconds = json.loads(done.stdout.splitlines()[-1])
    assert len(seconds) == 4
    assert max(seconds) < 8, "an exporter whose Ray is gone costs ten seconds"


@pytest.mark.ray
def test_a_node_is_asked_for_once_it_is_there() -> None:
    with session(None):
        ours = started_node()
        assert ours is not None
        asked: list[tuple[str, str]] = []
        ask = _once_it_is_there(lambda *which: asked.append(which))
        began = time.monotonic()
        ask(ours.gcs_address, ours._node_id)
        assert asked == [(ours.gcs_address, ours._node_id)]
        assert time.monotonic() - began < 4  # Ray itself sleeps for five


@pytest.mark.ray
def test_a_cluster_gets_its_own_token_again() -> None:
    """Whoever connects to a cluster after a night here does so with what the environment says."""
    with ray_environment() as patched:
        patched.setenv(MODE, "token")
        patched.setenv(TOKEN, "of-a-cluster")
        reset_token()
        with session(None):
            pass
        assert os.environ[TOKEN] == "of-a-cluster"
        assert get_authentication_mode() == AuthenticationMode.TOKEN
        assert AuthenticationTokenLoader.instance().get_raw_token() == "of-a-cluster"
        patched.delenv(MODE)
        patched.delenv(TOKEN)
        reset_token()
        assert get_authentication_mode() == AuthenticationMode.DISABLED


@pytest.mark.ray
def test_who_starts_a_ray_after_a_night_reaches_it() -> None:
    """Ray reads its mode once a process, and sets it in the environment by itself."""
    for _ in range(2):
        with session(None):
            pass
        # Ray's own exporter of metrics waits for that of each Ray before: see metrics_once.
        off = {"enable_open_telemetry": False}
        ray.init("local", num_cpus=1, include_dashboard=False, _system_config=off)
        try:
            assert ray.get(ray.put(1)) == 1
        finally:
            ray.shutdown()
