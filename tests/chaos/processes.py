"""A run as a process among processes, each of which may be killed."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.chaos.scores import Scores
from tests.integration.conftest import Ran, command
from tests.parts.processes.process_tree import below, title

#: No run of these tests takes this long, even on a busy machine.
HANG_SECONDS: Final = 300.0


class Night:
    """A `nightlabel` command that runs in the background."""

    def __init__(self, arguments: list[object], env: Mapping[str, str], folder: Path) -> None:
        self._streams = [(folder / name).open("w+") for name in ("out", "err")]
        self._process = subprocess.Popen(
            command(*arguments),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=self._streams[0],
            stderr=self._streams[1],
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def over(self) -> bool:
        return self._process.poll() is not None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """The driver alone."""
        os.kill(self.pid, number)

    def kill_all(self) -> None:
        """Everything that it started too, as if the power went."""
        for pid in [self.pid, *self.processes()]:
            _kill(pid)

    def kill_at(self, moment: float, *, everyone: bool) -> bool:
        """Kill the driver, or everyone, at a time of the monotonic clock; False if it was over."""
        while time.monotonic() < moment and not self.over:
            time.sleep(0.01)
        if self.over:
            return False
        self.kill_all() if everyone else self.kill()
        return True

    def processes(self, name: str = "") -> list[int]:
        """What it started, at any depth, whose command line holds `name`."""
        return [pid for pid in below(self.pid) if name in title(pid)]

    def kill_one(self, name: str, seconds: float = 120.0) -> bool:
        """SIGKILL the next process of that name; False if the run ended before there was one."""
        until = time.monotonic() + seconds
        while not self.over and time.monotonic() < until:
            for pid in self.processes(name):
                if _kill(pid):
                    return True
            time.sleep(0.005)
        return False

    def end(self, scores: Scores, seconds: float = HANG_SECONDS) -> Ran:
        """Wait for its end; one that does not end is a hang."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            scores.hangs += 1
            self.kill_all()
            raise
        texts = []
        for stream in self._streams:
            stream.seek(0)
            texts.append(stream.read())
        return Ran(code, *texts)

    def close(self) -> None:
        if not self.over:
            self.kill_all()
        self._process.wait()
        for stream in self._streams:
            stream.close()


@contextmanager
def night(arguments: list[object], env: Mapping[str, str] | None = None) -> Iterator[Night]:
    with tempfile.TemporaryDirectory() as folder:
        running = Night(arguments, env or os.environ, Path(folder))
        try:
            yield running
        finally:
            running.close()


def _kill(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False
