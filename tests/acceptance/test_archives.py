"""2,000 images loose, in a zip on S3 and in a zip behind a web address: the same results. Killed in
the middle and finished by the same command; three members replaced; a row taken away."""

import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.storage import Folder
from pipeline.store.delta.table import Table
from pipeline.store.parts import read_part, write_part
from pipeline.store.upkeep import part_path
from tests.integration.conftest import Ran, command, nightlabel
from tests.integration.test_archives import results_of, rows_of
from tests.parts.archives.zips import range_server, zip_of
from tests.parts.models.tiny import archive, image_bytes
from tests.parts.servers.s3 import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.s3]

COUNT = 2000


def killed(words: list[object], dst: str) -> int:
    """Start it, SIGKILL it once some rows are true; returns how many."""
    folder = Folder(dst)
    running = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not any(folder.list("_parts/")):
            assert running.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    return len(rows_of(dst)) if any(folder.list("_delta_log/")) else 0


def finished(words: list[object]) -> Ran:
    done = nightlabel(*words)
    assert done.code == 0, done.err
    return done


def test_two_thousand_images(s3: S3Server, tmp_path: Path) -> None:
    images = archive(COUNT)
    names = list(images)[:3]
    changed = images | {name: image_bytes(10_000 + n) for n, name in enumerate(names)}
    bucket, files = s3.bucket(), {"photos.zip": zip_of(images)}
    s3.put_many((f"{bucket}/photos/{name}", data) for name, data in images.items())
    s3.put(f"{bucket}/photos.zip", files["photos.zip"])
    with ExitStack() as stack:
        url, _ = stack.enter_context(range_server(files))
        private = ["--allow-private"]
        sources: list[tuple[str, list[str]]] = [
            (f"{bucket}/photos/", []),
            (f"{bucket}/photos.zip", []),
            (f"{url}/photos.zip", private),
        ]
        before = []
        for number, (src, more) in enumerate(sources):
            dst = f"{bucket}/measures-{number}"
            words = ["fingerprint", src, dst, "--json", "--commit-seconds", 0.2, *more]
            assert killed(words, dst) < COUNT
            finished(words)
            before.append(results_of(dst))
            assert nightlabel("verify", src, dst, *more).code == 0
        assert all(len(one) == COUNT and one == before[0] for one in before)

        s3.put_many((f"{bucket}/photos/{name}", changed[name]) for name in names)
        files["photos.zip"] = zip_of(changed)
        s3.put(f"{bucket}/photos.zip", files["photos.zip"])
        after = []
        for number, (src, more) in enumerate(sources):
            dst = f"{bucket}/measures-{number}"
            counts = finished(["fingerprint", src, dst, "--json", *more]).json["counts"]
            assert (counts["changed"], counts["labelled"], counts["done"]) == (3, 3, COUNT - 3)
            after.append(results_of(dst))
            assert nightlabel("verify", src, dst, *more).code == 0
            _take_a_row(dst)
            proof = nightlabel("verify", src, dst, *more, "--json")
            assert (proof.code, proof.json["missing"]) == (3, 1)
        assert all(one == after[0] for one in after)


def _take_a_row(dst: str) -> None:
    """Behind the store's back."""
    folder = Folder(dst)
    table = Table.open(folder)
    assert table is not None
    file = max(table.live(), key=lambda one: one.num_rows)
    rows = read_part(folder, file)
    path = part_path("thief", file.recipe, 0)
    table.commit(added=[write_part(folder, path, file.recipe, rows.slice(1))], removed=[file])
