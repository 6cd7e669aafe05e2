"""The watch over a run's processes sees what grows and what does not."""

import subprocess
import sys
from collections.abc import Callable

from tests.parts.processes.watch import Held, Sample, role_of, watch

HOARD = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
hoard = []
for _ in range(30):
    hoard.append(bytearray(b"x") * 5_000_000)
    files = [open("/dev/null") for _ in range(len(hoard))]
    time.sleep(0.1)
child.kill()
child.wait()
os._exit(0)
"""


def test_growth_is_seen_in_the_process_that_grows() -> None:
    process = subprocess.Popen([sys.executable, "-c", HOARD], text=True)
    held = watch(process, every=0.1).held(0.0, 600.0)
    assert held["driver"].growth > 1.0
    assert held["driver"].an_hour > 100 * 2**20
    assert held["driver"].files[1] > held["driver"].files[0] + 5
    assert held["driver"].peak_rss > 100 * 2**20
    assert held["other"].processes == 1
    assert abs(held["other"].files[1] - held["other"].files[0]) < 1  # it starts and sleeps


def test_a_process_has_the_most_telling_of_its_roles() -> None:
    raylet = "/x/ray/core/src/ray/raylet/raylet --python_worker_command=/x/default_worker.py"
    assert role_of(raylet) == "raylet"
    worker = role_of("python /x/ray/_private/workers/default_worker.py", role_of(raylet))
    assert worker == "task worker"
    for stage in ("Predict", "Label"):
        working = role_of(f"ray::MapWorker(MapBatches({stage}))")
        assert role_of("ray::IDLE", working) == "predictor"
    assert role_of("", worker) == worker


def held(files: Callable[[int], int]) -> Held:
    """A process that is looked at every second for five minutes."""
    samples = [Sample(float(at), 1, 2**30, 2**29, files(at), 10) for at in range(300)]
    return Held.of("task worker", samples)


def test_what_leaks_is_told() -> None:
    assert held(lambda at: 30 + at // 10).more_files > 0.3


def test_a_pool_that_is_idle_at_first_has_not_grown() -> None:
    busy = {*range(120, 140), *range(200, 300)}
    assert held(lambda at: 41 if at in busy else 30).more_files == 0
    assert held(lambda at: 30).more_threads == 0
