"""What of an address names an object, and what only opens it."""

import pytest

from pipeline.storage.names.secrets import identities, identity, redacted
from pipeline.storage.names.uris import public

AWS = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F1&X-Amz-Date=1&X-Amz-Expires=9"
    "&X-Amz-SignedHeaders=host&X-Amz-Signature=canary&X-Amz-Security-Token=canary"
)
GOOGLE = AWS.replace("X-Amz", "X-Goog")
AZURE = "sv=2024-11-04&st=1&se=2&sr=b&sp=r&sig=canary%3D"


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        (f"https://h/a.jpg?{AWS}", "https://h/a.jpg"),
        (f"https://h/a.jpg?versionId=3&{AWS}", "https://h/a.jpg?versionId=3"),
        (f"https://h/a.jpg?{AWS}&x-id=GetObject", "https://h/a.jpg?x-id=GetObject"),
        (f"https://h/a.jpg?{GOOGLE}", "https://h/a.jpg"),
        (f"https://h/a.jpg?{AZURE}", "https://h/a.jpg"),
        ("https://h/a?AWSAccessKeyId=k&Expires=1&Signature=c", "https://h/a"),
        ("https://h/a?GoogleAccessId=k&Expires=1&Signature=c", "https://h/a"),
        ("https://h/a?OSSAccessKeyId=k&Expires=1&Signature=c", "https://h/a"),
        ("https://h/a?Expires=1&Policy=p&Signature=c&Key-Pair-Id=k", "https://h/a"),
        ("https://h/a?id=7&token=c", "https://h/a?id=7"),
        ("https://h/a?access_token=c&w=5", "https://h/a?w=5"),
        ("https://h/a?%73ig=c&%41PI_KEY=c", "https://h/a"),
        ("https://h/a?client-secret=c&password=c&AUTH=c", "https://h/a"),
        ("https://me:p%40w@h:8/a?x=1", "https://h:8/a?x=1"),
        ("https://me:p@w@h/a", "https://h/a"),
        ("https://token@h/a", "https://h/a"),
        ("https://h/a#access_token=c", "https://h/a"),
        (
            "https://proxy/?w=9&url=https%3A%2F%2Fh%2Fa%3Fsig%3Dc%26v%3D1",
            "https://proxy/?w=9&url=https%3A%2F%2Fh%2Fa%3Fv%3D1",
        ),
        ("sftp://me:pw@h/a.jpg", "sftp://h/a.jpg"),
    ],
)
def test_credentials_are_no_part_of_a_name(uri: str, name: str) -> None:
    assert identity(uri) == name
    assert identity(name) == name
    assert identities(["s3://b/a", uri, name]) == ["s3://b/a", name, name]


@pytest.mark.parametrize(
    "uri",
    [
        "https://h/a.jpg",
        "https://h/a?",
        "https://h/a?id=7&sv=2&se=3&expires=9&policy=x#top",
        "https://h/a/../b%20?q=a+b&&x",
        "https://h/@me/a.jpg",
        "https://h/design?signal=1&tokens=5&keys=2",
        "s3://bucket/a?sig=1&token=2#x@y:z",
        "abfs://container@account/a.jpg",
        "file:///a?sig=1",
        "sftp://me@h/a.jpg",
    ],
)
def test_everything_else_is_kept_letter_by_letter(uri: str) -> None:
    assert identity(uri) == uri
    assert identities([uri]) == [uri]


def test_azure_letters_count_beside_its_signature_only() -> None:
    assert identity("https://h/a?sr=1&sp=2&sig=c") == "https://h/a?sr=1&sp=2"


def test_messages_show_neither() -> None:
    for uri in (f"https://h/a.jpg?{AWS}", "https://canary@h/a.jpg", "https://u:ca@nary@h/a.jpg"):
        assert public(uri) == "https://h/a.jpg"
    said = redacted(
        f"GET https://u:canary@h/a.jpg?{AWS} failed; see s3://b/k and 'http://h/#canary'"
    )
    assert said == "GET https://h/a.jpg?… failed; see s3://b/k and 'http://h/?…'"
