"""Nights over zip files: on disk, on S3 and behind a web address, as over the same loose images."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from pipeline.storage import Folder
from pipeline.store.delta.table import Table
from pipeline.store.parts import read_part, write_part
from pipeline.store.upkeep import part_path
from tests.integration.conftest import Ran, command
from tests.parts.archives.zips import range_server, zip_of
from tests.parts.models.tiny import archive, image_bytes
from tests.parts.servers.s3 import S3Server

pytestmark = pytest.mark.s3

Here = Callable[..., Ran]
BROKEN = {"bad.jpg": b"<html>", "none.png": b"", "cut.jpg": image_bytes(1)[:400]}
IMAGES = archive(30) | BROKEN
RESULT = ["phash", "sharpness", "brightness", "colourfulness", "aspect", "width", "error_code"]


def rows_of(dst: object, *columns: str) -> dict[str, dict[str, Any]]:
    """What a Delta reader sees, by member or by the name below `photos/`."""
    folder = Folder(str(dst))
    table = DeltaTable(folder.delta_url, storage_options=folder.delta_options)
    found = table.to_pyarrow_table(columns=["uri", "member", *columns]).to_pylist()
    rows = {row["member"] or row["uri"].rpartition("photos/")[2]: row for row in found}
    assert len(rows) == len(found)
    return rows


def results_of(dst: object) -> dict[str, list[Any]]:
    found = rows_of(dst, *RESULT)
    return {name: [row[column] for column in RESULT] for name, row in found.items()}


def fingerprint(src: object, dst: object, *more: object) -> list[object]:
    return ["fingerprint", src, dst, "--max-errors", "50%", "--json", *more]


def test_the_same_images_loose_and_zipped_give_the_same_rows(
    here: Here, s3: S3Server, tmp_path: Path
) -> None:
    bucket, local = s3.bucket(), tmp_path / "photos.zip"
    s3.put_many((f"{bucket}/photos/{name}", data) for name, data in IMAGES.items())
    s3.put(f"{bucket}/photos.zip", zip_of(IMAGES))
    local.write_bytes(zip_of(IMAGES | {"notes.txt": b"x"}))
    with range_server({"photos.zip": zip_of(IMAGES)}) as (url, _):
        sources = [f"{bucket}/photos/", f"{bucket}/photos.zip", local, f"{url}/photos.zip"]
        results = []
        for number, src in enumerate(sources):
            dst = f"{bucket}/measures-{number}"
            private = ["--allow-private"] if number == 3 else []
            first = here(*fingerprint(src, dst, *private))
            assert first.code == 0, first.err
            counts = first.json["counts"]
            assert (counts["listed"], counts["labelled"], counts["failed"]) == (33, 30, 3)
            results.append(results_of(dst))
            if number == 0:
                continue  # other tests are about loose images
            again = here(*fingerprint(src, dst, *private))
            assert (again.json["counts"]["labelled"], again.json["counts"]["done"]) == (0, 30)
            proof = here("verify", src, dst, *private, "--json")
            assert proof.code == 0, proof.out
            assert proof.json["sample"]["agree"] == proof.json["sample"]["images"] == 16
    assert all(result == results[0] for result in results)


def test_members_that_were_replaced_are_exactly_the_rows_of_the_next_night(
    here: Here, s3: S3Server
) -> None:
    src, dst = f"{s3.bucket()}/photos.zip", f"{s3.bucket()}/measures"
    s3.put(src, zip_of(IMAGES))
    first = here(*fingerprint(src, dst))
    before = rows_of(dst, "run_id", "etag")
    names = list(IMAGES)[:3]
    changed = {name: image_bytes(1000 + n) for n, name in enumerate(names)}
    gone = list(IMAGES)[5]
    now = {name: data for name, data in (IMAGES | changed).items() if name != gone}
    s3.put(src, zip_of(now | {"new/one.jpg": image_bytes(2000)}))
    second = here(*fingerprint(src, dst, "--delete"))
    assert second.code == 0, second.err
    counts = second.json["counts"]
    assert (counts["changed"], counts["new"], counts["labelled"]) == (3, 1, 4)
    assert (counts["gone"], counts["deleted"]) == (1, 1)
    after = rows_of(dst, "run_id", "etag")
    renewed = {name for name, row in after.items() if row["run_id"] != first.json["run_id"]}
    assert renewed == {*names, "new/one.jpg"}
    assert after.keys() == {*now, "new/one.jpg"}
    assert {n: after[n] for n in after.keys() - renewed} == {
        n: before[n] for n in after.keys() - renewed
    }
    s3.put(src, zip_of(dict(list(now.items())[:9])))
    refused = here(*fingerprint(src, dst, "--delete"))
    assert refused.code == 3
    assert "would remove" in refused.err
    assert len(rows_of(dst)) == len(after)


def test_verify_fails_for_a_member_whose_row_was_taken_away(here: Here, tmp_path: Path) -> None:
    src, dst = tmp_path / "photos.zip", tmp_path / "measures"
    src.write_bytes(zip_of(archive(10)))
    assert here(*fingerprint(src, dst)).code == 0
    assert here("verify", src, dst).code == 0
    folder = Folder(str(dst))
    table = Table.open(folder)
    assert table is not None
    [file] = table.live()
    rows = read_part(folder, file)
    path = part_path("thief", file.recipe, 0)
    table.commit(added=[write_part(folder, path, file.recipe, rows.slice(1))], removed=[file])
    proof = here("verify", src, dst, "--json")
    assert (proof.code, proof.json["missing"]) == (3, 1)


def test_a_list_of_archives_and_images_is_one_night(here: Here, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of(archive(8)))
    (tmp_path / "b.zip").write_bytes(zip_of(archive(8, first=8))[:-50])
    (tmp_path / "loose.jpg").write_bytes(image_bytes(99))
    listed, dst = tmp_path / "list.txt", tmp_path / "measures"
    listed.write_text("a.zip\nb.zip\nloose.jpg\n")
    first = here(*fingerprint(listed, dst))
    assert first.code == 0, first.err
    counts = first.json["counts"]
    assert (counts["labelled"], counts["errors"], counts["unreadable"]) == (9, {"truncated": 1}, 1)
    told = here("errors", dst, "--json").json["codes"][0]["newest"][0]
    assert (told["uri"], told["member"]) == ((tmp_path / "b.zip").as_uri(), None)
    (tmp_path / "b.zip").write_bytes(zip_of(archive(8, first=8)))
    second = here(*fingerprint(listed, dst, "--delete"))
    assert second.code == 0, second.err
    counts = second.json["counts"]
    assert (counts["labelled"], counts["deleted"], counts["unreadable"]) == (8, 1, 0)
    assert len(rows_of(dst)) == 17
    assert here("verify", listed, dst).code == 0


def test_a_poison_in_a_zip_costs_a_row(here: Here, tmp_path: Path) -> None:
    """Limits of bytes, pixels and time are those of all images."""
    src, dst = tmp_path / "photos.zip", tmp_path / "measures"
    src.write_bytes(zip_of(archive(10) | {"large.jpg": bytes(30_000), "in.zip": b"PK"}))
    done = here(*fingerprint(src, dst, "--max-bytes", 20_000))
    assert done.code == 0, done.err
    assert done.json["counts"]["errors"] == {"too_large": 1, "unsupported": 1}
    assert done.json["counts"]["labelled"] == 10


@pytest.mark.ray
def test_killed_in_the_middle_the_same_command_finishes(here: Here, s3: S3Server) -> None:
    src, dst = f"{s3.bucket()}/photos.zip", f"{s3.bucket()}/measures"
    s3.put(src, zip_of(archive(1200)))
    words = fingerprint(src, dst, "--commit-seconds", 0.2)
    running = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL)
    try:
        folder = Folder(dst)
        until = time.monotonic() + 120
        while not any(folder.list("_delta_log/")) or not any(folder.list("_parts/")):
            assert running.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    done = here(*words)
    assert done.code == 0, done.err
    assert len(rows_of(dst)) == 1200
