"""Lease: names the run that writes to a label store, so others wait (safety comes from the table's
fencing).

`_nightlabel/lease.json` names the holder. Its age is measured by the store's own clock, never
by ours. A holder that is certainly dead (a process of this host that is gone) is taken
over at once; for one that may be alive we wait one lease period.
"""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipeline.errors import BusyError, MissingError, StoreError
from pipeline.storage import Entry, Folder, public

PATH: Final = "_nightlabel/lease.json"
RENEW_SECONDS: Final = 20.0
DEAD_SECONDS: Final = 90.0
LEASE_BYTES: Final = 16 * 2**10


@dataclass(frozen=True, slots=True)
class Holder:
    """One process that writes, distinct from a later one with the same pid."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    run_id: str
    host: str
    boot_id: str
    pid: int
    started: int  # clock ticks after boot, from /proc/<pid>/stat; 0 if there is none
    token: str

    @classmethod
    def me(cls, run_id: str) -> Self:
        pid = os.getpid()
        return cls(run_id, socket.gethostname(), _boot_id(), pid, _started(pid), uuid4().hex)

    @classmethod
    def parse(cls, data: bytes) -> "Holder | None":
        """A holder as written, or None if this is not a lease of ours."""
        try:
            return _HOLDER.validate_json(data, strict=True)
        except ValidationError:
            return None

    def surely_dead(self) -> bool:
        """True only if this host knows it: it rebooted, or the process is gone."""
        if self.host != socket.gethostname():
            return False
        return self.boot_id != _boot_id() or _started(self.pid) != self.started

    def __str__(self) -> str:
        return f"run {self.run_id} (process {self.pid} on {self.host})"


_HOLDER: Final = TypeAdapter(Holder)


class Lease:
    """Held within the `with` block, renewed by a thread.

    `lost` is set if another process took it, or if the store refused to renew it until it expired;
    then `failure` says why.
    """

    def __init__(self, folder: Folder, run_id: str, *, take_over: bool = False) -> None:
        self._folder, self._take_over = folder, take_over
        self.holder = Holder.me(run_id)
        self.lost = threading.Event()
        self.failure: StoreError | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._acquire()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        # A lease that cannot be released is taken over later; this must not hide how the run ended.
        with suppress(StoreError):
            if self._mine():
                self._folder.delete([PATH])

    def _acquire(self) -> None:
        for _ in range(3):  # the file may vanish or change hands between two reads
            if self._folder.create(PATH, self._document()):
                return
            seen, holder = self._look()
            if seen is None:
                continue
            if self._holds(holder):  # the answer to our own PUT was lost
                return
            self._wait_until_dead(seen, holder)
            if self._folder.replace(PATH, self._document(), seen.etag or "") or self._mine():
                return
        raise BusyError(f"{self._folder.uri}: other runs keep starting here; try again later")

    def _wait_until_dead(self, seen: Entry, holder: Holder | None) -> None:
        if self._take_over or (holder is not None and holder.surely_dead()):
            return
        if holder is not None and holder.host == self.holder.host:
            raise _busy(self._folder, holder)
        # By our own clock too: the file may have any time, even in the future.
        until = time.monotonic() + DEAD_SECONDS
        while (age := self._age(seen)) < DEAD_SECONDS and time.monotonic() < until:
            time.sleep(
                min(RENEW_SECONDS / 4, DEAD_SECONDS - age, max(0.0, until - time.monotonic()))
            )
            now, _ = self._look()
            if now is not None and now.modified != seen.modified:
                raise _busy(self._folder, holder)

    def _look(self) -> tuple[Entry | None, Holder | None]:
        try:
            return self._folder.stat(PATH), read_holder(self._folder)
        except MissingError:
            return None, None

    def _age(self, entry: Entry) -> float:
        """Seconds since the lease was renewed, both times from the store's clock."""
        probe = f"_nightlabel/clock-{self.holder.token}"
        self._folder.put(probe, b"")
        now = self._folder.stat(probe)
        self._folder.delete([probe])
        return (now.modified - entry.modified).total_seconds() if now else 0.0

    def _keep(self) -> None:
        renewed = time.monotonic()
        while not self._done.wait(RENEW_SECONDS):
            try:
                if not self._renew():
                    return self.lost.set()
                renewed = time.monotonic()
            except StoreError as error:  # a store that is down for a moment is no reason to stop
                if time.monotonic() - renewed > DEAD_SECONDS:
                    self.failure = StoreError(
                        f"the lease could not be renewed for {DEAD_SECONDS:.0f} s: {error}"
                    )
                    return self.lost.set()
        return None

    def _renew(self) -> bool:
        # The etag comes from before the read, so what is replaced is what was read.
        seen, holder = self._look()
        if seen is None or not self._holds(holder):
            return False
        return self._folder.replace(PATH, self._document(), seen.etag or "") or self._mine()

    def _mine(self) -> bool:
        return self._holds(self._look()[1])

    def _holds(self, holder: Holder | None) -> bool:
        return holder is not None and holder.token == self.holder.token

    def _document(self) -> bytes:
        return json.dumps(asdict(self.holder), indent=1).encode()


def read_holder(folder: Folder) -> Holder | None:
    """The holder that a store's lease names; None if it is not a lease of ours.

    Raises MissingError if there is none.
    """
    return Holder.parse(folder.read(PATH, at_most=LEASE_BYTES))


def _busy(folder: Folder, holder: Holder | None) -> BusyError:
    if holder is None:
        return BusyError(
            f"{public(folder.uri_of(PATH))} is a lease that this version cannot read, and its "
            "writer is active: update nightlabel, or stop that writer with --take-over"
        )
    return BusyError(
        f"{folder.uri} is being written by {holder}; wait for it, or stop it with --take-over"
    )


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def _started(pid: int) -> int:
    """When a process started, in clock ticks after boot; 0 if it does not exist.

    Field 22 of /proc/<pid>/stat, counted after the command's closing bracket.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields_after_name = stat.rpartition(")")[2].split()
    return 0 if fields_after_name[0] == "Z" else int(fields_after_name[19])
