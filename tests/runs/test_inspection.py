"""`doctor --sample`: some images of a source are read, decoded and counted, without a model."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import cli
from pipeline.cli.failures import exit_code_of
from pipeline.errors import Exit
from pipeline.runs.inspection import inspect
from pipeline.spec import make_spec
from tests.parts.images.poison import PLUGIN, poison
from tests.parts.models.tiny import image_bytes


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight JPEGs, four PNGs of which three clip, and two that are no images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.jpg").write_bytes(image_bytes(number))
    light = np.linspace(0, 65535, 48 * 32).astype("u2").reshape(32, 48)
    for number in range(4):
        Image.fromarray(light >> (0 if number < 3 else 8)).save(folder / f"deep-{number}.png")
    (folder / "cut.jpg").write_bytes(image_bytes(1)[:300])
    (folder / "text.jpg").write_bytes(b"no image")
    return folder


def doctor(*arguments: object) -> tuple[int, str]:
    out = io.StringIO()
    with redirect_stdout(out):
        code = exit_code_of(cli, ["doctor", *map(str, arguments)])
    return int(code), out.getvalue()


def sample_of(src: Path, wanted: int) -> dict[str, Any]:
    code, output = doctor(src, "--sample", wanted, "--json")
    (finding,) = (one for one in json.loads(output) if one["check"].startswith("sample"))
    return finding | {"code": code}


@pytest.mark.torch
def test_all_is_counted(photos: Path) -> None:
    found = sample_of(photos, 100)
    assert (found["ok"], found["code"]) == (True, Exit.OK)
    (warning,) = found["warnings"]
    assert warning.startswith("3 of 4 16-bit grey (I;16) images clip to white")
    sample = found["sample"]
    assert sample["images"] == 14
    assert sample["formats"] == {"jpeg": 8, "png": 4}
    assert sample["modes"] == {"RGB": 8, "I;16": 4}
    assert sample["clipping"] == {"I;16": {"images": 4, "white": 3, "black": 0}}
    assert sample["smallest"] == [48, 32]
    assert sample["largest"][0] >= 60
    assert sample["errors"] == {"truncated": 1, "not_an_image": 1}
    assert [Path(one["uri"]).name for one in sample["failed"]] == ["cut.jpg", "text.jpg"]


@pytest.mark.torch
def test_it_says_so_in_words(photos: Path) -> None:
    code, output = doctor(photos, "--sample", 100)
    assert code == Exit.OK
    lines = output.splitlines()
    assert any(
        line.startswith("OK       sample ") and "14 images checked" in line for line in lines
    )
    assert any(line.startswith("WARNING  sample ") and "clip to white" in line for line in lines)


@pytest.mark.torch
def test_a_sample_is_spread_over_the_listing(photos: Path) -> None:
    some = sample_of(photos, 7)["sample"]
    assert some["images"] == 7
    assert set(some["formats"]) == {"jpeg", "png"}


@pytest.mark.torch
def test_more_failures_than_half_are_wrong(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(image_bytes(number) if number < 2 else b"none")
    assert sample_of(tmp_path, 9)["code"] == Exit.OK
    (tmp_path / "0.jpg").write_bytes(b"")
    found = sample_of(tmp_path, 9)
    assert (found["ok"], found["code"]) == (False, Exit.GATE)
    assert found["sample"]["errors"] == {"not_an_image": 2, "empty": 1}


@pytest.mark.torch
def test_a_source_that_is_not_there_is_wrong(tmp_path: Path) -> None:
    found = sample_of(tmp_path / "nothing", 9)
    assert (found["ok"], found["code"], found["sample"]) == (False, Exit.GATE, None)


def test_a_sample_of_nothing_is_a_usage_error() -> None:
    for arguments in (["--sample", "5"], [".", "--sample", "0"]):
        assert exit_code_of(cli, ["doctor", *arguments]) == Exit.USAGE


def test_an_image_that_ends_its_decoder_is_one_failure(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(site)  # for the children of this process
    (photos / "3.jpg").write_bytes(poison("segfault"))
    found = inspect(make_spec(src=str(photos), dst="s3://labels"), 100)
    assert found.errors == {"crashed": 1, "truncated": 1, "not_an_image": 1}
    assert found.formats == {"jpeg": 7, "png": 4}
