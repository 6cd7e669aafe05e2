"""Events reach a file or a bucket, whatever else happens, and hold nobody up."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import SpecError, StoreError
from pipeline.events.kinds import Committed
from pipeline.events.log import EventLog
from pipeline.storage import Folder
from tests.parts.servers.s3 import S3Server

RUN = "20260131T020000Z-00000000"


def event(number: int) -> Committed:
    return Committed(run_id=RUN, dst="labels", version=number, rows=1, errors=0, total=number)


def told(lines: bytes) -> list[int]:
    return [json.loads(line)["version"] for line in lines.splitlines()]


def close(log: EventLog) -> None:
    assert log.close(10) is None


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("night.jsonl", "night.jsonl"),
        ("deep/er/night.log", "deep/er/night.log"),
        ("there", f"there/{RUN}.jsonl"),
        ("new/", f"new/{RUN}.jsonl"),
    ],
)
def test_lines_are_appended(tmp_path: Path, target: str, file: str) -> None:
    (tmp_path / "there").mkdir()
    for first in (0, 10):
        log = EventLog.open(f"{tmp_path}/{target}", RUN)
        for number in range(first, first + 10):
            log.add(event(number))
        close(log)
    assert told((tmp_path / file).read_bytes()) == list(range(20))


@pytest.mark.s3
@pytest.mark.parametrize(
    ("target", "file"), [("", f"{RUN}.jsonl"), ("/", f"{RUN}.jsonl"), ("/a/b.jsonl", "a/b.jsonl")]
)
def test_a_bucket_has_all_lines_of_the_run(s3: S3Server, target: str, file: str) -> None:
    bucket = s3.bucket()
    log = EventLog.open(f"{bucket}/events{target}", RUN)
    for number in range(1000):
        log.add(event(number))
    close(log)
    assert told(Folder(f"{bucket}/events").read(file)) == list(range(1000))


@pytest.mark.s3
def test_a_target_that_is_no_use_is_told_at_once(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    bucket = s3.bucket()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for target in (f"{tmp_path}/file/night.jsonl", f"{bucket}/events", "ftp://h/x"):
        with pytest.raises(SpecError, match="events="):
            EventLog.open(target, RUN)


class Away:
    """A target that fails the first times."""

    every = 0.0

    def __init__(self, failures: int) -> None:
        self.failures, self.lines = failures, b""

    def write(self, lines: bytes) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise StoreError("it is away")
        self.lines += lines


def test_what_could_not_be_written_is_written_later() -> None:
    target = Away(3)
    log = EventLog(target)
    for number in range(5):
        log.add(event(number))
        while target.failures > 2 - number:
            pass
    close(log)
    assert told(target.lines) == list(range(5))


def test_what_stays_unwritten_is_told_at_the_end() -> None:
    log = EventLog(Away(10**6))
    log.add(event(0))
    assert log.close(10) == "it is away"


def test_a_target_that_hangs_holds_nobody_up() -> None:
    free = threading.Event()

    class Hanging:
        every = 0.0

        def write(self, lines: bytes) -> None:
            free.wait(60)

    log = EventLog(Hanging())
    log.add(event(0))
    assert log.close(0.1) == "not written in time"
    free.set()


def test_lines_of_a_while_are_written_together() -> None:
    writes: list[Any] = []

    class Slow:
        every = 3600.0

        def write(self, lines: bytes) -> None:
            writes.append(told(lines))

    log = EventLog(Slow())
    for number in range(7):
        log.add(event(number))
    close(log)
    assert writes == [list(range(7))]


def test_a_link_that_another_put_in_a_shared_folder_is_refused(tmp_path: Path) -> None:
    """By the name of the file, and by that of a folder, in which the run's id is the name."""
    shared, victim = tmp_path / "shared", tmp_path / "victim"
    shared.mkdir()
    shared.chmod(0o1777)
    victim.write_bytes(b"mine")
    for name in ("night.jsonl", f"{RUN}.jsonl"):
        (shared / name).symlink_to(victim)
    for target in (shared / "night.jsonl", shared):
        with pytest.raises(SpecError, match=r"events.*is a symbolic link, and others may"):
            EventLog.open(str(target), RUN)
    assert victim.read_bytes() == b"mine"


def test_a_link_that_comes_later_is_refused_too(tmp_path: Path) -> None:
    shared, victim = tmp_path / "shared", tmp_path / "victim"
    shared.mkdir()
    shared.chmod(0o1777)
    victim.write_bytes(b"mine")
    log = EventLog.open(str(shared / "night.jsonl"), RUN)
    (shared / "night.jsonl").unlink()
    (shared / "night.jsonl").symlink_to(victim)
    log.add(event(1))
    assert "is a symbolic link" in str(log.close(10))
    assert victim.read_bytes() == b"mine"
