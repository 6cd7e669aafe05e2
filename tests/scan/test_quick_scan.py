"""A look at the listing, with no Ray: it tells all where nothing is new, and ends where it would
take long."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from pipeline import schema
from pipeline.scan.quick_scan import nothing_to_label
from pipeline.scan.survey import Survey
from pipeline.sources import Source, open_source
from pipeline.sources.lists import gathering
from pipeline.spec import make_spec
from pipeline.store.ledger import Ledger
from tests.store.stores import rows

ROWS, PAGES = 1000, 10


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "BATCH", ROWS // PAGES)


def manifest(folder: Path, names: list[int]) -> Source:
    path = folder / "images.txt"
    path.write_text("".join(f"s3://photos/{name}\n" for name in names))
    return open_source(make_spec(src=str(path), dst=str(folder / "labels")))


def ledger_of(names: range) -> Ledger:
    table = rows(names)
    return Ledger.merged([Ledger.of_file(table, 0, np.full(len(names), True))])


def pages_of(seconds: float) -> Callable[[], float]:
    """A clock by which every page takes `seconds`."""
    ticks: Iterator[int] = count()
    return lambda: next(ticks) * seconds


def look(source: Source, ledger: Ledger, seconds: float = 0.0) -> Survey | None:
    return nothing_to_label(
        source, [ledger], keep_seen=True, retry_errors=False, clock=pages_of(seconds)
    )


def test_without_news_it_is_the_whole_survey(tmp_path: Path) -> None:
    ledger = ledger_of(range(ROWS))
    survey = look(manifest(tmp_path, list(range(ROWS - 1))), ledger)
    assert survey is not None
    assert (survey.counts["listed"], survey.counts["done"]) == (ROWS - 1, ROWS - 1)
    gone = schema.object_id(f"s3://photos/{ROWS - 1}")
    assert survey.unseen([ledger]) == {0: [gone]}


def test_one_new_image_on_the_last_page_is_news(tmp_path: Path) -> None:
    assert look(manifest(tmp_path, list(range(ROWS + 1))), ledger_of(range(ROWS))) is None


@pytest.mark.parametrize(("seconds", "ends"), [(0.5, True), (0.99, True), (1.01, False)])
def test_it_goes_on_only_if_its_pace_ends_it_in_ten_seconds(
    tmp_path: Path, seconds: float, ends: bool
) -> None:
    survey = look(manifest(tmp_path, list(range(ROWS))), ledger_of(range(ROWS)), seconds)
    assert (survey is not None) == ends


def test_three_seconds_are_given_whatever_the_pace(tmp_path: Path) -> None:
    few = manifest(tmp_path, list(range(3 * ROWS // PAGES)))
    huge = ledger_of(range(ROWS * 100))
    assert look(few, huge, 0.99) is not None
    assert look(few, huge, 1.01) is None
