"""What people see while a run lasts."""

import pytest

from pipeline.cli.output import duration, size
from pipeline.cli.progress import Rate, line_of
from pipeline.flow.stream import Progress


def test_the_rate_counts_from_the_first_image() -> None:
    rate = Rate()
    assert [rate.add(float(now), 0) for now in range(30)] == [0.0] * 30
    assert rate.add(30.0, 50) == 50.0
    assert rate.add(31.0, 100) == 50.0


def test_the_rate_is_that_of_the_last_twenty_seconds() -> None:
    rate = Rate()
    for now in range(60):
        rate.add(float(now), now * 10)
    for now in range(60, 81):
        found = rate.add(float(now), 590 + (now - 59) * 30)
    assert found == pytest.approx(30.0)


def test_a_line_tells_how_far_it_is() -> None:
    progress = Progress("labelling", listed=5000, done_before=1000, todo=4000, labelled=1000)
    assert line_of(progress, 0.0) == "listed 5,000+ · done 2,000 · errors 0"
    complete = Progress(
        "labelling", 5000, listing_complete=True, done_before=1000, todo=4000, labelled=1000
    )
    assert line_of(complete, 50.0).endswith("50.0 img/s · 1m00s left")
    assert line_of(Progress("merging"), 50.0) == "merging"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0s"), (59.9, "59.9s"), (61, "1m01s"), (7500, "2h05m")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(999, "999 B"), (1500, "1.5 KB"), (2.5e9, "2.5 GB"), (7e15, "7000.0 TB")]
)
def test_sizes(count: float, words: str) -> None:
    assert size(count) == words
