"""What is installed is what was tested: the wheel made from the sdist, where no checkout is seen.

`make test-wheel` runs this; it is no `test_*.py`, since it installs an environment of 2 GB. The
environment is kept in .venv-wheel; folders, commands and the cluster of the walk are new each time.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.parts.clusters.cluster import free_port
from tests.parts.processes.process_tree import below, title

ROOT = Path(__file__).parents[2]
BUILDER = ROOT / ".venv-build" / "bin" / "python"
ENVIRONMENT = ROOT / ".venv-wheel"
PACKAGES = ("nightlabel", "pipeline")
KERNEL_SOURCES = {"pipeline/images/_resample.c", "pipeline/images/_resample_avx2.h"}
KERNEL = "pipeline/images/_resample.abi3.so"
SECONDS = 180


@dataclass(frozen=True)
class Built:
    sdist: Path
    wheel: Path


def build(out: Path, *options: str) -> Built:
    subprocess.run([BUILDER, ROOT / ".ci" / "wheel.py", out, *options], check=True)
    [sdist], [wheel] = out.glob("*.tar.gz"), out.glob("*.whl")
    return Built(sdist, wheel)


def tracked() -> set[str]:
    """Files of the packages: those that git has, or would add."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES]
    told = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True)
    return {name for name in told.stdout.splitlines() if (ROOT / name).is_file()}


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    before = state_of_the_checkout()
    found = build(tmp_path_factory.mktemp("dist"))
    assert state_of_the_checkout() == before
    return found


def state_of_the_checkout() -> str:
    ignored = ["git", "status", "--porcelain", "--ignored", "--untracked-files=all"]
    told = subprocess.run(ignored, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    ours = (".venv", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache")
    return "\n".join(line for line in told.splitlines() if not any(part in line for part in ours))


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    files = files_of(built.wheel)
    about = {name for name in files if ".dist-info/" in name}
    assert files - about == (tracked() - KERNEL_SOURCES) | {KERNEL}
    assert {name.partition("/")[2] for name in about} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
        "top_level.txt",
    }


def test_the_sdist_holds_what_the_wheel_is_built_from_and_nothing_else(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    ours = tuple(f"{package}/" for package in PACKAGES)
    beside = {name for name in names if not name.startswith((*ours, "nightlabel.egg-info/"))}
    assert {name for name in names if name.startswith(ours)} == tracked()
    assert beside == {
        "LICENSE",
        "MANIFEST.in",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
        "setup.cfg",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other tags")
def test_other_linux_machines_take_the_wheel(built: Built) -> None:
    assert "-cp311-abi3-manylinux" in built.wheel.name


@pytest.fixture(scope="module")
def environment(built: Built) -> Path:
    """Its bin folder: the wheel and what it asks for, by our lock."""
    if not (ENVIRONMENT / "bin" / "python").exists():
        base = getattr(sys, "_base_executable", sys.executable)
        subprocess.run([base, "-m", "venv", ENVIRONMENT], check=True)
    python = ENVIRONMENT / "bin" / "python"
    # The same version may have been built from other files before.
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "nightlabel"], check=True)
    lock = ROOT / "locks" / "cluster.txt"
    subprocess.run([python, ROOT / ".ci" / "install.py", lock, built.wheel], check=True)
    return ENVIRONMENT / "bin"


@dataclass(frozen=True)
class Place:
    """An empty folder, and commands of the environment in it. `token` is that of its clusters."""

    bin: Path
    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def env(self) -> dict[str, str]:
        foreign = ("PYTHON", "RAY_", "VIRTUAL_ENV", "PYTEST")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        ray = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        return kept | ray | {"PATH": f"{self.bin}:/usr/bin:/bin"}

    def run(self, *words: object, code: int = 0) -> str:
        done = subprocess.run(
            [self.bin / str(words[0]), *map(str, words[1:])],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def nightlabel(self, *words: object) -> dict:
        return json.loads(self.run("nightlabel", *words, "--json"))

    def python(self, code: str) -> object:
        # It ends as commands do: threads of libraries may abort an interpreter that ends by itself.
        code = f"import json, os, nightlabel, pipeline; print({code}, flush=True); os._exit(0)"
        return json.loads(self.run("python", "-c", code))

    def rows(self, dst: str) -> dict[str, str | None]:
        columns = f"nightlabel.LabelStore({dst!r}).to_table(['uri', 'label']).to_pydict()"
        found = self.python(f"json.dumps({columns})")
        assert len(set(found["uri"])) == len(found["uri"])
        return dict(zip(found["uri"], found["label"], strict=True))


@pytest.fixture
def place(environment: Path) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="nightlabel-walk-") as name:
        yield Place(environment, Path(name))


@pytest.fixture
def photos(place: Place) -> Path:
    """Fifty photographs of the demo, and its model, as somebody's own."""
    demo = Path(str(place.python("json.dumps(pipeline.__path__[0])"))) / "demo"
    shutil.copytree(demo / "images" / "coat", place.folder / "photos")
    shutil.copytree(demo / "model", place.folder / "vit")
    return place.folder / "photos"


def test_nothing_of_the_checkout_is_seen(place: Place) -> None:
    files = "nightlabel.__file__, pipeline.__file__"
    where = place.python(f"json.dumps([{files}, *__import__('sys').path])")
    assert all(name.startswith(str(ENVIRONMENT / "lib")) for name in where[:2])
    assert str(ROOT) not in where


def test_the_demo(place: Place) -> None:
    told = place.nightlabel("demo")
    assert told["run"]["status"] == "complete"
    assert told["right"] / told["known"] > 0.85
    rows = place.rows("nightlabel-demo")
    assert len(rows) == len(list((ROOT / "pipeline/demo/images").rglob("*.*")))
    assert sum(label is None for label in rows.values()) == 1


def test_a_night_its_proof_and_the_doctor(place: Place, photos: Path) -> None:
    night = ["label", "photos", "labels", "--model", "vit"]
    assert place.nightlabel(*night)["counts"]["labelled"] == 50
    assert place.nightlabel(*night)["counts"]["done"] == 50
    assert set(place.rows("labels")) == {f"file://{path}" for path in photos.iterdir()}
    proof = place.nightlabel("verify", "photos", "labels")
    assert proof["sample"]["agree"] == proof["sample"]["images"] == 16
    findings = place.nightlabel("doctor", "photos", "labels", "--model", "vit")
    assert all(finding["ok"] for finding in findings), findings
    [resizing] = [f["found"] for f in findings if f["check"] == "resizing"]
    assert "Pillow" not in resizing


def test_a_night_on_a_head_of_its_own(place: Place, photos: Path) -> None:
    with_dashboard = ["--include-dashboard", "true", "--disable-usage-stats", "--num-cpus", 2]
    ports = {"port": free_port(), "dashboard-port": free_port()}
    ports |= {"dashboard-agent-listen-port": free_port(), "ray-client-server-port": free_port()}
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        words = ["start", "--head", "--block", "--temp-dir", folder, *with_dashboard]
        words += [f"--{name}={port}" for name, port in ports.items()]
        head = subprocess.Popen(
            [place.bin / "ray", *map(str, words)],
            cwd=place.folder,
            env=place.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        url = f"http://127.0.0.1:{ports['dashboard-port']}"
        try:
            until_it_answers(url, head)
            told = place.nightlabel(
                "submit", photos, place.folder / "labels", "--model", "vit", "--address", url
            )
        finally:
            end(head)
    assert told["status"] == "SUCCEEDED", told
    assert told["summary"]["counts"]["labelled"] == 50
    assert len(place.rows("labels")) == 50


def until_it_answers(url: str, head: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert head.poll() is None, "ray start has ended"
        try:
            urllib.request.urlopen(f"{url}/api/version", timeout=5)
        except urllib.error.HTTPError:
            return  # it wants its token
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(url)


def end(head: subprocess.Popen) -> None:
    started = [head.pid, *below(head.pid)]
    head.send_signal(signal.SIGTERM)
    head.wait(60)
    until = time.monotonic() + 60
    while left := [pid for pid in started if title(pid)]:
        if time.monotonic() > until:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def test_a_machine_without_a_compiler(place: Place, tmp_path: Path) -> None:
    plain = build(tmp_path, "--without-kernel")
    assert files_of(plain.wheel) >= tracked() - KERNEL_SOURCES
    assert KERNEL not in files_of(plain.wheel)
    with zipfile.ZipFile(plain.wheel) as archive:
        archive.extractall(place.folder)  # the current folder comes first
    assert "Pillow" in place.python("json.dumps(__import__('pipeline.images').images.resizing())")
