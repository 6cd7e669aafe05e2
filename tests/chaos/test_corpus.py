"""Pillow's own test images, which broke decoders once, and hostile files beside them."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from pipeline.spec import MAX_PIXELS, MAX_SECONDS
from tests.chaos.scores import Scores
from tests.integration.conftest import nightlabel
from tests.parts.archives.real_archives import need, pillow_images
from tests.parts.images.decode_trial import PIXELS, Trial, Trials
from tests.parts.images.hostile import write_hostile
from tests.parts.images.pillow_verdicts import judged
from tests.parts.models.tiny import make_model

pytestmark = [pytest.mark.chaos, pytest.mark.ray]


def names_of(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_every_file_decodes_as_pillow_does_or_has_its_code(
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = need(pillow_images)
    wrong: list[str] = []
    outcomes: Counter[str] = Counter()
    with Trials(Trial(MAX_PIXELS, MAX_SECONDS)) as trials:
        for name in names_of(folder):
            verdict = trials((folder / name).read_bytes())
            outcomes[verdict.outcome] += 1
            if verdict.outcome != (judged(name) or PIXELS):
                wrong.append(f"{name}: {verdict.outcome}, not {judged(name) or PIXELS}")
            if verdict.wrong:
                wrong.append(f"{name}: {verdict.wrong}")
    with capfd.disabled():
        print(f"\n{outcomes.total():,} files: {dict(outcomes)}")
    assert wrong == []
    assert outcomes.total() > 1000


def test_a_whole_run_gives_each_file_one_row_with_its_code(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], scores: Scores
) -> None:
    photos, labels = tmp_path / "photos", tmp_path / "labels"
    shutil.copytree(need(pillow_images), photos / "pillow")
    verdicts = write_hostile(photos / "hostile")
    model = make_model(tmp_path / "model")
    options = ["--include", "*", "--max-errors", "100%", "--json"]
    ran = nightlabel("label", photos, labels, "--model", model, *options, seconds=1200)
    assert ran.code == 0, ran.err
    rows = DeltaTable(labels).to_pyarrow_table(columns=["uri", "label", "error_code"]).to_pylist()
    found = {_name(row, photos): row for row in rows}
    assert len(found) == len(rows)
    assert sorted(found) == names_of(photos)
    allowed = {f"hostile/{name}": codes or {""} for name, codes in verdicts.items()}
    allowed |= {f"pillow/{n}": {judged(n) or ""} for n in names_of(photos / "pillow")}
    wrong = {
        name: row["error_code"]
        for name, row in found.items()
        if (row["error_code"] or "") not in allowed[name]
    }
    with capfd.disabled():
        print(f"\n{len(rows):,} rows, {ran.json['counts']['errors']}")
    assert wrong == {}
    scores.count("odd and broken files, one row each", len(rows))
    assert all((row["error_code"] is None) == (row["label"] is not None) for row in rows)


def _name(row: dict[str, Any], folder: Path) -> str:
    return str(row["uri"]).removeprefix(f"{folder.as_uri()}/")
