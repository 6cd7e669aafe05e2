"""What single options and events do to nights, each night a command."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.store.reader import LabelStore
from tests.integration.conftest import Archive, Ran, label, measure, uris_of
from tests.parts.models.tiny import archive, image_bytes
from tests.parts.servers.s3 import S3Server
from tests.storage.servers import web_server

pytestmark = pytest.mark.s3

Here = Callable[..., Ran]


def test_another_model_needs_a_word_and_readers_see_what_was_chosen(
    here: Here,
    s3: S3Server,
    tiny_model: Path,
    other_model: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = Archive(s3, archive(30))

    def current() -> str | None:
        return LabelStore(found.dst).current()

    old = here(*label(found, tiny_model)).json["recipe"]
    refused = here(*label(found, other_model))
    assert refused.code == 2
    assert "--new-recipe" in refused.err
    assert "weights_sha256" in refused.err
    assert found.delta().num_rows == 30

    softly = ["--new-recipe", "--promote", "--max-images", 5, "--partial-ok"]
    some = here(*label(found, other_model, *softly))
    new = some.json["recipe"]
    assert (some.code, some.json["promoted"], some.json["current"]) == (0, False, old)
    assert f"nightlabel use {found.dst} {new}" in some.err.splitlines()[-1]
    assert current() == old
    planned = here("plan", found.src, found.dst, "--model", other_model, "--no-probe")
    assert f"{old}; label would write {new}" in planned.out

    whole = here(*label(found, other_model, "--promote"))
    assert (whole.code, whole.json["promoted"], current()) == (0, True, new)
    recipes = Counter(found.delta(["recipe"])["recipe"].to_pylist())
    assert recipes == {old: 30, new: 30}

    caplog.clear()
    again = here(*label(found, tiny_model))
    assert (again.json["counts"]["done"], again.json["promoted"], current()) == (30, None, new)
    assert f"current: {new}; this run writes {old}" in caplog.text
    less = here(*label(found, tiny_model, "--promote", "--exclude", "*0.jpg"))
    assert (less.code, less.json["promoted"], current()) == (0, False, new)
    assert f"{new} also covers {found.src}/" in less.err

    assert here("use", found.dst, old, "--json").json["before"] == new
    assert current() == old
    assert here("drop", found.dst, new).code == 0
    assert [row["recipe"] for row in here("recipes", found.dst, "--json").json] == [old]
    assert here("verify", found.src, found.dst, "--sample", 0).code == 0


def test_stops_that_leave_work_exit_4(here: Here, s3: S3Server) -> None:
    found = Archive(s3, archive(60))
    some = here(*measure(found, "--max-images", 20))
    assert (some.code, some.json["counts"]["labelled"]) == (4, 20)
    soft = here(*measure(found, "--max-images", 20, "--partial-ok"))
    assert (soft.code, soft.json["counts"]["labelled"]) == (0, 20)
    rest = here(*measure(found))
    assert (rest.code, rest.json["counts"]["labelled"]) == (0, 20)


def test_too_many_errors_exit_3(here: Here, s3: S3Server) -> None:
    broken = {f"broken{n}.jpg": b"no image" for n in range(10)}
    found = Archive(s3, archive(30) | broken)
    gate = here(*measure(found, "--max-errors", "5%"))
    assert gate.code == 3
    assert gate.json["status"] == "gate"
    assert found.delta().num_rows > 0
    assert here(*measure(found, "--max-errors", "50%")).code == 0
    assert found.delta().num_rows == 40


def test_gone_objects_are_counted_and_deleted_on_demand(here: Here, s3: S3Server) -> None:
    found = Archive(s3, archive(50))
    assert here(*measure(found)).code == 0
    for name in list(archive(3)):
        s3.delete(f"{found.src}/{name}")
    kept = here(*measure(found))
    assert (kept.json["counts"]["gone"], found.delta().num_rows) == (3, 50)
    gone = here(*measure(found, "--delete"))
    assert (gone.code, gone.json["counts"]["deleted"]) == (0, 3)
    assert uris_of(found.delta()) == uris_of(found.plain()) == found.uris()


def test_limit_takes_the_same_images_every_night(here: Here, s3: S3Server) -> None:
    found = Archive(s3, archive(50))
    first = here(*measure(found, "--limit", 20))
    assert (first.code, first.json["counts"]["labelled"]) == (0, 20)
    again = here(*measure(found, "--limit", 20))
    assert (again.json["counts"]["listed"], again.json["counts"]["done"]) == (20, 20)


def test_errors_are_tried_again_on_demand(here: Here, s3: S3Server) -> None:
    found = Archive(s3, archive(5) | {"bad.jpg": b"no image", "empty.jpg": b""})
    assert here(*measure(found)).code == 0
    one = here(*measure(found, "--retry-errors=empty", "--max-errors", 1))
    assert (one.code, one.json["counts"]["retried"]) == (0, 1)
    assert one.json["counts"]["failed_before_by_code"] == {"not_an_image": 1}
    none = here(*measure(found, "--retry-errors=missing"))
    assert (none.code, none.json["counts"]["failed_before"]) == (0, 2)
    every = here(*measure(found, "--retry-errors", "--max-errors", 2))
    assert (every.json["counts"]["retried"], every.json["counts"]["failed"]) == (2, 2)
    assert uris_of(found.delta()) == found.uris()
    told = here("errors", found.dst, "--json").json
    assert [(group["code"], group["rows"]) for group in told["codes"]] == [
        ("not_an_image", 1),
        ("empty", 1),
    ]


def test_a_night_in_which_nothing_succeeds_is_red_and_the_next_without_news_green(
    here: Here, s3: S3Server
) -> None:
    found = Archive(s3, {f"{n}.jpg": b"no image" for n in range(6)})
    red = here(*measure(found))
    assert (red.code, red.json["status"], red.json["counts"]["failed"]) == (3, "gate", 6)
    assert "6 errors, over the 0 allowed" in red.json["reason"]
    again = here(*measure(found))
    assert (again.code, again.json["counts"]["failed_before_by_code"]) == (0, {"not_an_image": 6})
    assert here("verify", found.src, found.dst).code == 0


def test_addresses_are_tried_again_once_they_are_allowed_or_signed_anew(
    here: Here, tmp_path: Path
) -> None:
    files = {f"/signed/{n}.jpg": image_bytes(n) for n in range(4)}
    files["/signed/bad.jpg"] = b"no image"
    names = [path.rpartition("/")[2] for path in files]
    arguments = ["fingerprint", tmp_path / "list.txt", tmp_path / "labels"]

    def night(url: str, last: str, *more: str) -> Ran:
        signatures = dict.fromkeys(names, "right") | {names[0]: last}
        (tmp_path / "list.txt").write_text(
            "".join(
                f"{url}/signed/{name}?X-Amz-Signature=x&sig={said}\n"
                for name, said in signatures.items()
            )
        )
        return here(*arguments, "--json", *more)

    with web_server(files) as url:
        refused = night(url, "right")
        assert (refused.code, refused.json["counts"]["errors"]) == (3, {"denied": 5})
        still = night(url, "right")
        assert (still.code, still.json["counts"]["failed_before"]) == (0, 5)
        allowed = night(url, "expired", "--allow-private")
        assert allowed.json["counts"]["retried"] == 5
        assert allowed.json["counts"]["errors"] == {"transient": 1, "not_an_image": 1}
        assert allowed.code == 4
        anew = night(url, "right", "--allow-private")
        assert (anew.code, anew.json["counts"]["labelled"]) == (0, 1)
        assert anew.json["counts"]["failed_before_by_code"] == {"not_an_image": 1}


def test_many_nights_are_compacted(here: Here, s3: S3Server) -> None:
    found = Archive(s3, {})
    for night in range(2):
        found.put(archive(10, first=100 * night))
        assert here(*measure(found)).code == 0
    assert here("compact", found.dst, "--json").json == {"files_before": 2, "files_after": 1}
    assert uris_of(found.delta()) == uris_of(found.plain()) == found.uris()
    assert here(*measure(found)).json["counts"]["done"] == 20


def test_a_manifest_gives_one_row_an_object(here: Here, s3: S3Server) -> None:
    found = Archive(s3, archive(20))
    listed = [*found.uris(), *found.uris()[:5], f"{found.src}/not-there.jpg"]
    manifest = f"{s3.bucket()}/tonight.csv"
    s3.put(manifest, "\n".join(["uri", *listed]).encode())
    arguments = ["fingerprint", manifest, found.dst, "--json"]
    first = here(*arguments)
    assert first.code == 0, first.err
    counts = first.json["counts"]
    assert (counts["listed"], counts["labelled"], counts["errors"]) == (21, 20, {"missing": 1})
    assert uris_of(found.plain()) == sorted({*listed})
    s3.put(manifest, "\n".join(["uri", *listed[3:20]]).encode())
    shorter = here(*arguments)
    assert (shorter.json["counts"]["labelled"], shorter.json["counts"]["gone"]) == (0, 4)
    assert here("verify", manifest, found.dst).code == 0


def test_many_images_that_clip_are_a_warning_at_the_end(here: Here, tmp_path: Path) -> None:
    src, dst = tmp_path / "photos", tmp_path / "labels"
    src.mkdir()
    for number in range(10):
        light = np.linspace(0, 65535, 48 * 32).astype("u2").reshape(32, 48)
        Image.fromarray(light >> (0 if number < 7 else 8)).save(src / f"{number}.png")
    (src / "plain.jpg").write_bytes(image_bytes(1))
    first = here("fingerprint", src, dst)
    assert first.code == 0, first.err
    assert "warning: 7 of 10 16-bit grey (I;16) images clip to white" in first.out
    (run,) = LabelStore(str(dst)).runs()
    assert {mode: c.model_dump() for mode, c in run.clipping.items()} == {
        "I;16": {"images": 10, "white": 7, "black": 0}
    }
    again = here("fingerprint", src, dst, "--json")
    assert again.json["clipping"] == {}  # of what this run decoded
