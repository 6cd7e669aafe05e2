"""What buckets may be called, and that no name chooses which host is asked."""

import random
from datetime import timedelta
from urllib.parse import urlsplit

import obstore
import pytest

from pipeline.errors import NightlabelError, SpecError
from pipeline.storage import Folder, Want, check_readable, list_pages, read_many, stat
from pipeline.storage.clients import aws
from pipeline.storage.clients.buckets import connect
from pipeline.storage.names.bucket_names import problem_of

GOOD = (
    *("s3://photos", "s3://b", "s3://my.photos.example.com", "s3://a-b-c", "s3://xn--bcher-kva"),
    *("s3://localhost", "s3://2130706433", "s3://0x7f000001", "s3://bucket.s3.amazonaws.com"),
    *("s3://Legacy_Bucket.of_us-east-1", "s3://" + "A" * 255, "s3://photos--use1-az4--x-s3"),
    *("s3://my-ap-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias", "s3://my-olap-xyz--ol-s3"),
    *("gs://photos", "gs://www.example.com", "gs://a_b-c", "gs://" + "a" * 222, "gs://1234"),
    *("az://photos", "az://a-b", "az://$root", "az://$web", "az://$logs", "abfs://c", "abfss://c"),
    *("abfss://c@account.dfs.core.windows.net", "az://$web@account.blob.core.windows.net"),
    *("abfss://c@account-secondary.dfs.core.windows.net", "az://" + "a" * 63),
    *("abfss://Work_Space@onelake.dfs.fabric.microsoft.com",),
)
BAD = (
    *("s3://", "s3://.", "s3://..", "s3://...", "s3://127.0.0.1", "s3://a" + "a" * 255, "s3://ü"),
    *("s3://localhost:18443#", "s3://2130706433:18443?", "s3://a@b", "s3://a:b", "s3://a b"),
    *("s3://a\\b", "s3://a%2f", "s3://[::1]", "s3://a\n", "s3://a\t", "s3://a+b", "s3://a\0"),
    *("s3://arn:aws:s3:us-west-2:123456789012:accesspoint", "s3://arn:aws:s3:::bucket"),
    *("gs://", "gs://UPPER", "gs://-a", "gs://a-", "gs://a:80", "gs://a@b", "gs://a#", "gs://.a"),
    *("az://", "az://UPPER", "az://a--b", "az://-a", "az://a.b", "az://127.0.0.1", "az://$all"),
    *("az://c@127.0.0.1:10000", "az://c@localhost", "az://c@account.evil.example", "az://a_b"),
    *("az://c@account.dfs.core.windows.net.evil.example", "az://c:p@account.dfs.core.windows.net"),
    *("az://c@account.dfs.core.windows.net:99", "az://c@a.b.dfs.core.windows.net", "az://c@"),
    *("az://c@evil.example#.dfs.core.windows.net", "az://@account.dfs.core.windows.net"),
    *("az://" + "a" * 64, "az://c@" + "a" * 25 + ".dfs.core.windows.net", "az://c?x", "az://c#x"),
)


@pytest.mark.parametrize("root", GOOD)
def test_names_that_stores_give(root: str) -> None:
    assert problem_of(root) is None


@pytest.mark.parametrize("root", BAD)
def test_what_is_no_name_is_asked_of_nobody(root: str) -> None:
    """As a row, as SRC, and as DST."""
    assert problem_of(root)
    [(_, row)] = read_many([Want(f"{root}/x.jpg")], max_bytes=99)
    assert str(row.code) == "missing"
    with pytest.raises(NightlabelError):
        stat(f"{root}/x.jpg")
    for call in (check_readable, lambda uri: next(list_pages(uri))):
        with pytest.raises(SpecError, match=r"^src=.*(not a valid name|alias of the access point)"):
            call(f"{root}/photos/")
    with pytest.raises(SpecError, match=r"^dst=.*(not a valid name|alias of the access point)"):
        Folder(f"{root}/labels")


LETTERS = "ab019AZ._-.-@:#?/\\%+$ []&=;!~\t\0ü\uff4c"


def test_no_name_that_passes_chooses_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The urls that the clients make of it: some random names and those above."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-a-test")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "aGVsbG8=")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "ours")
    monkeypatch.setattr(aws, "bucket_region", lambda *_: "eu-west-1")  # nobody is asked in a test
    generator = random.Random(26)
    names = {
        "".join(generator.choices(LETTERS, k=generator.choice((1, 3, 9)))) for _ in range(9000)
    }
    roots = [
        f"{kind}://{name.partition('/')[0]}" for name in sorted(names) for kind in ("s3", "az")
    ]
    passed = [root for root in roots if problem_of(root) is None]
    assert 100 < len(passed) < 0.5 * len(roots)
    for root in [*generator.sample(passed, 60), *(good for good in GOOD if good[:2] != "gs")]:
        host = urlsplit(url_of(root)).hostname or ""
        bucket = root.partition("://")[2]
        if root.startswith("s3"):
            assert host in {"s3.eu-west-1.amazonaws.com", f"{bucket}.s3.eu-west-1.amazonaws.com"}
            assert bucket in url_of(root)  # letter by letter: a host is in small letters
            signed = urlsplit(aws.signed_url(bucket, "get_object", Key="a//b")).hostname or ""
            assert signed.endswith(".amazonaws.com")
        else:
            assert host.endswith((".core.windows.net", ".fabric.microsoft.com"))


def url_of(root: str) -> str:
    return obstore.sign(connect(root), "GET", "k", timedelta(seconds=9))
