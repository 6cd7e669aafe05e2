"""A safe path to a local table for delta-rs, which opens files by path and follows every link.

On local disk delta-rs gets a folder that only this process uses, in which `_delta_log` links to the
log's folder, which was opened here without following a link. If that name later becomes something
else in the store, it has no effect: delta-rs writes to the folder that was opened.
"""

import os
import re
import tempfile
import time
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from pipeline.errors import MissingError, StoreError
from pipeline.storage.folder import Folder
from pipeline.storage.local.beneath import Beneath
from pipeline.storage.names.uris import public
from pipeline.storage.translate import border

LOG: Final = "_delta_log"
_PREFIX: Final = "nightlabel-log-"
#: Seconds during which a new folder is certainly in use.
_YOUNG: Final = 60.0
#: Names directly in a store's folder.
_OURS: Final = re.compile(r"_delta_log|_nightlabel|_parts|recipe=.*", re.DOTALL)


class DeltaRoot:
    """`url` is the argument for `DeltaTable`. Valid only in this process, and while it is held.

    Raises MissingError if a local store has no log (unless `make`), and StoreError if a link
    replaces a folder of the store, or anything below its log.
    """

    def __init__(self, folder: Folder, *, make: bool = False) -> None:
        self.url = folder.delta_url
        self._folder = folder
        self._log: int | None = None
        self._link: Path | None = None
        if folder.local is not None:
            with border(folder.uri):
                self._open(folder.local, make)

    def check(self, version: int) -> None:
        """Raises StoreError if the log is not the folder that was opened, or if there is a link
        where the log of `version` belongs."""
        local = self._folder.local
        if local is None or self._log is None:
            return
        with border(self._folder.uri):
            try:
                now = local.folder(LOG)
            except FileNotFoundError:
                raise MissingError(
                    f"{public(self._folder.uri)}: its log is gone; was the folder removed?"
                ) from None
            try:
                same = os.path.samestat(os.fstat(now), os.fstat(self._log))
            finally:
                os.close(now)
            if not same:
                raise StoreError(
                    f"{public(self._folder.uri)}: its log is another folder now: was the store "
                    "moved or copied back meanwhile? Run again"
                )
            local.stat(f"{LOG}/{version:020}.json")
            self._keep_link()

    def _open(self, local: Beneath, make: bool) -> None:
        self._log = local.folder(LOG, make=make)
        weakref.finalize(self, os.close, self._log)
        local.refuse_odd_entries("", _OURS)
        local.refuse_odd_entries(LOG)
        opened = Path(f"/proc/self/fd/{self._log}")
        if not opened.is_dir():
            return  # a system without /proc: the check before is all that can be guaranteed
        _remove_left_over()
        root = Path(tempfile.mkdtemp(prefix=_PREFIX))
        weakref.finalize(self, _remove, root)
        weakref.finalize(self, os.close, _hold(root))
        self._link = root / LOG
        self._link.symlink_to(opened)
        self.url = str(root)

    def _keep_link(self) -> None:
        """Clean-up programs remove old temporary folders, unless a process holds them."""
        if self._link is None or self._log is None:
            return
        try:
            os.utime(self._link, follow_symlinks=False)
            well = os.path.samestat(self._link.stat(), os.fstat(self._log))
        except FileNotFoundError:
            well = False
        if not well:
            raise StoreError(f"{self._link.parent}, a temporary folder in use, was removed")


def _hold(root: Path) -> int:
    """An open folder, marked as in use as long as it is open."""
    import fcntl

    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


@cache
def _remove_left_over() -> None:
    """Remove folders of processes that were killed; once per process."""
    for root in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = root.lstat()
            if status.st_uid == os.geteuid() and time.time() - status.st_mtime > _YOUNG:
                _remove_unheld(root)


def _remove_unheld(root: Path) -> None:
    import fcntl

    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(root)
    finally:
        os.close(handle)


def _remove(root: Path) -> None:
    with suppress(OSError):  # it was cleaned up before
        (root / LOG).unlink(missing_ok=True)
        root.rmdir()
