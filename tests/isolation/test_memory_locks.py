"""Units of a node's memory: never more than there are, nobody starves, the dead hold nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import PlacementError
from pipeline.isolation import memory_locks
from pipeline.isolation.memory_locks import lock_file

#: Holds units for some seconds, again and again, and notes when: "wanted began ended".
HOLDER = """
import os, sys, time
from pathlib import Path
from pipeline.isolation import memory_locks
from pipeline.isolation.memory_locks import units

folder, wanted, total, seconds, times = sys.argv[1], *map(float, sys.argv[2:])
memory_locks.Path = lambda name: Path(folder) if name == "/dev/shm" else Path(name)
for _ in range(int(times)):
    with units(int(wanted), int(total)):
        began = time.monotonic()
        print("holds", flush=True)
        time.sleep(seconds)
        print(wanted, began, time.monotonic(), flush=True)
"""

TOTAL = 8


class Holders:
    """Processes that share one folder; ended with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.started = folder, list[subprocess.Popen[str]]()

    def start(self, wanted: int, seconds: float, times: int = 1) -> "subprocess.Popen[str]":
        words = [str(one) for one in (self._folder, wanted, TOTAL, seconds, times)]
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *words], stdout=subprocess.PIPE, text=True
        )
        self.started.append(process)
        return process

    def spans(self) -> list[tuple[float, float, float]]:
        lines = [
            line for one in self.started for line in one.communicate(timeout=60)[0].split("\n")
        ]
        return [tuple(map(float, line.split())) for line in lines if line[:1].isdigit()]  # type: ignore[misc]


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[Holders]:
    found = Holders(tmp_path)
    yield found
    for process in found.started:
        process.kill()
        process.wait()


def holds(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"


def test_there_is_never_more_held_than_there_is(holders: Holders) -> None:
    for wanted, times in ((1, 12), (3, 8), (5, 6), (8, 3), (99, 2), (3, 8)):
        holders.start(wanted, 0.02, times)
    spans = holders.spans()
    assert len(spans) == 39  # none waited for ever
    for _, moment, _ in spans:
        held = sum(min(wanted, TOTAL) for wanted, began, ended in spans if began <= moment < ended)
        assert held <= TOTAL
    assert any(
        one is not other and one[1] < other[2] and other[1] < one[2]
        for one in spans
        for other in spans
    )  # side by side where there is room


def test_what_needs_all_is_not_overtaken_for_ever(holders: Holders) -> None:
    small = [holders.start(2, 0.05, 60) for _ in range(5)]
    for process in small:
        holds(process)
    began = time.monotonic()
    large = holders.start(TOTAL, 0.01)
    holds(large)
    assert time.monotonic() - began < 30
    assert any(process.poll() is None for process in small)  # they were at it all the while


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_dies_holds_nothing(holders: Holders, number: int) -> None:
    first = holders.start(TOTAL, 600)
    holds(first)
    second, third = holders.start(TOTAL, 0.01), holders.start(1, 0.01)
    time.sleep(0.5)  # one of them has the turn and waits for units, the other for the turn
    os.kill(second.pid, number)
    os.kill(first.pid, number)
    holds(third)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """`lock_file` with two folders of the test in the place of /dev/shm and the temporary one."""
    for name in ("shm", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(memory_locks, "gettempdir", lambda: str(tmp_path / "tmp"))
    real = Path
    fake = lambda name: real(tmp_path / "shm") if name == "/dev/shm" else real(name)  # noqa: E731
    monkeypatch.setattr(memory_locks, "Path", fake)
    lock_file.cache_clear()
    opened: list[int] = []

    def ask() -> int:
        opened.append(lock_file())
        return opened[-1]

    yield ask
    for file in opened:
        os.close(file)
    lock_file.cache_clear()


NAME = f"nightlabel-{os.geteuid()}"


def test_only_this_user_may_enter(tmp_path: Path, places: Callable[[], int]) -> None:
    places()
    folder = tmp_path / "shm" / NAME
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "memory").stat().st_mode & 0o777 == 0o600


def _link(folder: Path) -> None:
    folder.symlink_to(folder.parent.parent / "guarded")


def _open_to_all(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def _file(folder: Path) -> None:
    folder.write_text("no folder")


def _linked_file(folder: Path) -> None:
    folder.mkdir(0o700)
    (folder / "memory").symlink_to(folder.parent.parent / "guarded" / "file")


def _pipe(folder: Path) -> None:
    folder.mkdir(0o700)
    os.mkfifo(folder / "memory", 0o600)


def _foreign(folder: Path) -> None:
    folder.mkdir(0o700)
    os.chown(folder, 12345, 12345)


SQUATS = [_link, _open_to_all, _file, _linked_file, _pipe, _foreign]


@pytest.mark.parametrize("squat", SQUATS)
def test_what_another_put_there_is_not_touched(
    squat: Callable[[Path], None], tmp_path: Path, places: Callable[[], int]
) -> None:
    if squat is _foreign and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    guarded = tmp_path / "guarded"
    guarded.mkdir()
    (guarded / "file").write_text("precious")
    squat(tmp_path / "shm" / NAME)
    places()
    assert (tmp_path / "tmp" / NAME / "memory").exists()
    assert [path.name for path in guarded.iterdir()] == ["file"]
    assert (guarded / "file").read_text() == "precious"


def test_without_a_private_folder_it_says_what_to_do(
    tmp_path: Path, places: Callable[[], int]
) -> None:
    for name in ("shm", "tmp"):
        _open_to_all(tmp_path / name / NAME)
    with pytest.raises(PlacementError, match=f"{NAME}.*remove what is there"):
        places()
