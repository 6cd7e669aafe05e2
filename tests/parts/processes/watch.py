"""What the processes of a run hold while it lasts: memory, open files and threads, from /proc.

The kernel counts pages of Ray's object store to every process that has looked at them, so
what a process keeps for itself is its private memory: resident and shared with nobody.
"""

import subprocess
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from tests.parts.processes.process_tree import below, title

MIB: Final = 2**20

#: What a command line must hold for a role; the first that fits. A raylet's holds its workers' too.
_ROLES: Final = {
    "raylet/raylet": "raylet",
    "(Predict)": "predictor",
    "(Label)": "predictor",  # which decodes too
    "Coordinator": "coordinator",
    "Agent": "agent",
    "ray::": "task worker",
    "default_worker": "task worker",
    "gcs_server": "gcs",
    "ray/_private": "agent",
    "ray/dashboard": "agent",
    "": "other",
}
#: The most telling first: a new process is called like the one that made it, and a worker is
#: idle at times.
_TELLING: Final = ("predictor", "coordinator", "task worker", "gcs", "agent", "raylet", "other")


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment; bytes, and seconds since the watch began."""

    at: float
    pid: int
    rss: int
    private: int
    files: int
    threads: int


@dataclass(frozen=True, slots=True)
class Watched:
    """All samples of a run, and the role of each process."""

    samples: Sequence[Sample]
    roles: dict[int, str]

    def held(self, start: float, end: float) -> "dict[str, Held]":
        """By role, what its processes held in the seconds from `start` to `end`."""
        by_role = defaultdict(list)
        for sample in self.samples:
            if start <= sample.at <= end:
                by_role[self.roles[sample.pid]].append(sample)
        return {role: Held.of(role, samples) for role, samples in sorted(by_role.items())}


@dataclass(frozen=True, slots=True)
class Held:
    """One role's processes over a stretch of time, at each moment the largest of them.

    `first` and `last` are mean private bytes of the first and the last third, `an_hour` is the
    slope of the second half. `files` and `threads` are means of those thirds too, and
    `more_files` and `more_threads` are by which share they grew: by the mean, or by the most in
    each half, if that is less. Pools that come and go with the work make each of the two a matter
    of luck; what leaks is in both.
    """

    role: str
    processes: int
    peak_rss: int
    first: float
    last: float
    an_hour: float
    files: tuple[float, float]
    threads: tuple[float, float]
    more_files: float
    more_threads: float

    @classmethod
    def of(cls, role: str, samples: Sequence[Sample]) -> "Held":
        at = np.array([sample.at for sample in samples])
        begin, length = at.min(), max(at.max() - at.min(), 1.0)
        first = [s for s in samples if s.at <= begin + length / 3]
        last = [s for s in samples if s.at >= begin + 2 * length / 3]
        earlier = [s for s in samples if s.at < begin + length / 2]
        later = [s for s in samples if s.at >= begin + length / 2]

        def means(what: str) -> tuple[float, float]:
            return _mean(_largest(first, what)), _mean(_largest(last, what))

        def more(what: str) -> float:
            before, after = means(what)
            most = max(_largest(later, what).values()) / max(_largest(earlier, what).values())
            return min(after / before, most) - 1

        private = means("private")
        by_moment = _largest(later, "private")
        return cls(
            role,
            processes=max(sum(s.at == moment for s in samples) for moment in set(at)),
            peak_rss=max(sample.rss for sample in samples),
            first=private[0],
            last=private[1],
            an_hour=3600 * float(np.polyfit(list(by_moment), list(by_moment.values()), 1)[0]),
            files=means("files"),
            threads=means("threads"),
            more_files=more("files"),
            more_threads=more("threads"),
        )

    @property
    def growth(self) -> float:
        return self.last / self.first - 1

    def __str__(self) -> str:
        return (
            f"{self.role:12} {self.processes:9} {self.peak_rss / MIB:8.0f}  "
            f"{self.first / MIB:9.1f} {self.last / MIB:9.1f} {self.growth:+7.1%} "
            f"{self.an_hour / MIB:+9.1f}  {self.files[0]:5.0f} {self.files[1]:5.0f}  "
            f"{self.threads[0]:7.0f} {self.threads[1]:5.0f}"
        )


HEADER: Final = (
    f"{'':12} {'':9} {'peak RSS':>8}  {'private MB, by third':>19} {'':7} {'slope':>9}  "
    f"{'open files':>11}  {'threads':>13}\n"
    f"{'role':12} {'processes':>9} {'MB':>8}  {'first':>9} {'last':>9} {'change':>7} "
    f"{'MB/h':>9}  {'first':>5} {'last':>5}  {'first':>7} {'last':>5}"
)


def role_of(command: str, before: str | None = None) -> str:
    """A process's role by its command line, or the one seen `before` where that tells more."""
    now = next(role for part, role in _ROLES.items() if part in command)
    return min(now, before or now, key=_TELLING.index)


def watch(process: "subprocess.Popen[str]", every: float = 1.0) -> Watched:
    """Look at `process` and at all that it started, every second, until it ends."""
    began = time.monotonic()
    samples: list[Sample] = []
    roles: dict[int, str] = {}
    while process.poll() is None:
        now = time.monotonic()
        for pid in [process.pid, *below(process.pid)]:
            with suppress(FileNotFoundError, ProcessLookupError):
                samples.append(_look(pid, now - began))
                roles[pid] = role_of(title(pid), roles.get(pid))
        time.sleep(max(0.0, every - (time.monotonic() - now)))
    return Watched(samples, roles | {process.pid: "driver"})


def _look(pid: int, at: float) -> Sample:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    if "VmRSS" not in fields:  # a zombie
        raise ProcessLookupError(pid)

    def size(name: str) -> int:
        return int(fields[name].split()[0]) * 1024

    files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Sample(at, pid, size("VmRSS"), size("RssAnon"), files, int(fields["Threads"]))


def _largest(samples: Sequence[Sample], what: str) -> dict[float, int]:
    """What the process holds that holds the most of it, by moment."""
    largest: dict[float, int] = defaultdict(int)
    for sample in samples:
        largest[sample.at] = max(largest[sample.at], getattr(sample, what))
    return largest


def _mean(by_moment: dict[float, int]) -> float:
    return float(np.mean(list(by_moment.values())))
