"""What is remembered of a model's preprocessing, and when it no longer counts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ModelError, UnsafeFolderError
from pipeline.images import Preprocess
from pipeline.tasks import preprocess_cache
from pipeline.tasks.preprocess_cache import preprocess_of
from tests.golden.reference import NAMES, PROCESSORS

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "preprocess"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder, size=64)
    return folder


def write(folder: Path, **config: object) -> None:
    config = {"image_processor_type": "ViTImageProcessor"} | config
    (folder / "preprocessor_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_same_again(name: str, cache: Path) -> None:
    first = preprocess_of(PROCESSORS / name)
    assert first == Preprocess.from_folder(PROCESSORS / name)
    assert len(list(cache.iterdir())) == 1
    again = preprocess_of(PROCESSORS / name)
    assert again == first
    assert again.as_dict() == first.as_dict()


def test_a_processor_that_is_kept_whole_too(tmp_path: Path) -> None:
    write(tmp_path, image_processor_type="LevitImageProcessor")
    assert preprocess_of(tmp_path).config is not None
    assert preprocess_of(tmp_path) == Preprocess.from_folder(tmp_path)


def test_the_second_time_transformers_is_not_imported(model: Path) -> None:
    look = (
        "import sys; from pathlib import Path;"
        "from pipeline.tasks.preprocess_cache import preprocess_of;"
        f"print(preprocess_of(Path({str(model)!r})).box, 'transformers' in sys.modules)"
    )
    seen = [
        subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True)
        for _ in range(2)
    ]
    assert [one.stdout.strip() for one in seen] == ["(64, 64) True", "(64, 64) False"]


def test_another_config_counts_at_once(model: Path) -> None:
    assert preprocess_of(model).box == (64, 64)
    write(model, size=96)
    assert preprocess_of(model).box == (96, 96)
    nested = {"image_processor": {"image_processor_type": "ViTImageProcessor", "size": 80}}
    (model / "processor_config.json").write_text(json.dumps(nested))
    assert preprocess_of(model).box == (80, 80)


def test_another_version_of_a_package_counts(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess_of(model)
    monkeypatch.setattr(preprocess_cache, "version", lambda package: "99")
    preprocess_of(model)
    assert len(list(cache.iterdir())) == 2


def test_other_code_counts_wherever_it_lies(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code" / "backends" / "layers.py"
    code.parent.mkdir(parents=True)
    code.write_text("1")
    monkeypatch.setattr("pipeline.models.__path__", [str(tmp_path / "code")])
    before = preprocess_cache.digest(model)
    assert preprocess_cache.digest(model) == before
    code.write_text("2")
    assert preprocess_cache.digest(model) != before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"height": 1}', b'{"height": "tall"}'])
def test_what_is_damaged_is_found_anew(model: Path, cache: Path, content: bytes) -> None:
    expected = preprocess_of(model)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    assert preprocess_of(model) == expected
    assert file.read_bytes() != content


def test_another_size_that_was_written_into_it_is_not_believed(model: Path, cache: Path) -> None:
    """It is valid, so only its digest tells it."""
    expected = preprocess_of(model)
    (file,) = cache.iterdir()
    assert b'"height":64' in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(b'"height":64', b'"height":96'))
    assert preprocess_of(model) == expected
    file.write_bytes(file.read_bytes().partition(b"\n")[2])
    assert preprocess_of(model) == expected


@pytest.mark.parametrize("place", ["", "preprocess"])
def test_a_cache_that_others_can_change_is_refused(model: Path, cache: Path, place: str) -> None:
    preprocess_of(model)
    folder = cache.parent / place
    folder.chmod(0o777)
    with pytest.raises(UnsafeFolderError, match=f"write to {folder} .*NIGHTLABEL_CACHE"):
        preprocess_of(model)


def test_a_cache_that_cannot_be_written_costs_only_time(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path / "file"))
    assert preprocess_of(model).box == (64, 64)


def test_a_refusal_is_not_remembered(tmp_path: Path, cache: Path) -> None:
    for _ in range(2):
        with pytest.raises(ModelError):
            preprocess_of(tmp_path)
    assert list(cache.iterdir()) == []
