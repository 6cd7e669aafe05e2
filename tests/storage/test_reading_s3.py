"""read_many from S3: a server that fails in every way, and a real one."""

import hashlib
import json
from pathlib import Path
from urllib.request import urlopen

import pytest

from pipeline.errors import ErrorCode, TransientError
from pipeline.storage import Want, list_pages, read_many
from tests.parts.servers.s3 import S3Server
from tests.storage.reads import MAX, read
from tests.storage.servers import BODY, ETAG


@pytest.fixture
def s3_at(web: str, monkeypatch) -> str:
    """The faulty server in the place of S3: `s3://bucket/<kind>/<name>`."""
    for name, value in {
        "AWS_ENDPOINT_URL": web,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return "s3://bucket"


def test_s3_faults_that_pass_are_tried_again(s3_at: str) -> None:
    wants = [
        f"{s3_at}/twice-503/s3.jpg",
        f"{s3_at}/cut-once/s3.jpg",
        f"{s3_at}/cut-once/odd\x7f.jpg",
    ]
    assert read(*wants) == [BODY, BODY, BODY]


@pytest.mark.usefixtures("few_tries")
def test_s3_faults_that_stay_are_transient(s3_at: str) -> None:
    kinds = ["status/503-SlowDown", "status/429", "cut-always/a.jpg", "status/403-ExpiredToken"]
    assert read(*(f"{s3_at}/{kind}" for kind in kinds)) == ["transient"] * 4
    assert read(f"{s3_at}/status/403-AccessDenied", f"{s3_at}/status/404-NoSuchKey") == [
        "denied",
        "missing",
    ]


@pytest.mark.usefixtures("few_tries")
def test_bytes_damaged_on_the_way_are_read_again(s3_at: str) -> None:
    assert read(Want(f"{s3_at}/flipped-once/a.jpg", ETAG)) == [BODY]
    assert read(Want(f"{s3_at}/flipped-always/a.jpg", ETAG)) == ["transient"]


def test_an_etag_that_is_no_md5_is_accepted_and_checking_stops(s3_at: str, web: str) -> None:
    folder = f"{s3_at}/no-md5"
    names = ("a.jpg", "b.jpg")
    for name in names:
        assert read(Want(f"{folder}/{name}", "0" * 32)) == [BODY]
    counts = json.loads(urlopen(f"{web}/seen/").read())
    assert [counts[f"/bucket/no-md5/{name}"] for name in names] == [2, 1]


def test_a_store_that_ignores_if_match(s3_at: str) -> None:
    """Of a multipart upload, whose etag is no MD5."""
    assert read(Want(f"{s3_at}/new.jpg", "0" * 32 + "-2")) == ["changed"]
    assert read(Want(f"{s3_at}/new.jpg", hashlib.md5(b"new").hexdigest())) == [b"new"]


@pytest.mark.s3
def test_s3_objects(s3: S3Server) -> None:
    bucket = s3.bucket()
    names = ["a.jpg", "ü b%41+#?.jpg", "deep/er/x.jpg", "a~b.jpg", "new\nline.jpg", "del\x7f.jpg"]
    etags = {name: s3.put(f"{bucket}/{name}", name.encode()) for name in names}
    wants = [Want(f"{bucket}/{name}", etag) for name, etag in etags.items()]
    assert read(*wants) == [name.encode() for name in names]

    uri = f"{bucket}/a.jpg"
    s3.put(f"{bucket}/empty.jpg", b"")
    assert read(
        f"{bucket}/nope.jpg",
        f"{bucket}/empty.jpg",
        "s3://no-such-bucket-at-all/a.jpg",
        Want(uri, "0" * 32),
        Want(f"{bucket}/del\x7f.jpg", "0" * 32),
        Want(uri, None, 4),
    ) == ["missing", "empty", "missing", "changed", "changed", "changed"]
    assert read(uri, Want(uri, None, 5), f"{bucket}/del\x7f.jpg", max_bytes=4) == ["too_large"] * 3


@pytest.mark.s3
def test_s3_objects_as_listed_are_read(s3: S3Server) -> None:
    bucket = s3.bucket()
    s3.put_many((f"{bucket}/{n:03d}.jpg", b"%d" % n) for n in range(50))
    entries = [entry for page in list_pages(f"{bucket}/") for entry in page]
    wants = [Want(entry.uri, entry.etag, entry.size) for entry in entries]
    assert read(*wants) == [b"%d" % n for n in range(50)]


@pytest.mark.s3
@pytest.mark.usefixtures("few_tries")
@pytest.mark.parametrize("change", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_refused_credentials_are_the_nights_fault(s3: S3Server, monkeypatch, change: str) -> None:
    bucket = s3.bucket()
    s3.put(f"{bucket}/a.jpg", b"x")
    monkeypatch.setenv(change, "wrong")
    [(_, found)] = read_many([Want(f"{bucket}/a.jpg")], max_bytes=MAX)
    assert isinstance(found, TransientError)
    assert found.code is ErrorCode.TRANSIENT
    assert s3.env["AWS_ACCESS_KEY_ID"] not in str(found)


@pytest.mark.s3
def test_without_credentials_access_is_anonymous(s3: S3Server, monkeypatch) -> None:
    bucket = s3.bucket()
    s3.put(f"{bucket}/a.jpg", b"x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert read(f"{bucket}/a.jpg") == ["denied"]


@pytest.mark.s3
def test_credentials_of_a_profile_are_found(s3: S3Server, monkeypatch, tmp_path: Path) -> None:
    bucket = s3.bucket()
    s3.put(f"{bucket}/a.jpg", b"x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    config = tmp_path / "config"
    config.write_text(
        f"[profile nightly]\nregion = us-east-1\nendpoint_url = {s3.endpoint}\n"
        f"aws_access_key_id = {s3.env['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {s3.env['AWS_SECRET_ACCESS_KEY']}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "nightly")
    assert read(f"{bucket}/a.jpg") == [b"x"]
