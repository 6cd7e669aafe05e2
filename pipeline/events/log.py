"""Event log: JSON lines to a path or a bucket, written by a thread, so no store delays the run."""

import queue
import threading
import time
from pathlib import Path
from typing import Final, Protocol, Self

from pipeline.errors import DeniedError, MissingError, NightlabelError, SpecError, StoreError
from pipeline.events.kinds import Event
from pipeline.storage import Folder, canonical, local_path, open_to_append, public

#: A bucket has no append: the whole object is rewritten, at most this often.
UPLOAD_SECONDS: Final = 30.0

_ENDINGS: Final = (".jsonl", ".ndjson", ".json", ".log")


class Target(Protocol):
    """Where lines go. `write` gets the new lines, and those of failed writes before."""

    every: float

    def write(self, lines: bytes) -> None: ...


class EventLog:
    """Accepts events without blocking; a thread writes them."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._work, name="events", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, uri: str, run_id: str) -> Self:
        """Raises SpecError for a target that cannot be written to."""
        return cls(_target(uri, run_id))

    def add(self, event: Event) -> None:
        self._queue.put(event.line())

    def close(self, seconds: float) -> str | None:
        """Write what is left, within this time; returns the last problem, if there was one."""
        self._queue.put(None)
        self._thread.join(seconds)
        return "not written in time" if self._thread.is_alive() else self._problem

    def _work(self) -> None:
        lines, more = b"", True
        while more:
            found, more = self._gather(self._target.every)
            lines += found
            try:
                self._target.write(lines)
                lines, self._problem = b"", None
            except NightlabelError as error:
                self._problem = str(error)

    def _gather(self, seconds: float) -> tuple[bytes, bool]:
        """Lines that arrive in this time, or until the log closes, and whether more will come."""
        until = time.monotonic() + seconds
        lines = [self._queue.get()]
        while lines[-1] is not None:
            try:
                lines.append(self._queue.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                break
        return b"".join(line for line in lines if line), lines[-1] is not None


class _File:
    """A file that grows from run to run; see `open_to_append` for links."""

    every = 0.0

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.write(b"")
        except (StoreError, OSError, ValueError) as error:  # the last for a NUL in the name
            raise SpecError("events", str(path), f"cannot be written to: {error}") from None

    def write(self, lines: bytes) -> None:
        try:
            with open_to_append(self._path) as file:
                file.write(lines)
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from None


class _Object:
    """An object in a bucket: all lines of one run."""

    every = UPLOAD_SECONDS

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder, self._name, self._lines = folder, name, b""
        try:
            folder.put(name, b"")
        except (DeniedError, MissingError) as error:
            raise SpecError("events", public(folder.uri), str(error)) from None
        except StoreError:
            pass  # it may be down for a moment; the end of the run reports it if it stays down

    def write(self, lines: bytes) -> None:
        self._folder.put(self._name, self._lines + lines)
        self._lines += lines


def _target(uri: str, run_id: str) -> Target:
    whole = canonical(uri)
    path = local_path(uri)
    if path is not None:
        is_folder = uri.endswith("/") or path.is_dir()
        return _File(path / f"{run_id}.jsonl" if is_folder else path)
    parent, _, name = whole.rpartition("/")
    if not name.endswith(_ENDINGS):
        parent, name = whole.rstrip("/"), f"{run_id}.jsonl"
    try:
        return _Object(Folder(parent), name)
    except SpecError as error:
        raise SpecError("events", public(whole), error.problem) from None
