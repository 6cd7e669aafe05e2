"""Nights over a local disk with closed folders, odd times, deep paths and litter of systems."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.integration.conftest import Ran
from tests.parts.models.tiny import archive, image_bytes

Here = Callable[..., Ran]

YEAR_30828 = 910_692_730_085


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for part in ("a", "b", "@eaDir"):
        (folder / part).mkdir(parents=True)
        for name, data in archive(10).items():
            (folder / part / Path(name).name).write_bytes(data)
    return folder


def deeply(folder: Path, data: bytes) -> None:
    """An image below 400 folders: 4,400 bytes of path."""
    handle = os.open(folder, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("folder-nam", dir_fd=handle)
        deeper = os.open("folder-nam", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    file = os.open("deep.jpg", os.O_WRONLY | os.O_CREAT, dir_fd=handle)
    os.write(file, data)
    os.close(file)
    os.close(handle)


def rows(dst: Path) -> dict[str, int | None]:
    table = DeltaTable(str(dst)).to_pyarrow_table(columns=["uri", "phash"]).to_pydict()
    assert len(set(table["uri"])) == len(table["uri"])
    return dict(zip(table["uri"], table["phash"], strict=True))


def test_a_folder_that_cannot_be_read_keeps_its_rows(
    here: Here, photos: Path, tmp_path: Path
) -> None:
    dst = tmp_path / "labels"
    deeply(photos, image_bytes(99))
    night = ["fingerprint", photos, dst, "--json", "--no-progress"]
    first = here(*night)
    assert first.code == 0, first.err
    counts = first.json["counts"]
    assert (counts["labelled"], counts["left_out"]) == (21, {"@eaDir": 1})
    assert all(rows(dst).values())

    # A link that cannot be looked up: root may read every folder.
    (photos / "b").rename(tmp_path / "away")
    (photos / "b").symlink_to("x" * 300)
    next(iter((photos / "a").iterdir())).unlink()

    closed = {f"file://{photos}/b": "file name too long"}
    second = here(*night)
    assert second.code == 0
    counts = second.json["counts"]
    assert (counts["gone"], counts["unreadable"], counts["listed"]) == (1, 1, 10)
    assert (second.json["unreadable"], second.json["listing_complete"]) == (closed, False)
    assert f"cannot read {photos}/b: file name too long" in second.err
    assert "--exclude" in second.err

    strict = here(*night, "--strict-listing", "--delete")
    assert (strict.code, strict.json["status"]) == (1, "failed")
    assert len(rows(dst)) == 21
    planned = here("plan", photos, dst, "--task", "fingerprint", "--json", "--no-probe")
    assert (planned.json["counts"]["gone"], planned.json["unreadable"]) == (1, closed)
    proof = here("verify", photos, dst, "--json", "--sample", "0")
    assert (proof.code, proof.json["counts"]["gone"], proof.json["unreadable"]) == (0, 1, closed)
    assert here("verify", photos, dst, "--sample", "0", "--strict-listing").code == 3

    deleted = here(*night, "--delete")
    assert (deleted.code, deleted.json["counts"]["deleted"]) == (0, 1), deleted.err
    assert len(rows(dst)) == 20
    assert sum(f"file://{photos}/b/" in uri for uri in rows(dst)) == 10

    out = here(*night, "--exclude", "b/")
    assert (out.code, out.json["unreadable"], out.json["counts"]["gone"]) == (0, {}, 0)
    words = here("fingerprint", photos, dst, "--no-progress").out
    assert "1 @eaDir (--no-default-excludes reads them)" in words

    (photos / "b").unlink()
    (tmp_path / "away").rename(photos / "b")
    whole = here(*night)
    assert (whole.code, whole.json["counts"]["done"], whole.json["unreadable"]) == (0, 20, {})


def test_only_what_is_new_says_nothing_of_the_rest(
    here: Here, photos: Path, tmp_path: Path
) -> None:
    dst = tmp_path / "labels"
    night = ["fingerprint", photos, dst, "--json", "--no-progress"]
    for path in (photos / "a").iterdir():
        os.utime(path, (0, 1_600_000_000))
    week = here(*night, "--modified-since", "7d")
    assert (week.code, week.json["counts"]["labelled"]) == (0, 10), week.err
    assert week.json["scope"]["modified_since"] == "7d"
    for path in (photos / "b").iterdir():
        path.unlink()
    (photos / "b" / "new.jpg").write_bytes(image_bytes(1))
    again = here(*night, "--modified-since", "7d")
    assert (again.json["counts"]["labelled"], again.json["counts"]["gone"]) == (1, 0)
    quiet = here(*night, "--modified-since", "2999-01-01")
    assert (quiet.code, quiet.json["counts"]["listed"]) == (0, 0)
    whole = here(*night)
    assert (whole.json["counts"]["labelled"], whole.json["counts"]["gone"]) == (10, 10)
    refused = here(*night, "--modified-since", "7d", "--delete")
    assert refused.code == 2
    assert "--modified-since cuts" in refused.err


def test_times_beyond_the_calendar_stay_what_they_are(here: Here, tmp_path: Path) -> None:
    shared = Path("/dev/shm") / tmp_path.name
    photos, dst = shared / "photos", tmp_path / "labels"
    photos.mkdir(parents=True)
    try:
        for number, seconds in enumerate((YEAR_30828, 10**18, -(10**18), -1, 10**9)):
            path = photos / f"{number}.jpg"
            path.write_bytes(image_bytes(number))
            os.utime(path, (0, seconds))
        if path.with_name("0.jpg").stat().st_mtime != YEAR_30828:
            pytest.skip("no file system here holds such times")
        night = ["fingerprint", photos, dst, "--json", "--no-progress"]
        first = here(*night)
        assert (first.code, first.json["counts"]["labelled"]) == (0, 5), first.err
        assert here(*night).json["counts"]["done"] == 5
        os.utime(photos / "1.jpg", (0, 10**18 - 1))
        third = here(*night).json["counts"]
        assert (third["changed"], third["labelled"], third["done"]) == (1, 1, 4)
        proof = here("verify", photos, dst, "--json")
        assert (proof.code, proof.json["sample"]["agree"]) == (0, 5)
    finally:
        for path in sorted(shared.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        shared.rmdir()
