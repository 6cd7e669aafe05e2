"""Folders that nobody else can change: made private, or refused with a line that says why."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import Exit, UnsafeFolderError
from pipeline.storage import guarded_folder, private_folder

INSTEAD = "let THIS name another"
STRANGER = 12345
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refusal(path: Path, check: Callable[[Path, str], Path] = private_folder) -> str:
    with pytest.raises(UnsafeFolderError) as caught:
        check(path, INSTEAD)
    assert caught.value.exit_code == Exit.USAGE
    told = str(caught.value)
    assert told.endswith(INSTEAD)
    assert "\n" not in told
    return told


def folder(path: Path, bits: int = 0o755) -> Path:
    path.mkdir(parents=True)
    path.chmod(bits)
    return path


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_it_is_made_with_its_parents_for_this_user_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = private_folder(tmp_path / "a" / "b" / "c", INSTEAD)
    finally:
        os.umask(before)
    assert made == tmp_path / "a" / "b" / "c"
    assert [mode(made), mode(made.parent), mode(made.parent.parent)] == [0o700] * 3


def test_what_others_could_only_read_is_closed_to_them(tmp_path: Path) -> None:
    own = folder(tmp_path / "own", 0o755)
    (own / "kept").write_text("kept")
    assert private_folder(own, INSTEAD) == own
    assert mode(own) == 0o700
    assert (own / "kept").read_text() == "kept"


@pytest.mark.parametrize("bits", [0o777, 0o757, 0o707, 0o1777, 0o702])
@pytest.mark.parametrize("check", [private_folder, guarded_folder])
def test_one_that_others_can_write_to_is_refused(
    tmp_path: Path, bits: int, check: Callable[[Path, str], Path]
) -> None:
    open_to_all = folder(tmp_path / "open", bits)
    told = refusal(open_to_all, check)
    assert f"other users can write to {open_to_all} (mode {bits:04o})" in told
    assert "remove it" in told
    assert mode(open_to_all) == bits, "closing it would hide what was planted"


@needs_root
@pytest.mark.parametrize("check", [private_folder, guarded_folder])
def test_one_of_another_user_is_refused(tmp_path: Path, check: Callable[[Path, str], Path]) -> None:
    theirs = folder(tmp_path / "theirs", 0o700)
    os.chown(theirs, STRANGER, STRANGER)
    assert f"{theirs} belongs to another user (uid {STRANGER})" in refusal(theirs, check)
    assert f"{theirs} belongs to another user" in refusal(folder(theirs / "below"), check)


def test_whoever_is_not_its_owner_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, me = folder(tmp_path / "own", 0o700), os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert f"belongs to another user (uid {me})" in refusal(own)


@needs_root
def test_one_that_a_group_can_write_to_is_refused_unless_it_is_roots(tmp_path: Path) -> None:
    shared = folder(tmp_path / "shared", 0o770)
    os.chown(shared, os.geteuid(), STRANGER)
    assert "(mode 0770)" in refusal(shared)
    assert f"chmod go-w {shared}" in refusal(folder(shared / "below"))
    os.chown(shared, os.geteuid(), 0)
    assert mode(private_folder(shared, INSTEAD)) == 0o700


@pytest.mark.parametrize("bits", [0o777, 0o757])
@pytest.mark.parametrize("check", [private_folder, guarded_folder])
def test_a_parent_in_which_others_could_replace_it_is_refused(
    tmp_path: Path, bits: int, check: Callable[[Path, str], Path]
) -> None:
    parent = folder(tmp_path / "parent", bits)
    below = folder(parent / "x" / "own", 0o700)
    assert f"chmod go-w {parent}" in refusal(below, check)
    parent.chmod(bits | stat.S_ISVTX)
    assert check(below, INSTEAD) == below


def test_nothing_is_made_below_such_a_parent(tmp_path: Path) -> None:
    parent = folder(tmp_path / "parent", 0o777)
    refusal(parent / "own")
    assert list(parent.iterdir()) == []


@needs_root
def test_a_link_of_another_user_is_refused_wherever_it_lies(tmp_path: Path) -> None:
    own = folder(tmp_path / "own", 0o700)
    sticky = folder(tmp_path / "sticky", 0o1777)
    link = sticky / "cache"
    link.symlink_to(own)
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    assert f"{link} belongs to another user" in refusal(link)
    assert f"{link} belongs to another user" in refusal(link / "below")
    assert list(own.iterdir()) == []


def test_ones_own_link_is_followed_and_looked_through(tmp_path: Path) -> None:
    own = folder(tmp_path / "disk" / "own", 0o700)
    (tmp_path / "link").symlink_to("disk/../disk/own")
    assert private_folder(tmp_path / "link", INSTEAD) == own
    assert private_folder(tmp_path / "link" / ".." / "own", INSTEAD) == own
    (tmp_path / "disk").chmod(0o777)
    assert f"chmod go-w {tmp_path}/disk" in refusal(tmp_path / "link")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(OSError, match="symbolic links"):
        private_folder(tmp_path / "one", INSTEAD)


def test_a_file_in_the_way_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError):
            private_folder(path, INSTEAD)


def test_guarding_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        guarded_folder(tmp_path / "none", INSTEAD)
    assert list(tmp_path.iterdir()) == []


def test_processes_that_make_it_at_once_agree(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; "
        "from pipeline.storage.local.private import private_folder;"
        "print(private_folder(Path(sys.argv[1]), ''))"
    )
    target = tmp_path / "a" / "b" / "c" / "d"
    started = [
        subprocess.Popen([sys.executable, "-c", code, target], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [one.communicate()[0].strip() for one in started] == [str(target)] * 4
    assert mode(target) == 0o700
