"""The cache of a machine: for one user alone, and used only while it is what it was."""

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import Exit, UnsafeFolderError
from pipeline.models.cache import cache_folder
from pipeline.models.fetch import fetch
from tests.parts.servers.s3 import S3Server


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.mark.s3
@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda model: (model / "model.safetensors").write_bytes(b"planted"), "has changed"),
        (lambda model: (model / "preprocessor_config.json").write_text("{}"), "has changed"),
        (lambda model: (model / "config.json").unlink(), "config.json is missing"),
        (lambda model: (model / "adapter_config.json").write_text("{}"), "is new"),
        (lambda model: (model / "below").symlink_to("/etc"), "below is new"),
        (lambda model: model.with_name(f"{model.name}.sha256").unlink(), "no digests"),
        (lambda model: model.with_name(f"{model.name}.sha256").write_bytes(b"\xff"), "be read"),
        (lambda model: shutil.rmtree(model) or model.write_text("a file"), "is not a folder"),
        (lambda model: linked(model), "has changed"),
    ],
    ids=["weights", "json", "missing", "added", "link", "no digests", "bad", "file", "linked file"],
)
def test_a_copy_that_is_not_what_it_was_is_copied_anew(
    s3: S3Server,
    vit: Path,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[Path], object],
    why: str,
) -> None:
    uri = f"{s3.bucket()}/vit"
    s3.put_folder(vit, uri)
    found = fetch(uri, None)
    kept = {path.name: path.read_bytes() for path in found.path.iterdir()}
    harm(found.path)
    assert fetch(uri, None) == found
    assert {path.name: path.read_bytes() for path in found.path.iterdir()} == kept
    [line] = [record.getMessage() for record in caplog.records if record.name == "nightlabel"]
    assert line.startswith(f"nightlabel: the copy of {uri} on this machine is damaged (")
    assert why in line
    assert fetch(uri, None) == found
    assert len(caplog.records) == 1


def linked(model: Path) -> None:
    """The same bytes, but where anybody may write."""
    file = model / "config.json"
    elsewhere = file.rename(model.parent.parent / "elsewhere.json")
    file.symlink_to(elsewhere)


@pytest.mark.s3
def test_a_planted_partial_download_is_thrown_away(
    s3: S3Server, vit: Path, cache: Path, tmp_path: Path
) -> None:
    uri = f"{s3.bucket()}/vit"
    s3.put_folder(vit, uri)
    found = fetch(uri, None)
    for plant in (Path.mkdir, Path.touch, lambda path: path.symlink_to(tmp_path / "theirs")):
        shutil.rmtree(found.path)
        (tmp_path / "theirs").mkdir(exist_ok=True)
        partial = found.path.with_name(f"{found.path.name}.partial")
        plant(partial)
        if partial.is_dir():
            (partial / "adapter_config.json").write_text("{}")
        assert fetch(uri, None) == found
    assert {path.name for path in (tmp_path / "theirs").iterdir()} == {"adapter_config.json"}


@pytest.mark.s3
def test_a_cache_that_others_can_change_is_refused(s3: S3Server, vit: Path, cache: Path) -> None:
    uri = f"{s3.bucket()}/vit"
    s3.put_folder(vit, uri)
    fetch(uri, None)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (cache, cache.parent)} == {0o700}
    cache.parent.chmod(0o777)
    with pytest.raises(UnsafeFolderError, match="set NIGHTLABEL_CACHE to a folder") as caught:
        fetch(uri, None)
    assert caught.value.exit_code == Exit.USAGE


def test_a_folder_that_holds_more_than_a_cache_keeps_its_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "photos").mkdir(parents=True)
    home.chmod(0o755)
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(home))
    assert stat.S_IMODE(cache_folder("models").stat().st_mode) == 0o700
    assert stat.S_IMODE(home.stat().st_mode) == 0o755
    home.chmod(0o1777)
    with pytest.raises(UnsafeFolderError, match="mode 1777"):
        cache_folder("models")
    shutil.rmtree(home / "photos")
    home.chmod(0o755)
    cache_folder("models")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
