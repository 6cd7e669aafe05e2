"""The hostile files are what they claim to be: Pillow agrees with every verdict."""

from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import ErrorCode
from pipeline.spec import IMAGE_SUFFIXES, MAX_PIXELS
from tests.parts.images.hostile import GOOD, Entry, entries, write_hostile

ENTRIES = list(entries())


def test_they_are_many_and_always_the_same(tmp_path: Path) -> None:
    verdicts = write_hostile(tmp_path)
    assert list(entries()) == ENTRIES
    assert len([codes for codes in verdicts.values() if codes]) >= 60
    assert {path.name for path in tmp_path.iterdir()} == set(verdicts)
    assert set().union(*verdicts.values()) - {""} <= set(ErrorCode)
    assert all(name.lower().endswith(IMAGE_SUFFIXES) for name in verdicts)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("entry", ENTRIES, ids=[name for name, _, _ in ENTRIES])
def test_pillow_agrees(entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever decoded a larger one in this process before has raised it.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", MAX_PIXELS // 2)
    name, data, codes = entry
    (tmp_path / name).write_bytes(data)
    if codes == GOOD:
        assert _decode(tmp_path / name).mode == "RGB"
    elif codes == {"too_large"}:
        with pytest.raises(Image.DecompressionBombError):
            _decode(tmp_path / name)
    elif "" not in codes:
        with pytest.raises((OSError, ValueError, SyntaxError, Image.DecompressionBombError)):
            _decode(tmp_path / name)


def _decode(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
