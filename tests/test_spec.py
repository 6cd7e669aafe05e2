"""One frozen, validated specification, the same from TOML, flags, Python and JSON."""

import pickle
from datetime import datetime, timedelta, timezone
from math import inf
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.errors import Exit, SpecError
from pipeline.spec import (
    DEFAULT_MODEL,
    LabelSpec,
    load_spec,
    make_spec,
    parse_spec,
)

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
        ("modified_since", "yesterday"),
        ("modified_since", "2026-02-30"),
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
    with pytest.raises(SpecError, match=r"^dst: is required; give it as an argument"):
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


#: Of every field a value that it does not take; the rest are booleans.
BAD: dict[str, list[object]] = {
    "src": ["", 3, "a\0b", "a\udcff"],
    "dst": ["", [], "a\0b"],
    "include": ["*.jpg", [3], 7],
    "exclude": ["*.jpg", [None], {"a": 1}],
    "limit": [0, -1, "many", 2.5],
    "task": ["", 3, "a\0b"],
    "model": ["", 5, "a\0b"],
    "revision": [True, 5],
    "precision": ["int4", 16],
    "decode": ["slow", None],
    "top_k": [0, "five", 1.5],
    "max_pixels": [0, "big"],
    "max_bytes": [-5, "1G"],
    "max_seconds": [0, "a minute", float("nan")],
    "node_memory": [0, -1, "8GiB"],
    "address": [6379],
    "predictors": ["0", "3:2", "two", "", "1:2:3", True, -1, "9" * 5000],
    "gpus_per_predictor": [0, 1.5, "half"],
    "wait_for_nodes": [-1, "long"],
    "batch_size": [0, "x"],
    "commit_seconds": [0, "x"],
    "retry_errors": ["maybe", 3, [3], "denied,maybe", {"denied": 1}],
    "max_images": [0, "x"],
    "max_errors": ["-1", "1 %", "many", "", [1], "9" * 5000],
    "deadline": ["soon", "25:00", "", 6, "9" * 30 + "h", "2026-01-31T06:30:00", "2026-13-01T0:0"],
    "events": ["", 3, "a\0b"],
    "notify": ["hooks.example", "ftp://h/x", "https://", 3],
}
JARGON = (
    "^",
    "$",
    "\\",
    "Input",
    "input",
    "pydantic",
    "valid",
    "Extra",
    "string",
    "Value error",
    "parse",
    "pattern",
    "integer",
    "literal",
    "tuple",
    "unicode",
    "isoformat",
    "None",
)


@pytest.mark.parametrize("field", LabelSpec.model_fields)
def test_every_bad_value_is_told_in_plain_words(field: str) -> None:
    for value in BAD.get(field, ["maybe", 3, []]):
        with pytest.raises(SpecError) as caught:
            spec(**{field: value})
        assert caught.value.field == field
        assert [word for word in JARGON if word in caught.value.problem] == []


@pytest.mark.parametrize("document", ["", "[]", "{", '"x"', '{"src": 1}', '{"src": "a"}'])
def test_a_job_that_is_no_spec_is_told_in_plain_words(document: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(document)
    assert [word for word in JARGON if word in caught.value.problem] == []


@pytest.mark.parametrize(
    ("wrong", "right"), [("topk", "top_k"), ("modle", "model"), ("max-error", "max_errors")]
)
def test_a_misspelt_option_is_answered_with_the_right_one(
    tmp_path: Path, wrong: str, right: str
) -> None:
    config = tmp_path / "job.toml"
    config.write_text(f'src = "a"\ndst = "b"\n{wrong} = 3\n')
    for given in ((config, {}), (None, {"src": "a", "dst": "b", wrong: "3"})):
        with pytest.raises(SpecError, match=f"no such option; did you mean {right}\\?"):
            load_spec(*given, {})
    with pytest.raises(SpecError, match="--help lists them"):
        spec(xylophone=1)


@pytest.mark.parametrize("name", ["predictors", "max_errors"])
def test_a_lone_number_needs_no_quotes(tmp_path: Path, name: str) -> None:
    config = tmp_path / "job.toml"
    config.write_text(f'src = "a"\ndst = "b"\n{name} = 4\n')
    for one in (load_spec(config, {}, {}), spec(**{name: 4}), load_spec(config, {name: "4"}, {})):
        assert getattr(one, name) == "4"


def test_a_config_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        load_spec(tmp_path, {}, {})


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
        assert "codes are changed, crashed, denied" in str(caught.value)


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
