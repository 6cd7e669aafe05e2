"""AWS_ENDPOINT_URL and its like: every part of a run speaks to the same server."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from pipeline.models.bucket import copy
from pipeline.storage import Folder, Want, list_pages, read_many, stat
from pipeline.storage.clients import aws
from pipeline.storage.clients.buckets import connect
from tests.parts.models.tiny import make_model
from tests.parts.servers.s3 import FOREIGN, S3Server

pytestmark = pytest.mark.s3

#: Nobody is there; who goes by a variable that counts less ends here.
NOBODY = "http://127.0.0.1:9"

WAYS = {
    "AWS_ENDPOINT_URL": {"AWS_ENDPOINT_URL": "{s3}"},
    "AWS_ENDPOINT_URL_S3": {"AWS_ENDPOINT_URL_S3": "{s3}"},
    "both": {"AWS_ENDPOINT_URL_S3": "{s3}", "AWS_ENDPOINT_URL": NOBODY},
    "with a slash": {"AWS_ENDPOINT_URL": "{s3}/"},
    "profile": {"AWS_PROFILE": "nightly"},
    "a profile of services": {"AWS_PROFILE": "services"},
    "a variable over a profile": {"AWS_PROFILE": "elsewhere", "AWS_ENDPOINT_URL": "{s3}"},
}
CONFIG = """
[profile nightly]
endpoint_url = {s3}
[profile elsewhere]
endpoint_url = http://127.0.0.1:9
[profile services]
services = here
[services here]
s3 =
  endpoint_url = {s3}
"""


@pytest.fixture
def bucket(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket; the variables that lead to its server are gone, but for the credentials."""
    found = s3.bucket()
    for name in ("AWS_ENDPOINT_URL", *FOREIGN):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config").write_text(CONFIG.format(s3=s3.endpoint))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path / "cache"))
    return found


@pytest.mark.torch
@pytest.mark.parametrize("way", WAYS)
def test_every_client_goes_the_same_way(
    s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    for name, value in WAYS[way].items():
        monkeypatch.setenv(name, value.format(s3=s3.endpoint))
    folder = Folder(f"{bucket}/in")
    folder.put("a.jpg", b"jpeg")
    uri = f"{bucket}/in/a.jpg"
    assert stat(uri).size == 4
    assert [entry.uri for page in list_pages(f"{bucket}/in/") for entry in page] == [uri]
    s3.put(f"{bucket}/in//odd.jpg", b"odd")
    reads = dict(read_many([Want(uri), Want(f"{bucket}/in//odd.jpg")], max_bytes=99))
    assert reads == {0: b"jpeg", 1: b"odd"}

    labels = Folder(f"{bucket}/labels")
    write_deltalake(labels.delta_url, pa.table({"n": [1]}), storage_options=labels.delta_options)
    write_deltalake(
        labels.delta_url, pa.table({"n": [2]}), mode="append", storage_options=labels.delta_options
    )
    assert DeltaTable(labels.delta_url, storage_options=labels.delta_options).version() == 1

    for path in make_model(tmp_path / "model").iterdir():
        Folder(f"{bucket}/model").put(path.name, path.read_bytes())
    folder, _ = copy(f"{bucket}/model")
    assert (folder / "config.json").is_file()


@pytest.mark.parametrize(
    "given",
    [
        {"AWS_ENDPOINT_URL": "https://s3.eu-west-1.amazonaws.com"},
        {"AWS_ENDPOINT_URL": NOBODY, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
    ],
)
def test_amazon_itself_as_an_endpoint(monkeypatch: pytest.MonkeyPatch, given) -> None:
    """obstore would ask such a host for `/key`, without the bucket."""
    monkeypatch.setattr(aws, "bucket_region", lambda *_: None)  # nobody is asked in a test
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    expected = "https://s3.eu-west-1.amazonaws.com"
    options = Folder("s3://bucket/labels").delta_options
    assert options["AWS_ENDPOINT_URL"] == expected
    assert options["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"] == "false"
    config = connect("s3://bucket").config
    assert expected in config.values()
    assert str(config["virtual_hosted_style_request"]).lower() == "false"
