"""Deadlines and ages of objects, as a specification takes them."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from pipeline.spec import (
    deadline_at,
    since_at,
)

NOW = datetime(2026, 3, 14, 22, 30, 15, tzinfo=timezone(timedelta(hours=1)))


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets this machine's zone for a test."""

    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("6h", timedelta(hours=6)),
        ("90m", timedelta(minutes=90)),
        ("1h30m", timedelta(minutes=90)),
        ("45s", timedelta(seconds=45)),
        ("23:00", timedelta(minutes=29, seconds=45)),
        ("06:30", timedelta(hours=7, minutes=59, seconds=45)),
        ("22:30", timedelta(hours=23, minutes=59, seconds=45)),
    ],
)
def test_a_deadline_is_a_duration_or_the_next_clock_time(
    zone: Callable[[str], None], text: str, wait: timedelta
) -> None:
    zone("Europe/Berlin")
    assert deadline_at(text, NOW) - NOW == wait
    assert deadline_at(text, NOW.astimezone(UTC)) - NOW == wait


@pytest.mark.parametrize(
    ("now", "text", "at"),
    [
        # Clocks go from 2 to 3 on 29 March, at 1 UTC.
        ("2026-03-28T22:00+01:00", "06:30", "2026-03-29T06:30+02:00"),
        ("2026-03-29T01:59+01:00", "06:30", "2026-03-29T06:30+02:00"),
        ("2026-03-28T22:00+01:00", "01:30", "2026-03-29T01:30+01:00"),
        ("2026-03-28T22:00+01:00", "02:30", "2026-03-29T03:30+02:00"),  # there is none
        ("2026-03-29T03:40+02:00", "02:30", "2026-03-30T02:30+02:00"),
        ("2026-03-29T22:00+02:00", "06:30", "2026-03-30T06:30+02:00"),
        # And from 3 to 2 on 25 October, again at 1 UTC.
        ("2026-10-24T22:00+02:00", "06:30", "2026-10-25T06:30+01:00"),
        ("2026-10-25T02:45+02:00", "06:30", "2026-10-25T06:30+01:00"),
        ("2026-10-24T22:00+02:00", "02:30", "2026-10-25T02:30+02:00"),  # there are two
        ("2026-10-25T02:45+02:00", "02:30", "2026-10-25T02:30+01:00"),
        ("2026-10-25T02:45+01:00", "02:30", "2026-10-26T02:30+01:00"),
        ("2026-10-25T22:00+01:00", "06:30", "2026-10-26T06:30+01:00"),
    ],
)
def test_a_clock_time_is_the_wall_clocks_where_it_is_changed(
    zone: Callable[[str], None], now: str, text: str, at: str
) -> None:
    zone("Europe/Berlin")
    found = deadline_at(text, datetime.fromisoformat(now))
    assert found.isoformat(timespec="minutes") == at
    zone("America/Los_Angeles")  # a moment that a job ships is the same anywhere
    assert deadline_at(found.isoformat(), NOW) == found


def test_a_duration_does_not_heed_the_clock(zone: Callable[[str], None]) -> None:
    zone("Europe/Berlin")
    before = datetime(2026, 3, 28, 22, tzinfo=timezone(timedelta(hours=1)))
    assert deadline_at("8h30m", before).astimezone(UTC) == datetime(2026, 3, 29, 5, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "6", "h", "-1h", "1d", "6:5", "24:00", "12:60", "1m1h"])
def test_anything_else_is_no_deadline(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        deadline_at(text, NOW)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("7d", "2026-03-07T22:30:15+01:00"),
        ("36h", "2026-03-13T10:30:15+01:00"),
        ("1d12h30m", "2026-03-13T10:00:15+01:00"),
        ("2026-03-01T06:00+01:00", "2026-03-01T05:00:00Z"),
        ("2026-03-01T06:00:30Z", "2026-03-01T06:00:30Z"),
        # In this machine's zone, by the clocks of that day: Berlin's summer begins on 29 March.
        ("2026-03-29", "2026-03-29T00:00:00+01:00"),
        ("2026-03-30", "2026-03-30T00:00:00+02:00"),
        ("2026-03-30T06:00", "2026-03-30T06:00:00+02:00"),
    ],
)
def test_modified_since_is_a_date_a_time_or_a_duration(
    text: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        assert since_at(text, NOW) == datetime.fromisoformat(moment)
    time.tzset()


@pytest.mark.parametrize(
    "text", ["", "7", "d", "-1d", "7d ", "1h1d", "2026-3-1", "2026-13-01", "06:30", "9" * 30 + "d"]
)
def test_anything_else_is_no_modified_since(text: str) -> None:
    with pytest.raises(ValueError, match=r"give a date|before all dates"):
        since_at(text, NOW)
