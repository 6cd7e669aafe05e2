"""What people see while a run lasts."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.cli.console.output import duration, size
from pipeline.cli.console.progress import Rate, line_of, listener
from pipeline.events.kinds import Progressed
from pipeline.graph import progress as progress_module
from pipeline.graph.progress import COUNTED, OTHER_STAGES, STAGES, Progress


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
    assert line_of(progress, 0.0) == "listed 5,000+ · to label 4,000 · processed 1,000 · failed 0"
    complete = Progress(
        "labelling", 5000, listing_complete=True, done_before=1000, todo=4000, labelled=1000
    )
    assert line_of(complete, 50.0).endswith("50.0 img/s · 1m00s left")
    loading = replace(progress, stage="loading")
    assert line_of(loading, 0.0) == "loading the model · listed 5,000+ · to label 4,000"


@pytest.mark.parametrize("stage", [*STAGES, *OTHER_STAGES, "decoding alone"])
def test_every_stage_says_what_it_waits_for(stage: str) -> None:
    line = line_of(Progress(stage), 0.0)
    words = (STAGES | OTHER_STAGES).get(stage, stage)
    assert line.startswith("listed" if stage == "labelling" else words)


def test_stages_of_the_code_are_those_that_are_told() -> None:
    package = Path(progress_module.__file__).parents[1]
    files = [path for path in package.rglob("*.py") if path.stem != "bench"]
    told = {name for path in files for name in re.findall(r'Progress\("(\w+)"', path.read_text())}
    assert told | {*COUNTED} == {*STAGES, *OTHER_STAGES}
    described = Progressed.model_fields["stage"].description or ""
    assert set(re.findall(r"`(\w+)`", described)) == set(STAGES) - {"importing"}


def test_lines_of_a_log_carry_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    with listener(silent=False) as listen:
        assert listen is not None
        listen(Progress("model"))
        listen(Progress("labelling", listed=7, todo=7))
        listen(Progress("labelling", listed=8, todo=8))
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d checking the model", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d listed 7\+ · to label 7 · processed 0 · failed 0", second)


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
