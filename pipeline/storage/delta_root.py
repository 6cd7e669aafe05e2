"""Where delta-rs finds a table: it opens files by path, and follows every link on its way.

On local disk it therefore gets a folder of this process alone, in which `_delta_log` leads to the
log's folder as it was opened here, without following a link. What has that name in the store
later makes no difference: what delta-rs writes goes to the folder that was opened.
"""

import os
import re
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Final

from pipeline.errors import MissingError, StoreError
from pipeline.storage.beneath import Beneath
from pipeline.storage.folder import Folder
from pipeline.storage.translate import border
from pipeline.storage.uris import public

LOG: Final = "_delta_log"
#: What a store has right in its folder.
_OURS: Final = re.compile(r"_delta_log|_nightlabel|_parts|recipe=.*", re.DOTALL)


class DeltaRoot:
    """`url` is what `DeltaTable` takes. Valid in this process alone, and while it is held.

    Raises MissingError where a local store has no log (unless `make`), and StoreError where a link
    stands in for a folder of the store, or for anything below its log.
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
        """Raises StoreError if the log is not the folder that was opened, or another put a link
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
            return  # a system without /proc: what was looked at is all that can be promised
        root = Path(tempfile.mkdtemp(prefix="nightlabel-log-"))
        weakref.finalize(self, _remove, root)
        self._link = root / LOG
        self._link.symlink_to(opened)
        self.url = str(root)

    def _keep_link(self) -> None:
        """Programs that clean up temporary folders take what is old by its times."""
        if self._link is None or self._log is None:
            return
        try:
            os.utime(self._link, follow_symlinks=False)
            well = os.path.samestat(self._link.stat(), os.fstat(self._log))
        except FileNotFoundError:
            well = False
        if not well:
            raise StoreError(f"{self._link.parent}, a temporary folder in use, was removed")


def _remove(root: Path) -> None:
    with suppress(OSError):  # it was cleaned up before
        (root / LOG).unlink(missing_ok=True)
        root.rmdir()
