"""One job of a night and a specification, however often it is asked for."""

import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from pipeline.cluster.nights import checked, job_id, night_of, nights_after
from pipeline.errors import SpecError
from pipeline.spec import LabelSpec, make_spec

ENDS = {"src": "photos", "dst": "labels", "model": "vit"}


def spec(**fields: Any) -> LabelSpec:
    return make_spec(**{"src": "s3://b/in", "dst": "s3://b/out", **fields})


def test_a_night_goes_from_noon_to_noon_in_utc() -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    for later in (timedelta(0), timedelta(hours=11), timedelta(hours=23, minutes=59)):
        assert night_of(noon + later) == "2026-01-31"
    assert night_of(noon - timedelta(seconds=1)) == "2026-01-30"


def test_the_same_is_the_same_job() -> None:
    first = job_id(spec(), "2026-01-31", 1)
    assert first.startswith("nightlabel-2026-01-31-")
    for aside in ("address", "events", "notify"):
        assert job_id(spec(**{aside: "http://head:8265"}), "2026-01-31", 1) == first
    assert job_id(spec(), "2026-01-31", 2) == f"{first}-2"


@pytest.mark.parametrize("other", [{"top_k": 3}, {"dst": "s3://b/other"}, {"deadline": "6h"}])
def test_what_does_something_else_is_another(other: dict[str, Any]) -> None:
    assert job_id(spec(**other), "n", 1) != job_id(spec(), "n", 1)


def test_another_signature_is_the_same_job() -> None:
    one, two = (spec(src=f"https://a.example/list.csv?X-Amz-Signature={n}") for n in "12")
    assert job_id(one, "n", 1) == job_id(two, "n", 1)


def test_a_folder_is_the_same_in_any_spelling(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vit").mkdir()
    one = spec(src="photos", dst="labels", model="./vit")
    two = spec(**{name: str(tmp_path / end) for name, end in ENDS.items()})
    assert job_id(one, "n", 1) == job_id(two, "n", 1)


@pytest.mark.parametrize("night", ["2026-01-31", "2026-01-31T00:00:00+00:00", "nightly.7"])
def test_names_that_orchestrators_give(night: str) -> None:
    assert checked(night) == night


@pytest.mark.parametrize("night", ["", "a b", "a/b", "x" * 41, "é", "a\n", "$(reboot)"])
def test_names_that_no_night_has(night: str) -> None:
    with pytest.raises(SpecError, match="night"):
        checked(night)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles", "Europe/Berlin"])
def test_the_zone_of_a_machine_makes_no_other_night(
    monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    moment = 1_790_000_000  # 2026-09-21, 14:13 UTC
    try:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        here = datetime.fromtimestamp(moment).astimezone()
        assert night_of(here) == night_of(here - timedelta(hours=2)) == "2026-09-21"
        assert night_of(here - timedelta(hours=3)) == "2026-09-20"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("night", "after"),
    [
        ("2026-11-30", "2026-11-30b"),
        ("2026-11-30b", "2026-11-30c"),
        ("20261130T220000", "20261130T220000b"),
        ("nightly", "nightlyb"),
        ("n" * 40, "n" * 39 + "b"),
    ],
)
def test_another_go_at_a_night_has_a_name_that_is_taken(night: str, after: str) -> None:
    names = list(islice(nights_after(night), 60))
    assert names[0] == after
    assert [checked(name) for name in names] == names
    assert len({night, *names}) == 61
