"""Files below a local folder: what is written, by whom, and what two writers do to each other."""

import fcntl
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.storage import Folder, open_to_append
from pipeline.storage.local.beneath import Beneath


@pytest.fixture
def beneath(tmp_path: Path) -> Beneath:
    (tmp_path / "top").mkdir()
    return Beneath(str(tmp_path / "top"))


def test_new_files_have_the_mode_that_the_user_wants(beneath: Beneath) -> None:
    before = os.umask(0o027)
    try:
        beneath.put("a/b", b"x")
        beneath.create("a/c", b"x")
    finally:
        os.umask(before)
    for path, mode in (("a", 0o750), ("a/b", 0o640), ("a/c", 0o640)):
        assert stat.S_IMODE(Path(beneath.top, path).stat().st_mode) == mode


def test_no_half_written_file_is_left(beneath: Beneath) -> None:
    beneath.create("a/one", b"1")
    with pytest.raises(FileExistsError):
        beneath.create("a/one", b"2")
    Path(beneath.top, "a/folder/full").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        beneath.put("a/folder", b"3")
    assert sorted(path.name for path in Path(beneath.top, "a").iterdir()) == ["folder", "one"]


def test_folders_that_another_removes_meanwhile_are_made_again(beneath: Beneath) -> None:
    """A delete takes the folders that are empty at that moment."""

    def write(writer: int) -> None:
        for number in range(200):
            beneath.put(f"a/b/{writer}-{number}", b"x")
            beneath.delete(f"a/b/{writer}-{number}")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert [*beneath.files()] == []


def test_one_of_many_replaces(beneath: Beneath) -> None:
    beneath.put("doc", b"0")
    found = beneath.stat("doc")
    assert found is not None
    gate = threading.Barrier(8)

    def replace(number: int) -> bool:
        gate.wait()
        return beneath.replace("doc", b"%d" % number, found.etag)

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(replace, range(8))) == 1


def test_a_lock_needs_no_right_to_write_unless_it_must(
    beneath: Beneath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS locks what is open for writing alone."""
    tried: list[int] = []
    real = fcntl.flock

    def of_nfs(handle: int, operation: int) -> None:
        access = fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE
        tried.append(access)
        if access == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")
        real(handle, operation)

    Path(beneath.top, "lock").write_bytes(b"of an older version")
    with beneath.locked("lock"):
        pass
    monkeypatch.setattr("fcntl.flock", of_nfs)
    with beneath.locked("lock"):
        pass
    assert tried == [os.O_RDONLY, os.O_RDWR]
    assert Path(beneath.top, "lock").read_bytes() == b"of an older version"


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_walk_leaves_no_folder_open(beneath: Beneath) -> None:
    Path(beneath.top, "link").symlink_to("/")
    before = _open_files()
    for _ in range(20):
        beneath.put("a/b/c", b"x")
        assert [found.path for found in beneath.files()] == ["a/b/c"]
        next(beneath.files("a/"))
        for path in ("link", "link/x", "a/b/c/d"):
            with pytest.raises((StoreError, OSError)), beneath.open(path):
                pass
        with pytest.raises(StoreError, match="link is a symbolic link"):
            beneath.refuse_odd_entries("")
    assert _open_files() == before


def test_folders_too_deep_in_one_another_are_refused(beneath: Beneath) -> None:
    handle = os.open(beneath.top, os.O_RDONLY)
    for _ in range(100):
        os.mkdir("d", dir_fd=handle)
        deeper = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    os.close(handle)
    with pytest.raises(StoreError, match="its folders are nested too deeply"):
        list(Folder(beneath.top).list())


def test_a_pipe_hangs_nobody(beneath: Beneath) -> None:
    os.mkfifo(f"{beneath.top}/pipe")
    for call in (lambda: beneath.stat("pipe"), beneath.open("pipe").__enter__):
        with pytest.raises(StoreError, match="pipe is not a regular file; remove it"):
            call()
    with pytest.raises(StoreError, match="pipe is no"), beneath.locked("pipe"):
        pass


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o777, 0o1777])
def test_a_named_file_is_not_reached_through_another_ones_link(tmp_path: Path, mode: int) -> None:
    """In a folder of one's own a link is one's own; where others write it may be anybody's."""
    folder, victim = tmp_path / "shared", tmp_path / "victim"
    folder.mkdir()
    victim.write_bytes(b"mine")
    (folder / "link").symlink_to(victim)
    (folder / "dangling").symlink_to(tmp_path / "new")
    (folder / "hard").hardlink_to(victim)
    folder.chmod(mode)
    for name in ("link", "dangling", "hard"):
        if mode == 0o755:
            open_to_append(folder / name).close()
        else:
            with pytest.raises(StoreError, match=rf"/{name} .*links?\b.*others may write"):
                open_to_append(folder / name)
    assert (tmp_path / "new").exists() == (mode == 0o755)
    with open_to_append(folder / "log") as file:
        file.write(b"one\n")
    with open_to_append(folder / "log") as file:
        file.write(b"two\n")
    assert (folder / "log").read_bytes() == b"one\ntwo\n"
    assert victim.read_bytes() == b"mine"
