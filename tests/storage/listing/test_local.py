"""Local disks as they are: odd times, deep folders, closed folders, all sorts of names."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.errors import DeniedError
from pipeline.sources.base import microseconds
from pipeline.storage import Entry, Visit, Want, check_readable, list_pages, read_many, stat
from pipeline.storage.clients.web import _time as web_time
from pipeline.storage.entry import UNKNOWN_TIME, in_utc, moment
from pipeline.storage.listing.pages import fsspec_entry
from pipeline.storage.listing.s3 import _time as s3_time
from tests.parts.processes.unprivileged import as_nobody, shared_folder

YEAR_30828 = 910_692_730_085  # the last that Windows' FILETIME has
SECONDS = (YEAR_30828, YEAR_30828 + 1, 10**15, 10**18, 253_402_300_799, -(10**12), -(10**18), -1)


def entries(folder: Path | str, **options) -> list[Entry]:
    return [entry for page in list_pages(f"file://{folder}/", **options) for entry in page]


def read(entry: Entry) -> bytes | str:
    want = Want(entry.uri, entry.etag, entry.size, microseconds(entry.modified))
    [(_, got)] = read_many([want], max_bytes=2**20)
    return got if isinstance(got, bytes) else str(got.code)


def listed_with(folder: Path, enter=lambda uri: True) -> tuple[list[str], dict[str, str]]:
    """Names relative to `folder`, and what could not be read."""
    unreadable: dict[str, str] = {}
    found = entries(folder, visit=Visit(enter, unreadable.__setitem__))
    skip = len(f"file://{folder}/")
    return [e.uri[skip:] for e in found], {uri[skip:]: why for uri, why in unreadable.items()}


@pytest.fixture
def wide_times() -> Iterator[Path]:
    """A folder whose file system holds 64 bits of seconds."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        probe = Path(name) / "probe"
        probe.touch()
        os.utime(probe, (0, YEAR_30828))
        if probe.stat().st_mtime != YEAR_30828:
            pytest.skip("no file system here holds such times")
        probe.unlink()
        yield Path(name)


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_file_of_any_time_is_listed_and_read(wide_times: Path, seconds: int) -> None:
    (wide_times / "a.jpg").write_bytes(b"x")
    os.utime(wide_times / "a.jpg", (0, seconds))
    [entry] = entries(wide_times)
    assert entries(wide_times) == [stat(entry.uri)] == [entry]
    assert read(entry) == b"x"
    os.utime(wide_times / "a.jpg", (0, seconds - 1))
    assert read(entry) == "changed"
    [later] = entries(wide_times)
    assert later.modified != entry.modified


def test_times_within_the_calendar_are_exact_and_others_are_within_it() -> None:
    for text in ("0001-01-03", "1969-07-20T20:17:40.123456", "9999-12-30"):
        time = datetime.fromisoformat(f"{text}+00:00" if "T" in text else f"{text}T00Z")
        assert moment(microseconds(time)) == time
    found = [moment(sign * (10**18 + n)) for sign in (1, -1) for n in range(1000)]
    assert len(set(found)) == 2000
    for time in found:
        for hours in (-14, 14):
            assert time + timedelta(hours=hours)


@pytest.mark.parametrize("text", ["30828-01-01T00:00:00Z", "0001-01-01T00:00:00+05:00", "x", ""])
def test_a_time_of_s3_that_no_calendar_has_is_unknown(text: str) -> None:
    assert s3_time(text) is UNKNOWN_TIME
    assert s3_time(None) is UNKNOWN_TIME


@pytest.mark.parametrize(
    "text", ["Mon, 01 Jan 30828 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 -0500", "soon", ""]
)
def test_a_time_of_a_web_server_that_no_calendar_has_is_unknown(text: str) -> None:
    assert web_time(text) is None


@pytest.mark.parametrize("value", [1e18, -1e18, 10**18, float("nan"), float("inf"), "soon", None])
def test_a_time_of_another_protocol_may_be_anything(value: object) -> None:
    assert fsspec_entry("x://a", {"size": 1, "mtime": value}).modified.tzinfo is UTC


def test_a_time_without_a_zone_is_taken_for_utc() -> None:
    time = datetime(2026, 1, 2, tzinfo=UTC)
    assert in_utc(time.replace(tzinfo=None)) == in_utc(time) == time


def test_a_folder_that_may_not_be_read_is_told_and_the_rest_listed() -> None:
    with shared_folder() as folder:
        for name in ("a/1.jpg", "closed/2.jpg", "blind/3.jpg", "blind/4.jpg", "z/5.jpg"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"x")
        (folder / "closed").chmod(0)
        (folder / "blind").chmod(0o444)  # its names can be read, and nothing else
        denied = "permission denied"
        found, told = as_nobody(lambda: listed_with(folder))
        assert (found, told) == (["a/1.jpg", "z/5.jpg"], {"blind/": denied, "closed/": denied})
        found, told = as_nobody(lambda: listed_with(folder, lambda uri: "/closed/" not in uri))
        assert (found, told) == (["a/1.jpg", "z/5.jpg"], {"blind/": denied})
        assert "permission" in as_nobody(lambda: _refusal(folder / "closed")).lower()
        for name in ("closed", "blind"):
            (folder / name).chmod(0o755)


def _refusal(folder: Path) -> str:
    with pytest.raises(DeniedError) as caught:
        check_readable(f"file://{folder}/")
    return str(caught.value)


def test_a_link_whose_target_cannot_be_looked_up_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "b").symlink_to("x" * 300)
    assert listed_with(tmp_path) == (["a.jpg"], {"b": "file name too long"})


def test_a_folder_that_vanishes_meanwhile_is_told(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/2.jpg", "c/3.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    from pipeline.storage.listing import local as local_listing

    told: dict[str, str] = {}
    visit = Visit(lambda uri: True, told.__setitem__)
    found = local_listing.walk(f"{tmp_path}/", None, None, visit=visit)
    assert next(found).uri.endswith("a/1.jpg")
    shutil.rmtree(tmp_path / "b")
    assert [entry.uri for entry in found] == [f"file://{tmp_path}/c/3.jpg"]
    assert told == {f"file://{tmp_path}/b/": "no such file or directory"}


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """1,200 folders in each other, with a file in every hundredth: 13 kB of path."""
    top = tmp_path / "deep"
    top.mkdir()
    handle = os.open(top, os.O_RDONLY)
    for level in range(1200):
        os.mkdir("folder-nam", dir_fd=handle)
        deeper = os.open("folder-nam", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
        if level % 100 == 99:
            file = os.open("é.jpg", os.O_WRONLY | os.O_CREAT, dir_fd=handle)
            os.write(file, b"level %d" % level)
            os.close(file)
    os.close(handle)
    yield top
    subprocess.run(["rm", "-rf", str(top)], check=True)


def test_1200_folders_deep(deep: Path) -> None:
    found, told = listed_with(deep)
    assert told == {}
    assert sorted(name.count("/") for name in found) == list(range(100, 1201, 100))
    assert max(map(len, found)) > 13_000
    listed = entries(deep)
    assert sorted(read(entry) for entry in listed) == sorted(
        b"level %d" % level for level in range(99, 1200, 100)
    )
    assert all(stat(entry.uri) == entry for entry in listed)
    bounds = [None, *(entry.uri for entry in listed[::3]), None]
    pieces = [entries(deep, after=a, until=b) for a, b in pairwise(bounds)]
    assert [entry for piece in pieces for entry in piece] == listed


def test_names_and_kinds_of_all_sorts(tmp_path: Path, monkeypatch) -> None:
    names = ["new\nline.jpg", "bell\a.jpg", "back\\slash.jpg", "100%41.jpg", "#?&;.jpg", " .jpg"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "round").symlink_to(".")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as one:
        monkeypatch.chdir(tmp_path)  # a socket's path is short
        one.bind("socket.jpg")
    found, told = listed_with(tmp_path)
    assert (sorted(found), told) == (sorted(names), {})
    assert sorted(read(entry) for entry in entries(tmp_path)) == sorted(n.encode() for n in names)


def test_what_is_not_entered_is_never_opened(tmp_path: Path) -> None:
    """Python itself tells of each folder and file that it opens."""
    for name in ("in/a.jpg", "out/deep/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    code = f"""
import sys
from pipeline.sources import open_source
from pipeline.spec import make_spec
opened = []
sys.addaudithook(lambda name, args: opened.append(str(args[0]))
                 if name in ("os.scandir", "open", "os.listdir") else None)
source = open_source(make_spec(src={str(tmp_path)!r}, dst="/nowhere", exclude=("out/",)))
source.check()
for shard in source.shards():
    for page in source.refs(shard):
        pass
print(sum("/in" in path for path in opened), sum("/out" in path for path in opened))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    inside, outside = map(int, ran.stdout.split())
    assert inside
    assert not outside
