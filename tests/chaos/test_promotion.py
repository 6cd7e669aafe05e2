"""Promotion under SIGKILL and races: what readers see is one whole recipe that was asked for."""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pipeline.runs.recipes import drop_recipe, use_recipe
from pipeline.storage import Folder, scheme
from pipeline.store.choice import CURRENT
from pipeline.store.delta.table import Table
from pipeline.store.reader import LabelStore
from tests.chaos.choosers import PART, ROWS, WHOLE, label, started
from tests.chaos.conftest import Worlds
from tests.chaos.processes import night
from tests.chaos.scores import SEED, Scores
from tests.integration.conftest import nightlabel

#: Processes at once, and the longest that they live once they have begun, in seconds.
MANY = 3
LIFE = {"file": 0.5, "s3": 1.5}


class Arena:
    """A store that processes fight over, and what they asked for."""

    def __init__(self, folder: Folder, nest: "subprocess.Popen[str]", log: Path) -> None:
        self.folder, self._nest, self._log = folder, nest, log
        self.life = LIFE[scheme(folder.uri)]
        self.seen: Counter[str] = Counter()

    def start(self, seed: int) -> int:
        assert self._nest.stdin is not None
        assert self._nest.stdout is not None
        self._nest.stdin.write(f"{seed}\n")
        self._nest.stdin.flush()
        return int(self._nest.stdout.readline())

    def words(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def wait(self, words: Iterable[str]) -> None:
        until, left = time.monotonic() + 60, set(words)
        while left := left - set(self.words()):
            assert time.monotonic() < until, left
            time.sleep(0.02)

    def look(self) -> bool:
        """What readers see now; False if it was chosen anew meanwhile, so that nothing is known."""
        before = self.folder.read(CURRENT)
        table = Table.open(self.folder)
        assert table is not None
        rows = Counter[str]()
        for file in table.live():
            rows[file.recipe] += file.num_rows
        if self.folder.read(CURRENT) != before:
            return False
        current = json.loads(before)["recipe"]
        asked = {word.removeprefix("asked ") for word in self.words()} | {WHOLE[0]}
        assert current in asked - {PART}
        assert rows[current] == ROWS, f"{current} was chosen and is not whole: {rows}"
        self.seen[current] += 1
        return True


@contextmanager
def arena(folder: Folder, log: Path) -> Iterator[Arena]:
    folder.ensure()
    label(folder, WHOLE[0], promote=False)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(**started(folder.uri, log), **pipes) as nest:
        try:
            yield Arena(folder, nest, log)
        finally:
            nest.terminate()


def one_run(found: Arena, draw: random.Random) -> None:
    """Some processes at work, each killed at a moment of its own."""
    pids = [found.start(draw.randrange(2**32)) for _ in range(MANY)]
    ends = [(0.0, pid) for pid in pids]
    try:
        found.wait(f"ready {pid}" for pid in pids)
        began = time.monotonic()
        ends = sorted((began + draw.uniform(0.02, found.life), pid) for pid in pids)
        while ends:
            found.look()
            time.sleep(0.01)
            while ends and time.monotonic() >= ends[0][0]:
                os.kill(ends.pop(0)[1], signal.SIGKILL)
    finally:
        for _, pid in ends:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    # What a dead process sent may land yet; then it is the next look's.
    until = time.monotonic() + 10
    while not found.look():
        assert time.monotonic() < until


def many_runs(folder: Folder, log: Path, scores: Scores, runs: int) -> None:
    draw = random.Random(SEED)
    with arena(folder, log) as found:
        for _ in range(runs):
            one_run(found, draw)
            scores.count(f"runs of promotion, use and drop killed ({scheme(folder.uri)})")
    died = [word for word in found.words() if word.startswith("died")]
    assert died == []
    assert sum(word == "done" for word in found.words()) >= runs
    if runs > 100:
        assert found.seen.keys() == set(WHOLE)
    _still_works(folder)


def _still_works(folder: Folder) -> None:
    """Whatever was left half done is finished by the ordinary commands."""
    for recipe in WHOLE:
        label(folder, recipe, promote=False)
    use_recipe(folder.uri, WHOLE[1])
    for recipe in (WHOLE[0], WHOLE[2]):
        assert drop_recipe(folder.uri, recipe).rows == ROWS
    label(folder, WHOLE[0], promote=True)
    assert LabelStore(folder.uri).current() == WHOLE[0]
    assert folder.stat("_nightlabel/lease.json") is None
    assert {"recipe", "choice"} == json.loads(folder.read(CURRENT)).keys()


def test_a_few_runs_of_promotion_are_killed(folder: Folder, tmp_path: Path, scores: Scores) -> None:
    many_runs(folder, tmp_path / "log", scores, 8 if scheme(folder.uri) == "file" else 3)


@pytest.mark.chaos
@pytest.mark.s3
def test_nights_that_promote_are_killed(worlds: Worlds, other_model: Path, scores: Scores) -> None:
    """Real ones, at random moments: readers see the old recipe until the new one is whole."""
    world = worlds(size=400)
    world.settle()
    dst = world.found.dst
    old, whole = LabelStore(dst).current(), LabelStore(dst).count()
    arguments = [*world.arguments, "--new-recipe", "--promote"]
    arguments[arguments.index("--model") + 1] = other_model
    for _ in range(6):
        with night(arguments) as running:
            time.sleep(world.random.uniform(2.0, 10.0))
            killed = not running.over
            running.kill_all()
        scores.count("nights that promote killed", int(killed))
        store = LabelStore(dst)
        assert store.count() == whole
        if (new := store.current()) != old:  # its last deed was done: begin anew
            assert nightlabel("use", dst, old).code == 0
            assert nightlabel("drop", dst, new).code == 0
    ran = nightlabel(*arguments)
    assert ran.code == 0, ran.err
    assert LabelStore(dst).current() == ran.json["recipe"] != old
    assert LabelStore(dst).count() == whole
    world.prove()


@pytest.mark.chaos
def test_200_runs_of_promotion_are_killed(folder: Folder, tmp_path: Path, scores: Scores) -> None:
    many_runs(folder, tmp_path / "log", scores, 200)
