"""Every field of a processor's JSON with every wrong value: one line, or transformers' pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import BadModelError, Exit
from pipeline.images import Preprocess, prepare
from pipeline.images.processor_fields import MAX_EDGE
from pipeline.images.reference import reference_values
from tests.golden.pictures import picture, png

pytestmark = pytest.mark.torch

PICTURE = png(picture("waves", (90, 70)))

#: Small, so that a case that is accepted costs little.
SOUND: dict[str, Any] = {
    "image_processor_type": "CLIPImageProcessor",
    "do_center_crop": True,
    "crop_size": 32,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.3, 0.4],
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 40},
}
OTHERS = {
    "auto_map",
    "crop_pct",
    "default_to_square",
    "do_pad",
    "feature_extractor_type",
    "pad_size",
    "processor_class",
}
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -3,
    10**12,
    10**400,
    0.5,
    2.0,
    float("nan"),
    float("inf"),
    "",
    "text",
    "PIL.Image.BOX",
    "\ud800",
    [],
    [1, 2],
    [0, 0, 0],
    [0.5, float("nan"), 0.5],
    ["a", "b", "c"],
    [[1]],
    {},
    {"a": 1},
    {"height": 0, "width": 9},
    {"height": 33.0, "width": 9},
    {"shortest_edge": "40"},
    {"height": MAX_EDGE + 1, "width": 3},
)


def write(folder: Path, fields: dict[str, Any], file: str = "preprocessor_config.json") -> Path:
    (folder / file).write_text(json.dumps(fields))
    return folder


def refused(folder: Path) -> str | None:
    try:
        Preprocess.from_folder(folder)
    except BadModelError as error:
        return f"{error} · exit {error.exit_code}"
    return None


def outcome(folder: Path) -> str | None:
    """The refusal; None if it is accepted, and then the pixels are transformers'."""
    said = refused(folder)
    if said is not None:
        assert said.endswith(f"exit {Exit.USAGE}")
        assert "\n" not in said
        return said
    preprocess = Preprocess.from_folder(folder)
    ours = prepare(PICTURE, preprocess).pixels
    scaled = (ours * preprocess.rescale - preprocess.mean) / np.array(preprocess.std)
    theirs = reference_values(PICTURE, folder, True).transpose(1, 2, 0)
    np.testing.assert_allclose(scaled, theirs, rtol=1e-5, atol=1e-5)
    return None


@pytest.mark.parametrize("field", sorted({*SOUND, *OTHERS}))
def test_every_field_with_every_wrong_value(field: str, tmp_path: Path) -> None:
    for value in VALUES:
        said = outcome(write(tmp_path, SOUND | {field: value}))
        if said is not None:
            assert "preprocessor_config.json" in said, (value, said)
            sound_kind = value in (None, 0, 1) or isinstance(value, dict)
            assert field in said or sound_kind, (value, said)


@pytest.mark.parametrize(
    ("field", "value", "due"),
    [
        ("resample", "PIL.Image.BOX", "resampling filter of Pillow, 0 to "),
        ("resample", 77, "resampling filter of Pillow, 0 to "),
        ("image_mean", None, "do_normalize needs it"),
        ("image_std", None, "do_normalize needs it"),
        ("rescale_factor", None, "do_rescale needs it"),
        ("size", None, "do_resize needs it"),
        ("resample", None, "do_resize needs it"),
        ("crop_size", None, "do_center_crop needs it"),
        ("image_mean", [0.5, float("nan"), 0.5], "a list of three"),
        ("image_std", [0.5, 0, 0.5], "other than 0"),
        ("image_std", 0, "other than 0"),
        ("size", "40", "pixels from 1 to"),
        ("size", {"shortest_edge": 10**9}, "pixels from 1 to"),
        ("do_resize", "yes", "true or false"),
        ("image_processor_type", "\ud800", "text"),
        ("image_processor_type", 3, "text"),
    ],
)
def test_the_line_names_file_field_and_what_is_due(
    field: str, value: Any, due: str, tmp_path: Path
) -> None:
    said = outcome(write(tmp_path, SOUND | {field: value}))
    assert said is not None
    assert f"{field} in preprocessor_config.json is " in said
    assert due in said
    assert len(said) < 400


@pytest.mark.parametrize(
    "fields",
    [
        {"image_mean": [0, 0, 0], "image_std": [1, 1, 1]},
        {"image_mean": 0, "image_std": 1},
        {"rescale_factor": 1},
        {"do_resize": 1, "do_pad": None},
        {"image_mean": None, "image_std": None, "do_normalize": False},
        {"crop_size": [32, 32], "size": 40},
    ],
)
def test_what_does_no_harm_in_transformers_is_taken(fields: dict[str, Any], tmp_path: Path) -> None:
    assert outcome(write(tmp_path, SOUND | fields)) is None


FILES = ["preprocessor_config.json", "processor_config.json", "config.json"]
NO_OBJECTS = [b"", b"{", b"[]", b"3", b'"text"', b"null", b"\xff\xfe{}", b"[" * 100_000]


@pytest.mark.parametrize(
    "file", ["preprocessor_config.json", "processor_config.json", "config.json"]
)
@pytest.mark.parametrize("content", NO_OBJECTS, ids=lambda content: repr(content[:9]))
def test_what_is_no_json_object_is_named(file: str, content: bytes, tmp_path: Path) -> None:
    write(tmp_path, SOUND)
    (tmp_path / file).write_bytes(content)
    said = outcome(tmp_path)
    assert said is not None
    assert f" {file} " in said


def test_a_config_without_end_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, SOUND | {"text": "a" * 2**24})
    assert "has over 16 MiB" in str(outcome(tmp_path))


@pytest.mark.parametrize("value", [3, "text", [], True])
def test_the_nested_part_is_an_object(value: Any, tmp_path: Path) -> None:
    write(tmp_path, SOUND)
    write(tmp_path, {"image_processor": value}, "processor_config.json")
    assert "image_processor in processor_config.json is" in str(outcome(tmp_path))


def test_fields_of_the_nested_part_name_its_file(tmp_path: Path) -> None:
    write(tmp_path, SOUND)
    write(tmp_path, {"image_processor": SOUND | {"resample": "x"}}, "processor_config.json")
    assert "resample in processor_config.json is" in str(outcome(tmp_path))
