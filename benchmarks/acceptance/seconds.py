"""What the device did, second by second: by the run's own account, and by nvidia-smi."""

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import ray

from pipeline.graph.coordinator import CoordinatorClient
from pipeline.models.backends.device_time import ACTIVITIES

#: Seconds of the clock → seconds that the device has spent by activity until then.
Total = tuple[float, Mapping[str, float]]
QUERY = ["--query-gpu=timestamp,utilization.gpu", "--format=csv,noheader,nounits", "-l", "1"]
HEAD = ["second", *ACTIVITIES, "nvidia-smi"]


@dataclass
class Seconds:
    """`used`: (seconds of the clock, per cent of the GPU), by nvidia-smi."""

    totals: list[Total] = field(default_factory=list)
    used: list[tuple[float, float]] = field(default_factory=list)

    @property
    def utilisation(self) -> str:
        """The median of what nvidia-smi said while batches came, or nothing."""
        if len(self.totals) < 2:
            return ""
        since, until = self.totals[0][0], self.totals[-1][0]
        seen = sorted(share for at, share in self.used if since <= at <= until)
        return f"{seen[len(seen) // 2]:.0f}%" if seen else ""


@contextmanager
def watched() -> Iterator[Seconds]:
    """Every run of this process meanwhile; `used` is there at the end."""
    seconds = Seconds()
    with TemporaryDirectory() as folder, _smi(Path(folder, "smi")) as said:
        with patch("pipeline.graph.driver_loop.CoordinatorClient", _client(seconds.totals)):
            yield seconds
        seconds.used += parsed(said.read_text() if said.exists() else "")


def rows(seconds: Seconds) -> list[list[str]]:
    """With the columns HEAD: shares of the time between two looks, from the first batch on."""
    found = list[list[str]]()
    looks = [(0.0, dict[str, float]()), *seconds.totals]
    began = seconds.totals[0][0] if seconds.totals else 0.0
    for (_, before), (at, after) in pairwise(looks):
        spent = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in ACTIVITIES}
        if (whole := sum(spent.values())) <= 0:
            continue
        used = [share for when, share in seconds.used if when <= at]
        shares = [f"{amount / whole:.0%}" for amount in spent.values()]
        found.append([f"{at - began:.0f}", *shares, f"{used[-1]:.0f}%" if used else ""])
    return found


def shares(totals: Sequence[Total]) -> list[str]:
    """Of the whole time, by activity."""
    spent = totals[-1][1] if totals else {}
    whole = sum(spent.values())
    return [f"{spent.get(name, 0.0) / whole:.0%}" if whole else "" for name in ACTIVITIES]


def parsed(text: str) -> list[tuple[float, float]]:
    """Lines of nvidia-smi: `2026/11/30 08:15:01.123, 97`. Others are left out."""
    found = list[tuple[float, float]]()
    for line in text.splitlines():
        stamp, _, share = line.partition(",")
        try:
            at = datetime.strptime(stamp.strip(), "%Y/%m/%d %H:%M:%S.%f").astimezone()
            found.append((at.timestamp(), float(share)))
        except ValueError:  # a line that is cut off, or a GPU that does not tell
            continue
    return found


def _client(totals: list[Total]) -> type[CoordinatorClient]:
    """The driver's client, which asks once a second what the device has done."""

    class Watching(CoordinatorClient):
        _last, _question = 0.0, None

        def progress(self) -> tuple[int, dict[str, int]]:
            self._look()
            return super().progress()

        def survey(self) -> Any:
            done, survey = super().survey()
            totals.append((time.time(), survey.device_seconds))
            return done, survey

        def _look(self) -> None:
            question: Any = self._question
            if question is not None and ray.wait([question], timeout=0)[0]:
                if spent := ray.get(question).device_seconds:
                    totals.append((time.time(), spent))
                self._question = None
            elif question is None and time.monotonic() - self._last >= 1.0:
                self._last = time.monotonic()
                self._question = self.actor.survey.remote()

    return Watching


@contextmanager
def _smi(file: Path) -> Iterator[Path]:
    program = shutil.which("nvidia-smi")
    if program is None:
        yield file
        return
    with file.open("w") as out, subprocess.Popen([program, *QUERY], stdout=out) as process:
        try:
            yield file
        finally:
            process.terminate()
