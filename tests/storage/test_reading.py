"""read_many: one outcome for each object, whatever happens to it."""

import hashlib
import os
import stat
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.errors import ImageError, TransientError
from pipeline.storage import UNKNOWN_TIME, Want, list_pages, read_many
from tests.storage.reads import MAX, read
from tests.storage.servers import BODY, ETAG, HERE


def test_local_files(tmp_path: Path) -> None:
    image = tmp_path / "ä%41 #.jpg"
    image.write_bytes(b"jpeg")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    uri, stat = f"file://{image}", image.stat()
    seen = stat.st_mtime_ns // 1000
    assert read(
        uri,
        Want(uri, None, 4, seen),
        Want(uri, None, 5, seen),
        Want(uri, None, 4, seen + 1),
        f"file://{tmp_path}/nope.jpg",
        f"file://{empty}",
        f"file://{pipe}",
        f"file://{tmp_path}",
        f"file://{image}/below.jpg",
    ) == [b"jpeg", b"jpeg", "changed", "changed", "missing", "empty"] + ["not_an_image"] * 2 + [
        "missing"
    ]
    assert read(uri, Want(uri, None, 4, None), max_bytes=3) == ["too_large"] * 2
    assert read(uri, max_bytes=4) == [b"jpeg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_denied(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.write_bytes(b"x")
    image.chmod(0)
    assert read(f"file://{image}") == ["denied"]


def test_a_listed_file_is_read_as_listed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    [[entry]] = list_pages(f"file://{tmp_path}/")
    modified = (entry.modified - UNKNOWN_TIME).total_seconds() * 1_000_000
    want = Want(entry.uri, entry.etag, entry.size, round(modified))
    assert read(want) == [b"x"]
    os.utime(tmp_path / "a.jpg", ns=(0, 1_234_567_890))
    assert read(want) == ["changed"]
    for rounded in (1_000_000, 1_234_000, 1_234_567):
        assert read(Want(entry.uri, None, 1, rounded)) == [b"x"]
    assert read(Want(entry.uri, None, 1, 1_234_566)) == ["changed"]


def at_the_first_look(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Let `change` happen between a reader's look at an open file and its read."""
    look, changes = os.fstat, [change]

    def looked(handle: int) -> os.stat_result:
        status = look(handle)
        if stat.S_ISREG(status.st_mode) and changes:
            changes.pop()()
        return status

    monkeypatch.setattr(os, "fstat", looked)


@pytest.mark.parametrize("written", [b"NEW!", b"NE", b"NEWER"], ids=["same", "shorter", "longer"])
@pytest.mark.parametrize("held_to", [True, False], ids=["as listed", "as it is"])
def test_a_local_file_that_is_written_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bytes, held_to: bool
) -> None:
    """In place, of whatever length: never other bytes than those of the listed time and size."""
    image = tmp_path / "a.jpg"
    image.write_bytes(b"old!")
    os.utime(image, (0, 1_000_000))
    at_the_first_look(monkeypatch, lambda: image.write_bytes(written))
    listed = Want(f"file://{image}", None, 4, 10**12) if held_to else Want(f"file://{image}")
    assert read(listed) == ["changed" if held_to else written]


@pytest.mark.parametrize("after", ["missing", "changed"])
def test_a_local_file_that_is_replaced_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """By a rename or a removal: the reader holds the old file, and gives all of it."""
    image, other = tmp_path / "a.jpg", tmp_path / "other"
    image.write_bytes(b"old!")
    other.write_bytes(b"NEW!")
    os.utime(image, (0, 1_000_000))
    want = Want(f"file://{image}", None, 4, 10**12)
    at_the_first_look(
        monkeypatch, image.unlink if after == "missing" else partial(other.replace, image)
    )
    assert read(want) == [b"old!"]
    assert read(want) == [after]


def test_http(web: str) -> None:
    assert read(
        f"{web}/plain.jpg",
        f"{web}/nope.jpg",
        f"{web}/status/403",
        f"{web}/status/401",
        f"{web}/status/410",
        f"{web}/empty/x.jpg",
        f"{web}/redirect/x.jpg",
        Want(f"{web}/ok/a.jpg", ETAG),
        Want(f"{web}/ok/b.jpg", "other"),
        Want(f"{web}/plain.jpg", None, 5),
        Want(f"{web}/plain.jpg", None, 0),
        Want(f"{web}/weak/a.jpg", 'W/"7"'),
        Want(f"{web}/weak/a.jpg", 'W/"8"'),
    ) == [
        b"jpeg",
        "missing",
        "denied",
        "denied",
        "missing",
        "empty",
        BODY,
        BODY,
        "changed",
        "changed",
        "empty",
        BODY,
        "changed",
    ]


def test_http_too_large_is_known_by_its_header_or_by_counting(web: str) -> None:
    uris = [f"{web}/large.jpg", f"{web}/endless/x.jpg"]
    assert read(*uris, max_bytes=4095) == ["too_large", "too_large"]
    assert read(uris[0], max_bytes=4096) == [bytes(4096)]


def test_http_faults_that_pass_are_tried_again(web: str) -> None:
    assert read(f"{web}/twice-503/a.jpg", f"{web}/cut-once/a.jpg") == [BODY, BODY]


@pytest.mark.usefixtures("few_tries")
def test_http_faults_that_stay_are_transient(web: str) -> None:
    uris = [f"{web}/status/{status}" for status in (429, 500, 503)]
    assert read(*uris, f"{web}/cut-always/a.jpg", "http://127.0.0.1:9/x.jpg") == ["transient"] * 5


@pytest.mark.usefixtures("few_tries")
def test_messages_show_no_signature(web: str) -> None:
    uris = [f"{web}/status/{n}?X-Amz-Signature=secret" for n in (403, 404, 412, 503)]
    for _, found in read_many([Want(uri) for uri in uris], max_bytes=MAX, rules=HERE):
        assert isinstance(found, ImageError | TransientError)
        assert "secret" not in repr(found) + found.message


def test_what_has_an_address_is_read_there(web: str) -> None:
    want = Want("https://h/signed/a.jpg", address=f"{web}/signed/a.jpg?sig=right")
    assert read(want) == ["missing"]  # the file is not there, but the door was open
    assert "right" not in repr(want)


def test_user_and_password_are_sent_where_they_belong(web: str) -> None:
    user = web.replace("//", "//me:p%40w@")
    basic = "Basic " + b64encode(b"me:p@w").decode()
    assert read(f"{user}/asked/Authorization") == [basic.encode()]
    assert read(f"{user}/to/x?{web}/asked/Authorization") == [b"none"]


def test_memory_through_fsspec() -> None:
    fsspec.filesystem("memory").pipe_file("/reading/a.jpg", b"jpeg")
    assert read("memory://reading/a.jpg", "memory://reading/no.jpg") == [b"jpeg", "missing"]
    assert read("memory://reading/a.jpg", max_bytes=3) == ["too_large"]
    assert read("nosuch://a/b.jpg", "wasbs://c@a/b.jpg") == ["unsupported"] * 2


class Tagged(MemoryFileSystem):
    """A store with etags and without conditional reads, in which each object is replaced
    as soon as somebody has read it."""

    protocol = "tagged"
    store: ClassVar[dict[str, Any]] = {}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("tagged://"))

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        found = super().info(path, **options)
        return found | {"ETag": hashlib.md5(self.store[found["name"]].getvalue()).hexdigest()}

    def cat_file(self, path: str, **options: Any) -> bytes:
        data = super().cat_file(path, **options)
        if data == b"old!":
            self.pipe_file(path, b"NEW!")
        return data


def test_fsspec_holds_objects_to_their_etags() -> None:
    fsspec.register_implementation("tagged", Tagged)
    fsspec.filesystem("tagged").pipe_file("/a.jpg", b"old!")
    old, new = (hashlib.md5(data).hexdigest() for data in (b"old!", b"NEW!"))
    assert read(Want("tagged://a.jpg", new, 4)) == ["changed"]
    fsspec.filesystem("tagged").pipe_file("/a.jpg", b"old!")
    assert read(Want("tagged://a.jpg", old, 4)) == ["changed"]
    assert read(Want("tagged://a.jpg", new, 4)) == [b"NEW!"]


def test_what_arrives_first_is_given_first(web: str) -> None:
    wants = [Want(f"{web}/twice-503/slow.jpg"), *[Want(f"{web}/plain.jpg")] * 5]
    order = [index for index, _ in read_many(wants, max_bytes=MAX, rules=HERE)]
    assert order[-1] == 0
