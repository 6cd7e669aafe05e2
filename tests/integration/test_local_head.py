"""The commands of docs/cluster.md that start a head of one's own, run as they stand there."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import Ran, nightlabel
from tests.parts.clusters.cluster import free_port
from tests.parts.models.tiny import image_bytes

pytestmark = [pytest.mark.slow, pytest.mark.ray]

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Head:
    """What the commands left behind: `said` is what they printed."""

    home: Path
    env: dict[str, str]
    said: str
    gcs: str
    url: str

    def job(self, command: str, *options: object, env: Mapping[str, str] | None = None) -> Ran:
        """`command` of the photos, the labels and the model that the page names."""
        ends = [self.home / "photos", self.home / "labels", "--model", self.home / "my-vit"]
        return nightlabel(command, *ends, *options, env=self.env | (env or {}), seconds=120)


def documented(gcs_port: int, url_port: int) -> list[str]:
    """The lines, with ports that are free here; the package is installed, and `ray stop`, which
    ends other people's Rays too, is left to the fixture."""
    section = PAGE.partition("## A head of your own")[2]
    lines = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[0].splitlines()
    assert (lines[0][:11], lines[-1]) == ("pip install", "ray stop")
    # All nodes of a machine share this port unless told otherwise.
    start = f"ray start --dashboard-agent-listen-port={free_port()}"
    return [
        line.replace("6379", str(gcs_port))
        .replace("8265", str(url_port))
        .replace("ray start", start)
        for line in lines[1:-1]
    ]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Head]:
    home = tmp_path_factory.mktemp("home")
    (home / "photos").mkdir()
    for number in range(3):
        (home / "photos" / f"{number}.jpg").write_bytes(image_bytes(number))
    (home / "my-vit").symlink_to(tiny_model)
    gcs_port, url_port = free_port(), free_port()
    # A socket's path may be 107 bytes long, and Ray adds many.
    folder = Path(f"/tmp/head-{gcs_port}")
    folder.mkdir()
    own = {"RAY_TMPDIR": str(folder), "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(home)}
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | own
    script = "\n".join(["set -ex", *documented(gcs_port, url_port), "env > env.txt"])
    try:
        ran = subprocess.run(
            ["bash", "-c", script], cwd=home, env=env, capture_output=True, text=True, timeout=180
        )
        said = ran.stdout + ran.stderr
        assert ran.returncode == 0, said
        exported = dict(
            line.split("=", 1)
            for line in (home / "env.txt").read_text().splitlines()
            if line.startswith("RAY_")
        )
        gcs, url = f"127.0.0.1:{gcs_port}", f"http://127.0.0.1:{url_port}"
        yield Head(home, env | exported, said, gcs, url)
    finally:
        _end(folder)


def _end(folder: Path) -> None:
    """End the processes whose Ray lives in `folder`, and remove it."""
    mark = f"RAY_TMPDIR={folder}".encode()
    until = time.monotonic() + 60
    while left := [int(one.name) for one in Path("/proc").glob("[0-9]*") if _has(one, mark)]:
        assert time.monotonic() < until, left
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    subprocess.run(["rm", "-rf", folder], check=True)


def _has(process: Path, mark: bytes) -> bool:
    try:
        return mark in (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def test_the_documented_commands_label_the_photos(head: Head) -> None:
    assert re.search(r"job nightlabel-\d{4}-\d\d-\d\d-[0-9a-f]{10} submitted", head.said)
    assert re.search(r"labelled +3\n", head.said)
    assert list((head.home / "labels").glob("recipe=*/*.parquet"))


def test_who_lacks_the_token_is_told(head: Head) -> None:
    for other in ({"RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_MODE": "disabled"}):
        for command, address in (("plan", head.gcs), ("submit", head.url)):
            ran = head.job(command, "--address", address, env=other)
            assert ran.code == 1
            # `plan` says its stages too, each behind a time.
            [said] = [line for line in ran.err.splitlines() if line.startswith("nightlabel: ")]
            assert "admits only clients with its token" in said
            assert "Traceback" not in ran.err


def test_ray_finds_it_by_itself(head: Head) -> None:
    for own in ({}, {"RAY_ADDRESS": head.gcs}):
        planned = head.job("plan", "--no-probe", "--address", "auto", env=own)
        assert planned.code == 0, planned.err
