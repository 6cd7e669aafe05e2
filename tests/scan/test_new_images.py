"""What has come since a night was over is counted from here, for ten seconds at most."""

import socket
import time
from pathlib import Path

import pytest

from pipeline.scan import new_images
from pipeline.scan.new_images import NewImages, count_new_images
from pipeline.sources.lists import gathering
from pipeline.spec import LabelSpec, make_spec
from pipeline.storage import Folder
from pipeline.store.choice import Choice, choose
from pipeline.store.parts import write_part
from tests.store.stores import RECIPE, new_table, rows


@pytest.fixture
def labels(tmp_path: Path) -> Folder:
    """A store with the labels of images 0 to 9, one of them failed."""
    folder = Folder(str(tmp_path / "labels"))
    folder.ensure()
    table = new_table(folder)
    table.commit(added=[write_part(folder, f"recipe={RECIPE}/0.parquet", RECIPE, rows(range(9)))])
    bad = rows([9], error="empty")
    table.commit(added=[write_part(folder, f"recipe={RECIPE}/1.parquet", RECIPE, bad)])
    choose(folder, RECIPE, Choice.read(folder))
    return folder


def job(labels: Folder, images: int) -> LabelSpec:
    images_txt = Path(labels.uri.removeprefix("file://")).with_name("images.txt")
    images_txt.write_text("".join(f"s3://photos/{number}\n" for number in range(images)))
    return make_spec(src=str(images_txt), dst=labels.uri)


@pytest.mark.parametrize("recipe", [RECIPE, None])
@pytest.mark.parametrize(("images", "unlabelled"), [(10, 0), (8, 0), (22, 12)])
def test_what_has_no_row_is_counted(
    labels: Folder, images: int, unlabelled: int, recipe: str | None
) -> None:
    assert count_new_images(job(labels, images), recipe) == NewImages(unlabelled, complete=True)


def test_when_the_time_is_up_there_may_be_more(
    labels: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_images, "COUNT_SECONDS", 0.0)
    monkeypatch.setattr(gathering, "BATCH", 15)
    assert count_new_images(job(labels, 22), RECIPE) == NewImages(5, complete=False)


def test_what_cannot_be_seen_from_here_is_said(labels: Folder, tmp_path: Path) -> None:
    told = [
        count_new_images(make_spec(src="s3://photos", dst=str(tmp_path / "none")), RECIPE),
        count_new_images(make_spec(src=str(tmp_path / "none"), dst=labels.uri), RECIPE),
        count_new_images(job(labels, 10), "r0000other"),
    ]
    assert [(one.unlabelled, one.complete) for one in told] == [(None, False)] * 3
    assert ["none" in (one.problem or "") for one in told] == [True, True, False]
    assert "no labels of this job" in (told[2].problem or "")


def test_storage_that_never_answers_is_not_waited_for(
    labels: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_images, "COUNT_SECONDS", 0.2)
    monkeypatch.setattr(new_images, "_GRACE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        src = f"http://127.0.0.1:{silent.getsockname()[1]}/list.txt"
        began = time.monotonic()
        found = count_new_images(make_spec(src=src, dst=labels.uri, allow_private=True), RECIPE)
    assert time.monotonic() - began < 5
    assert found.unlabelled is None
    assert "no answer from storage" in (found.problem or "")
