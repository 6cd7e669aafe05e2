"""One frozen, validated specification, the same from TOML, flags, Python and JSON."""

import pickle
from datetime import datetime, timedelta, timezone
from math import inf
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.errors import Exit, SpecError
from pipeline.spec import DEFAULT_MODEL, LabelSpec, deadline_at, load_spec, make_spec, parse_spec

NOW = datetime(2026, 3, 14, 22, 30, 15, tzinfo=timezone(timedelta(hours=1)))


def spec(**fields: Any) -> LabelSpec:
    return make_spec(**{"src": "s3://b/in/", "dst": "s3://b/out", **fields})


def test_two_words_are_enough() -> None:
    assert spec().model == DEFAULT_MODEL
    assert spec().precision == "auto"
    assert spec().exif


def test_what_a_job_ships_is_what_a_run_records() -> None:
    one = spec(include=["*.jpg"], top_k=3, deadline="6h", max_errors="2%", predictors="1:4")
    assert LabelSpec.model_validate_json(one.model_dump_json()) == one
    assert pickle.loads(pickle.dumps(one)) == one


def test_it_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        spec().top_k = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("src", ""),
        ("top_k", 0),
        ("top_k", "many"),
        ("limit", -1),
        ("precision", "int4"),
        ("predictors", "0"),
        ("predictors", "3:2"),
        ("predictors", "two"),
        ("max_errors", "-1"),
        ("max_errors", "1 %"),
        ("deadline", "tomorrow"),
        ("deadline", "25:00"),
        ("deadline", ""),
        ("commit_seconds", 0),
        ("events", ""),
        ("no_such_field", 1),
    ],
)
def test_a_bad_value_is_named(field: str, value: object) -> None:
    with pytest.raises(SpecError) as caught:
        spec(**{field: value})
    assert (caught.value.field, caught.value.value) == (field, value)
    assert caught.value.exit_code == Exit.USAGE
    assert str(caught.value).startswith(f"{field}={value!r}: ")


def test_a_missing_field_is_named() -> None:
    with pytest.raises(SpecError, match=r"^dst=None: is needed"):
        make_spec(src="s3://b/in/")


def test_delete_needs_the_whole_listing() -> None:
    with pytest.raises(SpecError, match=r"^delete=True: .*--limit cuts"):
        spec(delete=True, limit=3)


def test_later_settings_win(tmp_path: Path) -> None:
    config = tmp_path / "job.toml"
    config.write_text('src = "a"\ndst = "b"\ntop-k = 1\nmax_images = 10\ninclude = ["*.png"]\n')
    sets = {"top_k": "2", "revision": "main", "new-recipe": "true", "exclude": '["x", "y"]'}
    flags = {"dst": "c", "top_k": None, "include": (), "max_images": 20}

    one = load_spec(config, sets, flags)

    assert (one.src, one.dst, one.top_k, one.max_images) == ("a", "c", 2, 20)
    assert (one.revision, one.new_recipe) == ("main", True)
    assert (one.include, one.exclude) == (("*.png",), ("x", "y"))


def test_a_config_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        load_spec(tmp_path / "none.toml", {}, {})
    for data in (b"src = ", b"\xff\xfe"):
        (tmp_path / "bad.toml").write_bytes(data)
        with pytest.raises(SpecError, match="not TOML"):
            load_spec(tmp_path / "bad.toml", {}, {})


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
def test_a_deadline_is_a_duration_or_the_next_clock_time(text: str, wait: timedelta) -> None:
    assert deadline_at(text, NOW) - NOW == wait


@pytest.mark.parametrize("text", ["", "6", "h", "-1h", "1d", "6:5", "24:00", "12:60", "1m1h"])
def test_anything_else_is_no_deadline(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        deadline_at(text, NOW)


@pytest.mark.parametrize(
    ("limit", "processed", "failed", "allowed"),
    [
        (None, 0, 0, 0),
        (None, 40, 40, 0),
        (None, 10, 1, 9),
        (None, 9_999, 1, 100),
        (None, 9_999, 9_990, 99),
        (None, 1_000_000, 3, 10_000),
        ("0", 1_000_000, 3, 0),
        ("7", 10, 10, 7),
        ("2%", 1_000, 1_000, 20),
        ("0.5%", 1_000, 0, 5),
        ("100%", 7, 7, 7),
    ],
)
def test_errors_allowed(limit: str | None, processed: int, failed: int, allowed: int) -> None:
    assert spec(max_errors=limit).errors_allowed(processed, failed) == allowed


@pytest.mark.parametrize(("limit", "allowed"), [("7", 7), ("0", 0), ("5%", inf), (None, inf)])
def test_while_the_listing_goes_on_only_a_number_is_a_limit(
    limit: str | None, allowed: float
) -> None:
    assert spec(max_errors=limit).errors_allowed(None, 9) == allowed


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (True, True),
        (False, False),
        ("all", True),
        ("true", True),
        ("false", False),
        ("denied", ("denied",)),
        ("denied, missing,denied", ("denied", "missing")),
        (["denied", "missing"], ("denied", "missing")),
        ([], ()),
    ],
)
def test_which_errors_to_retry(given: object, wanted: object) -> None:
    one = spec(retry_errors=given)
    assert one.retry_errors == wanted
    assert parse_spec(one.model_dump_json()) == one


@pytest.mark.parametrize("given", ["denid", "", "denied,", ["denied", "denid"], 1, ["denied", 1]])
def test_an_unknown_code_to_retry_is_refused(given: object) -> None:
    with pytest.raises(SpecError, match="retry_errors=") as caught:
        spec(retry_errors=given)
    if given not in (1, ["denied", 1]):
        assert "known are changed, crashed, denied" in str(caught.value)


def test_codes_to_retry_from_a_file(tmp_path: Path) -> None:
    for text, wanted in {
        "true": True,
        '"denied,missing"': ("denied", "missing"),
        '["empty"]': ("empty",),
    }.items():
        (tmp_path / "night.toml").write_text(f'src = "a"\ndst = "b"\nretry-errors = {text}\n')
        assert load_spec(tmp_path / "night.toml", {}, {}).retry_errors == wanted


def test_the_address_of_a_webhook_is_a_secret() -> None:
    with pytest.raises(SpecError, match="notify=") as caught:
        spec(notify="hooks.example/c4n4ry")
    assert "c4n4ry" not in str(caught.value)


def test_a_range_of_predictors() -> None:
    assert spec().predictor_range is None
    assert spec(predictors="2").predictor_range == (2, 2)
    assert spec(predictors="1:4").predictor_range == (1, 4)
