"""A Ray of our own is nobody else's: not the network's, and no other user's of this machine."""

import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path

import pytest
import ray

from pipeline.engine.private_ray import MODE, TOKEN, private_start
from pipeline.engine.ray_compat import started_node
from pipeline.engine.session import session
from pipeline.errors import UnsafeFolderError
from tests.parts.clusters.ray_environment import ray_environment
from tests.parts.processes.process_tree import below, title

#: A process that takes the address of a Ray, and says whether it may run something there.
FOREIGN = """
import sys
from ray._raylet import GcsClient
try:
    GcsClient(address=sys.argv[1])
except Exception as error:
    sys.exit(type(error).__name__)
"""


@dataclass(frozen=True)
class Listener:
    """One TCP socket on which a process waits for others."""

    process: str
    address: str
    port: int


def sockets_of(pids: list[int]) -> list[Listener]:
    """Every listening TCP socket of some processes, from the kernel's own tables."""
    found = []
    for pid in pids:
        links = _links_of(pid)
        if not links:  # it is gone
            continue
        for table, size in (("tcp", 4), ("tcp6", 16)):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and f"socket:[{words[9]}]" in links:
                    address, _, port = words[1].partition(":")
                    found.append(Listener(title(pid), _address(address, size), int(port, 16)))
    return found


def _links_of(pid: int) -> set[str]:
    found = set()
    with suppress(FileNotFoundError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # this very look
                found.add(str(link.readlink()))
    return found


def _address(code: str, size: int) -> str:
    """The kernel writes words of four bytes in the machine's own order."""
    data = bytes.fromhex(code)
    assert len(data) == size
    words = [data[at : at + 4][::-1] for at in range(0, size, 4)]
    found = ip_address(b"".join(words))
    return str(getattr(found, "ipv4_mapped", None) or found)


def family() -> list[int]:
    return [os.getpid(), *below(os.getpid())]


def run_something() -> list[int]:
    """Have every core work once, so that all of Ray's processes are there."""
    waiting = ray.remote(lambda: os.getpid())
    return ray.get([waiting.remote() for _ in range(8)])


@dataclass(frozen=True)
class Own:
    """A Ray of our own as it runs."""

    address: str
    folder: Path
    token: str
    others: frozenset[Listener]

    def listeners(self) -> list[Listener]:
        """What listens since it was started; servers of other tests may live on beside it."""
        return [one for one in sockets_of(family()) if one not in self.others]


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A place for Ray's files; the paths of its sockets must be short."""
    with tempfile.TemporaryDirectory(prefix="nl-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def own(base: Path) -> Iterator[Own]:
    with ray_environment() as patched:
        patched.setenv("RAY_TMPDIR", str(base))
        # What a person has set for a cluster is not for this one.
        patched.setenv(MODE, "disabled")
        patched.setenv(TOKEN, "of-another-cluster")
        others = frozenset(sockets_of(family()))
        with session(None):
            run_something()
            started = started_node()
            assert started is not None
            raylet = next(pid for pid in family() if "raylet_socket_name" in title(pid))
            held = Path(f"/proc/{raylet}/environ").read_bytes().split(b"\0")
            token = next(v for v in held if v.startswith(f"{TOKEN}=".encode()))
            assert os.environ[MODE] == "disabled"
            assert os.environ[TOKEN] == "of-another-cluster"
            yield Own(
                started.gcs_address,
                Path(started.get_session_dir_path()),
                token.decode().partition("=")[2],
                others,
            )


@pytest.mark.ray
def test_nothing_listens_but_on_loopback(own: Own) -> None:
    listeners = own.listeners()
    named = " ".join(one.process for one in listeners)
    assert "gcs_server" in named
    assert "raylet" in named
    assert "Agent" in named
    assert [one for one in listeners if not ip_address(one.address).is_loopback] == []
    assert own.address.startswith("127.0.0.1:")


def test_the_look_at_sockets_sees_one_that_is_open() -> None:
    with socket.create_server(("", 0)) as opened:
        port = opened.getsockname()[1]
        assert [one.address for one in sockets_of([os.getpid()]) if one.port == port] == ["0.0.0.0"]
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port = opened.getsockname()[1]
        found = [one.address for one in sockets_of([os.getpid()]) if one.port == port]
        assert found == ["127.0.0.1"]


@pytest.mark.ray
def test_the_token_is_of_this_run_and_lies_nowhere(own: Own, base: Path) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", own.token)
    for pid in family():
        try:
            assert own.token.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        except FileNotFoundError:
            continue
    files = [path for path in base.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 10
    assert [path for path in files if own.token.encode() in path.read_bytes()] == []


@pytest.mark.ray
def test_its_files_are_for_no_other_user(own: Own, base: Path) -> None:
    """Its sockets too: who may not enter the folder above them reaches none of them."""
    ours = base / f"ray-{os.geteuid()}"
    assert ours in own.folder.parents
    assert list((own.folder / "sockets").iterdir())
    assert stat.S_IMODE(ours.stat().st_mode) == 0o700
    # Of the sockets of this Ray, none has a name elsewhere.
    lines = Path("/proc/net/unix").read_text().splitlines()
    named = [line.split()[7] for line in lines if own.folder.name in line]
    assert [name for name in named if str(ours) not in name] == []


@pytest.mark.ray
@pytest.mark.parametrize(
    "secrets", [{}, {MODE: "disabled"}, {MODE: "token", TOKEN: "0" * 64}], ids=str
)
def test_no_stranger_is_let_in(own: Own, secrets: dict[str, str]) -> None:
    assert "AuthenticationError" in _knock(own.address, secrets)


@pytest.mark.ray
def test_who_has_the_token_is_let_in(own: Own) -> None:
    assert _knock(own.address, {MODE: "token", TOKEN: own.token}) == ""


def _knock(address: str, secrets: dict[str, str]) -> str:
    """What a client without an old token in its home hears."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= secrets | {"HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", FOREIGN, address],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


@pytest.mark.ray
def test_what_speaks_http_does_nothing_without_it(own: Own) -> None:
    """One page is open to this machine: that of Prometheus, with the figures of the run."""
    refused, pages = 0, []
    for listener in own.listeners():
        for path in ("/", "/api/job_agent/jobs/", "/get_or_create_runtime_env", "/logs"):
            for data in (None, b"{}"):
                url = f"http://127.0.0.1:{listener.port}{path}"
                try:
                    with urllib.request.urlopen(url, data, timeout=5) as answer:
                        pages.append(answer.read())
                except urllib.error.HTTPError as error:
                    refused += error.code == HTTPStatus.UNAUTHORIZED
                except (OSError, HTTPException):
                    continue  # it speaks gRPC
    assert refused >= 16  # the agents, of which the one would run jobs
    assert pages
    assert [page for page in pages if not page.startswith(b"# HELP ")] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_that_another_user_made_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / f"ray-{os.geteuid()}"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(UnsafeFolderError, match="RAY_TMPDIR"), private_start(str(tmp_path)):
        pass


def test_a_parent_in_which_others_could_replace_it_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(UnsafeFolderError, match="RAY_TMPDIR"), private_start(str(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_ours_that_others_could_read_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / f"ray-{os.geteuid()}"
    folder.mkdir(mode=0o755)
    with private_start(str(tmp_path)) as options:
        assert Path(options["_temp_dir"]).parent == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
