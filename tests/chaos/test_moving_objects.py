"""Objects that are replaced or deleted between their listing and their reading.

Every version of an object has a size in pixels of its own, so a row's width tells which bytes
were labelled: they must be those that the row's etag names.
"""

import hashlib
import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.storage.listing.local import utc
from tests.integration.conftest import Archive, Ran, measure, nightlabel, uris_of
from tests.parts.servers.faults import faulty
from tests.parts.servers.s3 import S3Server

pytestmark = [pytest.mark.s3, pytest.mark.ray]

OLD, NEW = 40, 90


def picture(width: int, seed: int = 0) -> bytes:
    sink = io.BytesIO()
    Image.effect_noise((width, 30 + seed % 9), 60).convert("RGB").save(sink, "png")
    return sink.getvalue()


def label(found: Archive, src: str, model: Path, env: dict[str, str]) -> Ran:
    return nightlabel("label", src, found.dst, "--model", model, "--json", env=os.environ | env)


def rows(found: Archive, result: str = "label") -> dict[str, dict[str, Any]]:
    columns = ["uri", "etag", "size", "width", result, "error_code"]
    by_name = {row["uri"].rpartition("/")[2]: row for row in found.delta(columns).to_pylist()}
    assert len(by_name) == found.delta().num_rows
    return by_name


class Moment:
    """Something that happens once, before anything else goes on."""

    def __init__(self, *, what: Any) -> None:
        self._lock, self._what, self._done = threading.Lock(), what, False

    def __call__(self, _: str) -> None:
        with self._lock:
            if not self._done:
                self._what()
            self._done = True


def test_objects_that_move_on_s3(here: Callable[..., Ran], s3: S3Server) -> None:
    """Deleted and replaced before the read, in it, and between a cut read and the next one."""
    old = {f"{n:03}.png": picture(OLD, n) for n in range(40)}
    new = {name: picture(NEW, n) for n, name in enumerate(old)}
    versions = {hashlib.md5(data).hexdigest(): OLD for data in old.values()}
    versions |= {hashlib.md5(data).hexdigest(): NEW for data in new.values()}
    found = Archive(s3, old)

    def put(name: str) -> None:
        s3.put(f"{found.src}/{name}", new[name])

    def night(env: dict[str, str]) -> Ran:
        return nightlabel(
            *measure(found), env=os.environ | env
        )  # no network: reading is the matter

    def of(name: str) -> dict[str, Any]:
        return {"method": "GET", "path": f"/photos/{name}"}

    others = threading.Semaphore(0)

    def others_are_read() -> None:
        """Two equal bodies of the first object would mean that etags are no MD5s here."""
        for _ in range(20):
            assert others.acquire(timeout=60)

    with faulty(s3) as proxy:
        proxy.rule(**of("001.png"), before=lambda _: s3.delete(f"{found.src}/001.png"))
        proxy.rule(**of("002.png"), before=lambda _: put("002.png"))
        proxy.rule(**of("003.png"), after=Moment(what=lambda: put("003.png")))
        proxy.rule(**of("004.png"), times=1, cut_after=100)
        proxy.rule(**of("004.png"), before=lambda _: put("004.png"))
        proxy.rule(**of("005.png"), times=1, after=lambda _: put("005.png"), cut_after=100)
        proxy.rule(**of("0[12]..png"), after=lambda _: others.release())
        proxy.rule(**of("006.png"), times=2, flip=4, before=Moment(what=others_are_read))
        proxy.rule(**of("006.png"), before=lambda _: put("006.png"))
        proxy.rule(**of("007.png"), before=lambda _: s3.put(f"{found.src}/007.png", old["007.png"]))
        first = night(proxy.env)
        proxy.rules.clear()
        assert first.code == 4, first.err
        counts = first.json["counts"]
        assert counts["errors"] == {"missing": 1, "changed": 4}
        seen = rows(found, "phash")
        assert len(seen) == 40
        codes = {name: row["error_code"] for name, row in seen.items() if row["error_code"]}
        assert codes.pop("001.png") == "missing"
        assert codes == dict.fromkeys(["002.png", "004.png", "005.png", "006.png"], "changed")
        for row in seen.values():
            if row["phash"] is not None:
                assert row["width"] == versions[row["etag"]] == OLD

        second = night(proxy.env)
    assert second.code == 0, second.err
    counts = second.json["counts"]
    assert (counts["labelled"], counts["changed"], counts["gone"]) == (5, 5, 1)
    seen = rows(found, "phash")
    for row in seen.values():
        assert row["error_code"] in (None, "missing")
        if row["phash"] is not None:
            assert row["width"] == versions[row["etag"]]
    assert {name for name, row in seen.items() if row["width"] == NEW} == {
        f"{n:03}.png" for n in (2, 3, 4, 5, 6)
    }
    assert uris_of(found.plain()) == uris_of(found.delta())
    assert here("verify", found.src, found.dst).code == 0


@pytest.mark.chaos
def test_files_that_move_on_local_disk(s3: S3Server, tiny_model: Path, tmp_path: Path) -> None:
    """A block begins with more objects on S3 than are read at once; what is done to the files
    before any of those is read falls between their listing and their reading."""
    photos = tmp_path / "photos"
    photos.mkdir()
    files = {name: photos / f"{name}.png" for name in ("gone", "renamed", "cut", "same", "still")}
    padded = {width: picture(width).ljust(20_000, b"\0") for width in (OLD, NEW)}
    for path in files.values():
        path.write_bytes(padded[OLD])
    found = Archive(s3, {f"{n:03}.png": picture(OLD, n) for n in range(40)})
    manifest = f"{s3.bucket()}/tonight.jsonl"

    def put_manifest() -> None:
        entries = [{"uri": uri} for uri in found.uris()] + [
            {
                "uri": path.as_uri(),
                "size": path.stat().st_size,
                "modified": utc(path.stat().st_mtime_ns).isoformat(),
            }
            for path in files.values()
            if path.exists()
        ]
        s3.put(manifest, "\n".join(map(json.dumps, entries)).encode())

    def move() -> None:
        files["gone"].unlink()
        other = photos / "other"
        other.write_bytes(padded[NEW] + b"\0")
        other.replace(files["renamed"])
        os.truncate(files["cut"], 100)
        files["same"].write_bytes(padded[NEW])

    put_manifest()
    with faulty(s3) as proxy:
        proxy.rule(method="GET", path="/photos/", before=Moment(what=move))
        first = label(found, manifest, tiny_model, proxy.env)
        assert first.code == 4, first.err
        assert first.json["counts"]["errors"] == {"missing": 1, "changed": 3}
        seen = rows(found)
        codes = {name: seen[f"{name}.png"]["error_code"] for name in files}
        assert codes == {
            "gone": "missing",
            "renamed": "changed",
            "cut": "changed",
            "same": "changed",
            "still": None,
        }
        files["cut"].write_bytes(picture(NEW))
        put_manifest()
        second = label(found, manifest, tiny_model, proxy.env)
    assert second.code == 0, second.err
    assert second.json["counts"]["labelled"] == 3
    seen = rows(found)
    widths = {name: seen[f"{name}.png"]["width"] for name in files}
    assert widths == {"gone": None, "renamed": NEW, "cut": NEW, "same": NEW, "still": OLD}
    for name, path in files.items():
        if path.exists():
            assert seen[f"{name}.png"]["size"] == path.stat().st_size
