"""Thousands of signed addresses: no secret is written of any, and no two objects become one.

Every address is made of what names its object (a path, and parameters that are known for it or
that nobody knows) and of what opens it (canaries), damaged and encoded in every way that was seen.
"""

import random
import re
from collections.abc import Callable, Sequence
from itertools import product
from urllib.parse import quote

import numpy as np
import pytest

from pipeline import schema
from pipeline.sources.base import refs_of_entries
from pipeline.sources.manifest import ManifestSource
from pipeline.sources.prefix import PrefixSource
from pipeline.storage import UNKNOWN_SIZE, UNKNOWN_TIME, Entry, public, recorded, redacted
from pipeline.storage.faults import Fault, Kind
from pipeline.storage.names.secrets import all_recorded, identity
from pipeline.storage.translate import fault_error
from pipeline.store.ledger import Ids, Ledger, subtract
from pipeline.store.runs import RunSummary

CANARY = "c4n4ry"
ADDRESSES = 10_000
SEED = 26

#: How services sign, each one's parameters; they are others each night.
SIGNED: tuple[tuple[str, ...], ...] = (
    ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Signature"),
    ("X-Amz-Security-Token", "X-Amz-Signature"),
    ("X-Goog-Credential", "X-Goog-Signature"),
    ("AWSAccessKeyId", "Expires", "Signature"),
    ("OSSAccessKeyId", "Expires", "Signature"),
    ("x-oss-credential", "x-oss-signature"),
    ("q-sign-algorithm", "q-ak", "q-sign-time", "q-key-time", "q-signature"),
    ("sv", "st", "se", "sr", "sp", "sig"),
    ("Expires", "Policy", "Signature", "Key-Pair-Id"),
    ("temp_url_sig", "temp_url_expires"),
    ("Authorization",),
    ("token",),
    ("access_token",),
    ("jwt",),
    ("hdnea",),
    ("__gda__",),
    ("__token__",),
    ("verify",),
    ("auth_key",),
    ("x-signature", "x-expires"),
    ("sas",),
    ("api_key",),
    ("jsessionid",),
    ("oh", "oe", "_nc_ohc", "_nc_gid"),
)
#: What may be a secret under a name that does not say so. It is part of the address, unread.
UNKNOWN = ("code", "rlkey", "resourcekey", "hash", "s", "pw", "own-key", "ig_cache_key")

Encode = Callable[[str], str]


def plain(text: str) -> str:
    return text


def in_code(text: str) -> str:
    """Every letter percent-encoded."""
    return "".join(f"%{ord(sign):02X}" for sign in text)


def twice(text: str) -> str:
    return quote(in_code(text), safe="")


ENCODINGS: Sequence[Encode] = (plain, str.lower, str.upper, in_code, twice)
SEPARATORS = ("&", "&", "&", ";", "&amp;", "&amp;amp;")


def secret(draw: random.Random) -> str:
    letters = "".join(draw.choices("abcXYZ019", k=8))
    return draw.choice((f"{CANARY}{letters}", f"{CANARY}%2F{letters}%3D", f"{letters}.{CANARY}=="))


def signature(draw: random.Random) -> list[str]:
    encode = draw.choice(ENCODINGS)
    names = list(draw.choice(SIGNED))
    if draw.random() < 0.2:
        names.append(names[-1])  # a parameter that is there twice
    return [f"{encode(name)}={secret(draw)}" for name in names]


def signed(draw: random.Random, path: str, naming: list[str]) -> str:
    """An address of the object at `path` and `naming`, signed in some way."""
    address, parameters, fragment = path, list(naming), ""
    way = draw.randrange(6)
    if way == 0:
        address = path.replace("://", f"://me:{CANARY}@")
    elif way == 1:
        address += f";{draw.choice(('X-Amz-Signature', 'jsessionid', 'sig'))}={CANARY}"
    elif way == 2:
        fragment = f"#access_token={CANARY}&token={CANARY}"
    else:
        parameters += signature(draw)
    separator = draw.choice(SEPARATORS)
    query = separator.join(parameters)
    return address + (f"?{query}" if query else "") + fragment


def objects(draw: random.Random, count: int) -> list[tuple[str, list[str]]]:
    """Distinct objects, most of them so by a single parameter."""
    found = []
    for number in range(count):
        host = draw.choice(("https://h.example", "http://127.0.0.1:81"))
        path = draw.choice(("/image.php", "/a/b.jpg", f"/{number}.jpg", "/x;w=3/y"))
        name = draw.choice(("id", "v", "page", *UNKNOWN))
        naming = [f"{name}={number}"] if path != f"/{number}.jpg" else []
        found.append((f"{host}{path}", naming))
    return found


def written(address: str) -> str:
    """All that is ever written or said of an address, but for the one column that only reads."""
    entry = Entry(address, UNKNOWN_SIZE, None, UNKNOWN_TIME)
    refs = refs_of_entries([entry]).drop_columns(["address"])
    path = address.partition("://")[2].partition("/")[2]
    error = fault_error(Fault(Kind.DENIED, "the store refused"), address)
    texts = [
        str(refs.to_pylist()),
        public(address),
        redacted(f"GET {address} failed: 'url={address}' (Caused by X)"),
        redacted(f"Max retries exceeded with url: /{path}", foreign=True),
        str(error),
        repr(error),
        str(ManifestSource(address).scope),
    ]
    return "\n".join(texts)


@pytest.fixture(scope="module")
def drawn() -> list[tuple[str, str, str]]:
    """(the object without its secrets, its address, its address of another night)."""
    draw = random.Random(SEED)
    found = []
    for path, naming in objects(draw, ADDRESSES):
        whole = path + (f"?{naming[0]}" if naming else "")
        found.append((whole, signed(draw, path, naming), signed(draw, path, naming)))
    return found


def test_no_secret_is_written_of_any(drawn: list[tuple[str, str, str]]) -> None:
    for _, *addresses in drawn:
        for address in addresses:
            assert CANARY not in written(address), address


def test_an_address_that_is_signed_anew_is_the_same_object(
    drawn: list[tuple[str, str, str]],
) -> None:
    for whole, today, tomorrow in drawn:
        assert identity(today) == identity(tomorrow) == whole
        assert recorded(today) == recorded(tomorrow)


def test_two_objects_are_never_one(drawn: list[tuple[str, str, str]]) -> None:
    addresses = [today for _, today, _ in drawn]
    assert len({whole for whole, _, _ in drawn}) == ADDRESSES
    assert len(set(all_recorded(addresses))) == ADDRESSES
    assert len({schema.object_id(identity(address)) for address in addresses}) == ADDRESSES


@pytest.mark.parametrize(
    ("name", "shape"),
    list(
        product(
            (*UNKNOWN, "anything"),
            (
                "https://h/a?{}={}",
                "https://h/a?id=7&{}={}",
                "https://h/a#{}={}",
                "https://h/a?{}=x&amp;b={}",
                "https://h/a?{0}={1}&{0}={1}",
                "https://proxy/?url=https%3A%2F%2Fh%2Fa%3F{}%3D{}",
                "https://proxy/?url=https%253A%252F%252Fh%252Fa%253F{}%253D{}",
                "https://proxy/?{}=https%3A%2F%2Fh%2Fa%3Fb%3D{}",
                "https://proxy/plain/https%3A%2F%2Fh%2Fa%3F{}%3D{}",
            ),
        )
    ),
)
def test_what_nobody_knows_is_part_of_the_address_and_is_not_written(name: str, shape: str) -> None:
    one, other = shape.format(name, f"{CANARY}1"), shape.format(name, f"{CANARY}2")
    assert identity(one) == one
    assert CANARY not in written(one)
    assert recorded(one) != recorded(other)
    assert recorded(recorded(one), again=True) == recorded(one)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("https://h/image.php?id=17", "https://h/image.php?id=17"),
        ("https://h/a.jpg?w=9&h=5&fit=crop", "https://h/a.jpg?w=9&h=5&fit=crop"),
        ("https://h/a?dl=1&rlkey=secret", "https://h/a?dl=1&rlkey=~oPjaZ8mpFLMLnivh"),
        ("https://h/a?c2VjcmV0=", "https://h/a?~"),
        ("https://h/a?hidden", "https://h/a?~"),
        ("https://h/a#hidden", "https://h/a#~"),
        (f"https://h/a?{'n' * 40}=1", "https://h/a?~"),
        ("https://h/a?id=x%26code%3Dsecret", "https://h/a?id=~"),
        ("https://h/a?url=https%3A%2F%2Fme%3Apw%40i%2Fb", "https://h/a?url=https%3A%2F%2Fi%2Fb"),
        ("https://p/https%3A%2F%2Fme%3Apw%40i%2Fb", "https://p/https%3A%2F%2Fi%2Fb"),
        ("https://h/what%3F.jpg", "https://h/what%3F.jpg"),
        ("https://h/what%3Fsig%3Dsecret", "https://h/what"),
        ("https://h/a%2Fb%20c.jpg", "https://h/a%2Fb%20c.jpg"),
        ("s3://b/a?code=1", "s3://b/a?code=1"),
        ("file:///a?code=1", "file:///a?code=1"),
    ],
)
def test_how_addresses_are_written(address: str, text: str) -> None:
    found = recorded(address)
    if text.endswith("~"):
        found = re.sub("~[A-Za-z0-9_-]{16}$", "~", found)
    assert found == text


def test_addresses_within_addresses_without_end() -> None:
    """Such a line in a list is an address like others, and takes no time."""
    for piece in (
        "https://h/?url=",
        "https://h/?x=",
        "https%3A%2F%2Fh%2F%3Furl%3D",
        "%2525",
        ";&=?",
    ):
        address = "https://h/?url=" + piece * (65_000 // len(piece)) + f"?token={CANARY}"
        assert identity(address)
        assert CANARY not in recorded(address)


def test_a_digest_that_a_list_makes_up_is_another_object() -> None:
    real = "https://h/a?code=17"
    made_up = recorded(real)
    assert recorded(made_up) != made_up
    assert identity(made_up) != identity(real)


def test_stores_of_before_know_their_objects() -> None:
    """Their ids are of the whole address, and so are today's: nothing is labelled twice."""
    addresses = ["https://h/image.php?id=17", "https://h/a?code=17", "https://h/a?foo=1&b=2#top"]
    refs = refs_of_entries([Entry(one, UNKNOWN_SIZE, None, UNKNOWN_TIME) for one in addresses])
    assert refs["object_id"].to_pylist() == [schema.object_id(one) for one in addresses]
    ids = Ids.of(refs["object_id"])
    nothing = [0] * len(addresses)
    rows = Ledger.of(ids, np.array(nothing, np.int64), np.array(nothing, np.int32))
    todo = subtract([Ledger.merged([rows])], refs, retry_errors=False)
    assert todo.refs.num_rows == 0
    assert refs["address"].to_pylist() == [None, *addresses[1:]]


def test_runs_of_before_have_the_scope_of_today() -> None:
    for address in ("https://h/list.csv?code=17", "https://h/list.csv?sas=1&v=2"):
        scope = ManifestSource(address).scope
        run = RunSummary(
            run_id="r", started=UNKNOWN_TIME, recipe="r1", scope=scope | {"src": address}, spec={}
        )
        assert run.scope == scope
        assert RunSummary.model_validate_json(run.model_dump_json()).scope == scope


def test_one_image_is_in_its_own_scope_under_every_spelling() -> None:
    address = "https://h/get?f=x.jpg"
    source = PrefixSource(address, address, glob=True)
    assert recorded(address) != address
    assert source.contains(address)
    assert source.contains(recorded(address))
    assert not source.contains(recorded("https://h/get?f=y.jpg"))
