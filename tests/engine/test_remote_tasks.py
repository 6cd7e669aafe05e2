"""Plain tasks of a real Ray."""

import time
from pathlib import Path

from pipeline.engine.placement import io_tasks
from pipeline.engine.remote_tasks import in_tasks


def _stay(folder: Path, number: int) -> tuple[int, int]:
    """How many are here at once, this one included."""
    here = folder / str(number)
    here.touch()
    most = 0
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        most = max(most, sum(1 for _ in folder.iterdir()))
        time.sleep(0.01)
    here.unlink()
    return number, most


def test_no_more_run_side_by_side_than_there_are_slots(two_slots: None, tmp_path: Path) -> None:
    done = list(in_tasks(_stay, [(tmp_path, number) for number in range(8)]))
    assert [number for number, _ in done] == list(range(8))
    assert max(most for _, most in done) == io_tasks(2)


def test_nothing_to_do_is_done(two_slots: None) -> None:
    assert list(in_tasks(_stay, [])) == []
