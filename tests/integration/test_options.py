"""What single options and events do to nights, each night a command."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import LabelStore
from tests.integration.conftest import Archive, Ran, label, uris_of
from tests.parts.s3 import S3Server
from tests.parts.tiny import archive, image_bytes

pytestmark = pytest.mark.s3

Here = Callable[..., Ran]


def test_another_model_needs_a_word(
    here: Here, s3: S3Server, tiny_model: Path, other_model: Path
) -> None:
    found = Archive(s3, archive(30))
    assert here(*label(found, tiny_model)).code == 0
    refused = here(*label(found, other_model))
    assert refused.code == 2
    assert "--new-recipe" in refused.err
    assert "weights_sha256" in refused.err
    assert found.delta().num_rows == 30
    beside = here(*label(found, other_model, "--new-recipe"))
    assert beside.code == 0, beside.err
    recipes = Counter(found.delta(["recipe"])["recipe"].to_pylist())
    assert sorted(recipes.values()) == [30, 30]
    assert beside.json["recipe"] in recipes
    assert here(*label(found, tiny_model)).json["counts"]["done"] == 30


def test_stops_that_leave_work_exit_4(here: Here, s3: S3Server, tiny_model: Path) -> None:
    found = Archive(s3, archive(60))
    some = here(*label(found, tiny_model, "--max-images", 20))
    assert (some.code, some.json["counts"]["labelled"]) == (4, 20)
    soft = here(*label(found, tiny_model, "--max-images", 20, "--partial-ok"))
    assert (soft.code, soft.json["counts"]["labelled"]) == (0, 20)
    rest = here(*label(found, tiny_model))
    assert (rest.code, rest.json["counts"]["labelled"]) == (0, 20)


def test_too_many_errors_exit_3(here: Here, s3: S3Server, tiny_model: Path) -> None:
    broken = {f"broken{n}.jpg": b"no image" for n in range(10)}
    found = Archive(s3, archive(30) | broken)
    gate = here(*label(found, tiny_model, "--max-errors", "5%"))
    assert gate.code == 3
    assert gate.json["status"] == "gate"
    assert found.delta().num_rows > 0
    assert here(*label(found, tiny_model, "--max-errors", "50%")).code == 0
    assert found.delta().num_rows == 40


def test_gone_objects_are_counted_and_deleted_on_demand(
    here: Here, s3: S3Server, tiny_model: Path
) -> None:
    found = Archive(s3, archive(50))
    assert here(*label(found, tiny_model)).code == 0
    for name in list(archive(3)):
        s3.delete(f"{found.src}/{name}")
    kept = here(*label(found, tiny_model))
    assert (kept.json["counts"]["gone"], found.delta().num_rows) == (3, 50)
    gone = here(*label(found, tiny_model, "--delete"))
    assert (gone.code, gone.json["counts"]["deleted"]) == (0, 3)
    assert uris_of(found.delta()) == uris_of(found.plain()) == found.uris()


def test_limit_takes_the_same_images_every_night(
    here: Here, s3: S3Server, tiny_model: Path
) -> None:
    found = Archive(s3, archive(50))
    first = here(*label(found, tiny_model, "--limit", 20))
    assert (first.code, first.json["counts"]["labelled"]) == (0, 20)
    again = here(*label(found, tiny_model, "--limit", 20))
    assert (again.json["counts"]["listed"], again.json["counts"]["done"]) == (20, 20)


def test_errors_are_tried_again_on_demand(here: Here, s3: S3Server, tiny_model: Path) -> None:
    found = Archive(s3, archive(5) | {"bad.jpg": b"no image"})
    assert here(*label(found, tiny_model)).json["counts"]["failed"] == 1
    again = here(*label(found, tiny_model, "--retry-errors"))
    assert (again.json["counts"]["retried"], again.json["counts"]["failed"]) == (1, 1)
    assert uris_of(found.delta()) == found.uris()


def test_many_nights_are_compacted(here: Here, s3: S3Server, tiny_model: Path) -> None:
    found = Archive(s3, {})
    for night in range(2):
        found.put(archive(10, first=100 * night))
        assert here(*label(found, tiny_model)).code == 0
    assert here("compact", found.dst, "--json").json == {"files_before": 2, "files_after": 1}
    assert uris_of(found.delta()) == uris_of(found.plain()) == found.uris()
    assert here(*label(found, tiny_model)).json["counts"]["done"] == 20


def test_a_manifest_gives_one_row_an_object(here: Here, s3: S3Server, tiny_model: Path) -> None:
    found = Archive(s3, archive(20))
    listed = [*found.uris(), *found.uris()[:5], f"{found.src}/not-there.jpg"]
    manifest = f"{s3.bucket()}/tonight.csv"
    s3.put(manifest, "\n".join(["uri", *listed]).encode())
    arguments = ["label", manifest, found.dst, "--model", tiny_model, "--json"]
    first = here(*arguments)
    assert first.code == 0, first.err
    counts = first.json["counts"]
    assert (counts["listed"], counts["labelled"], counts["errors"]) == (21, 20, {"missing": 1})
    assert uris_of(found.plain()) == sorted({*listed})
    s3.put(manifest, "\n".join(["uri", *listed[3:20]]).encode())
    shorter = here(*arguments)
    assert (shorter.json["counts"]["labelled"], shorter.json["counts"]["gone"]) == (0, 4)
    assert here("verify", manifest, found.dst).code == 0


def test_many_images_that_clip_are_a_warning_at_the_end(
    here: Here, tmp_path: Path, tiny_model: Path
) -> None:
    src, dst = tmp_path / "photos", tmp_path / "labels"
    src.mkdir()
    for number in range(10):
        light = np.linspace(0, 65535, 48 * 32).astype("u2").reshape(32, 48)
        Image.fromarray(light >> (0 if number < 7 else 8)).save(src / f"{number}.png")
    (src / "plain.jpg").write_bytes(image_bytes(1))
    first = here("label", src, dst, "--model", tiny_model)
    assert first.code == 0, first.err
    assert "warning: 7 of 10 16-bit grey (I;16) images clip to white" in first.out
    (run,) = LabelStore(str(dst)).runs()
    assert {mode: c.model_dump() for mode, c in run.clipping.items()} == {
        "I;16": {"images": 10, "white": 7, "black": 0}
    }
    again = here("label", src, dst, "--model", tiny_model, "--json")
    assert again.json["clipping"] == {}  # of what this run decoded
