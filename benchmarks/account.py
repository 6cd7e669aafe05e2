"""Where the cores' time of a run goes while labels come, by kind of process.

A process is looked at twice a second; what it does between the last look and its end is not
seen, and is told as time that nobody took.
"""

import os
import subprocess
import tempfile
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.race import Contender, environ, rows_of, steady_part
from tests.parts.archives.real_archives import ROOT
from tests.parts.processes.process_tree import below, stat, title
from tests.parts.processes.watch import role_of

EVERY: Final = 0.5
TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
NOBODY: Final = "idle, or the machine's other guests"


@dataclass
class Process:
    """One process of a run: seconds of a core that it has had, at moments of `time.time`."""

    role: str = "other"
    moments: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def until(self, moment: float) -> float:
        seen = bisect_right(self.moments, moment)
        return self.seconds[seen - 1] if seen else 0.0


def account(contender: Contender, images: Path, model: Path) -> dict[str, float]:
    """One run: milliseconds of a core an image by kind of process, from the first labels on.

    Those of all kinds and of NOBODY are together what this machine's cores had to give until
    the last labels.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out = Path(folder) / "out"
        processes = _watched([str(part) for part in contender.command(images, model, out)])
        first, last, rows = steady_part(rows_of(out))
    spent = _spent(processes, first, last)
    return {role: 1000 * seconds / rows for role, seconds in spent.items()}


def _watched(command: Sequence[str]) -> list[Process]:
    processes: dict[int, Process] = defaultdict(Process)
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=log, cwd=ROOT, env=environ()
        ) as driver,
    ):
        try:
            while driver.poll() is None:
                for pid in [driver.pid, *below(driver.pid)]:
                    with suppress(FileNotFoundError, ProcessLookupError):
                        _look(pid, processes[pid])
                time.sleep(EVERY)
        finally:
            driver.terminate()  # it has ended, unless this is interrupted
        if driver.returncode:
            log.seek(0)
            raise RuntimeError(
                f"{command[0]} ended with {driver.returncode}:\n{log.read()[-4000:]}"
            )
    processes[driver.pid].role = "driver"
    return list(processes.values())


def _look(pid: int, process: Process) -> None:
    fields = stat(pid)
    process.role = role_of(title(pid), process.role)
    process.moments.append(time.time())
    process.seconds.append((int(fields[11]) + int(fields[12])) * TICK)


def _spent(processes: Sequence[Process], first: float, last: float) -> dict[str, float]:
    """Seconds of a core by role, largest first."""
    spent: dict[str, float] = defaultdict(float)
    for process in processes:
        spent[process.role] += process.until(last) - process.until(first)
    spent[NOBODY] = (os.cpu_count() or 1) * (last - first) - sum(spent.values())
    return dict(sorted(spent.items(), key=lambda share: -share[1]))
