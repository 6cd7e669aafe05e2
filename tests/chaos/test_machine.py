"""A machine that lacks something: disk, memory, room for objects, the right to write."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.integration.conftest import Ran, nightlabel
from tests.parts.models.tiny import archive, make_model


def mount(folder: Path, *options: str) -> bool:
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True)
    return done.returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount(folder, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        pytest.skip("a small disk must be mounted, which this user may not do")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, *, but: int = 0) -> Path:
    """Take all the room there is, but for `but` bytes; returns the file that took it."""
    filler = folder / "filler"
    filler.write_bytes(bytes(max(0, free(folder) - but)))
    return filler


def free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


class Night:
    """Images on local disk, labels at `labels`."""

    def __init__(self, root: Path, labels: Path, count: int = 100) -> None:
        self.photos, self.labels = root / "photos", labels
        self.model = make_model(root / "model")
        self.add(archive(count))

    def add(self, objects: dict[str, bytes]) -> None:
        for name, data in objects.items():
            path = self.photos / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def label(self, *options: object, **env: str) -> Ran:
        arguments = [self.photos, self.labels, "--model", self.model, "--json", *options]
        return nightlabel("label", *arguments, env={**os.environ, **env})

    def uris(self) -> list[str]:
        rows = DeltaTable(self.labels).to_pyarrow_table(columns=["uri"])["uri"].to_pylist()
        return sorted(rows)

    def completes(self) -> None:
        ran = self.label()
        assert ran.code == 0, ran.err
        assert self.uris() == sorted(path.as_uri() for path in self.photos.rglob("*.jpg"))


def fails(ran: Ran, words: str) -> None:
    """With exit 1 and one line, which holds `words`."""
    assert ran.code == 1, ran.err
    assert "Traceback" not in ran.err
    [line] = [line for line in ran.err.splitlines() if line.startswith("nightlabel: ")]
    assert words in line


@pytest.mark.ray
def test_labels_on_a_disk_that_may_not_be_written(tmp_path: Path, disk: Path) -> None:
    night = Night(tmp_path, disk / "labels")
    assert mount(disk, "-o", "remount,ro")
    fails(night.label(), "read-only file system; give a folder that can be written to")
    assert mount(disk, "-o", "remount,rw")
    filler = fill(disk)
    fails(night.label(), "no space left; make room there and run again")
    filler.unlink()


@pytest.mark.chaos
def test_labels_on_a_disk_that_fills_up(tmp_path: Path, disk: Path) -> None:
    """In the middle of a night: what is true stays so, and the next night goes on."""
    night = Night(tmp_path, disk / "labels")
    assert night.label("--max-images", 20).code == 4
    before = night.uris()
    filler = fill(disk, but=12_000)
    fails(night.label(), "no space left; make room there and run again")
    assert set(night.uris()) >= set(before)
    filler.unlink()
    night.completes()


@pytest.mark.ray
def test_the_disk_of_ray_is_full(tmp_path: Path, disk: Path) -> None:
    night = Night(tmp_path, tmp_path / "labels")
    fails(
        night.label(RAY_TMPDIR=str(disk)), "make room in it, or name another folder in RAY_TMPDIR"
    )


@pytest.mark.chaos
def test_the_machine_has_no_memory(tmp_path: Path) -> None:
    """Ray ends workers above a share of the machine's memory; here that is always so."""
    night = Night(tmp_path, tmp_path / "labels")
    scarce = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100"}
    began = time.monotonic()
    fails(night.label(**scarce), "ran out of memory")
    assert time.monotonic() - began < 240
    night.completes()
