"""Thousands of addresses that try to have a private host connected to, from one seed.

Each is made of a protocol, something before the host, a private host in one of its spellings,
a port where somebody listens, and something after it.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address
from typing import Final, NamedTuple
from urllib.parse import quote

#: Names that a resolver finds at private addresses, as nip.io does.
NAMED: Final = "127-0-0-1.nip.test"
#: Stands for a public server, which redirects to the query of `/to/x?…`.
PUBLIC: Final = "public.test"

_V4: Final = ("127.0.0.1", "127.0.0.1", "127.0.0.1", "0.0.0.0", "169.254.169.254", "10.0.0.1")
_V4_MORE: Final = ("192.168.0.1", "168.63.129.16", "169.254.170.2", "100.64.0.1", "127.1.2.3")
_V6: Final = ("::1", "::", "0:0:0:0:0:0:0:1", "::1%25lo", "::1%lo", "fd00:ec2::254", "fd20:ce::254")
_NAMES: Final = (
    *("localhost", "LOCALHOST", "localhost.", "LocalHost", "a.localhost", "a.b.localhost."),
    *(NAMED, f"x.{NAMED}", f"{NAMED.upper()}.", "%6cocalhost", "\uff4cocalhost", "local\u00adhost"),
    *("\u24dbocalhost", "localhost\u3002", "localhost%2e", "localhost%00", "localhost%20"),
)
#: What stands between a scheme and the host.
_BEFORE: Final = (
    *("", "", "", "", "user@", "user:password@", "@", ":@", f"{PUBLIC}@", f"{PUBLIC}:80@"),
    *(f"{PUBLIC}%40", f"{PUBLIC}@{PUBLIC}@", f"{PUBLIC}\\@", f"{PUBLIC}%2f@", "a%00b@", "€@"),
    *(f"{PUBLIC} @", "[::1]@", "127.0.0.1@", "%75ser@", "user;x=1@", "\t", " "),
)
#: Those that close the host before ours: what follows is a path of the public one.
_CLOSING: Final = (
    f"{PUBLIC}#@",
    f"{PUBLIC}?@",
    f"{PUBLIC}/@",
    f"{PUBLIC}\\",
    f"{PUBLIC}#",
    "#",
    "?",
)
_PORTS: Final = (":{port}", ":{port}", ":{port}", ":{port}", "", ":", ":0{port}", ":{port}%20")
_MORE_PORTS: Final = (":+{port}", ": {port}", ":{port}:80", ":80:{port}", ":99999", ":{port}\t")
_AFTER: Final = (
    *("/x.jpg", "/x.jpg", "/latest/meta-data", "", "/", "#/x.jpg", "?/x.jpg", "/x.jpg?a=b#c"),
    *("\\x.jpg", "/%2e%2e/x", "//x", "/x.jpg;v=1", f"@{PUBLIC}/x.jpg", f"#@{PUBLIC}/", "/ü.jpg"),
    *(f"/?u=http://{PUBLIC}/", "/x\n.jpg", "/x%0d%0aHost: a", "/" + "y" * 300),
)
_SCHEMES: Final = ("http://", "http://", "http://", "http://", "https://", "HTTP://", "hTTps://")
_ODD_SCHEMES: Final = ("http:/", "http:", "http:\\\\", "//", "ht\ttp://", " http://", "http:///")

#: Protocols of fsspec that name a host, or another address within.
_OTHERS: Final = (
    *("ftp://", "sftp://", "ssh://", "hdfs://", "webhdfs://", "smb://", "github://", "hf://"),
    *("jupyter://", "dask://", "dav://", "http+unix://", "ws://", "gopher://", "oci://", "gist://"),
    *("filecache://", "simplecache://", "blockcache://", "reference://", "zip://", "tar://"),
    *("simplecache::http://", "filecache::ftp://", "zip://a.jpg::http://", "memory://x::http://"),
    *("tar://a.jpg::simplecache::https://", "dir::http://", "cached::http://", "git://", "data:"),
    *("memory://a::ftp://", "blockcache::sftp://", "generic://http://", "async_wrapper://"),
)
_BUCKET_SCHEMES: Final = ("s3://", "s3://", "s3://", "gs://", "az://", "abfs://", "abfss://")
_MORE_BUCKETS: Final = ("s3a://", "s3n://", "gcs://", "S3://", "azure://")
#: What makes of a host that a bucket is called like an end of the url's host.
_BUCKET_ENDS: Final = (
    *("{port}#", "{port}?", ":{port}#", ":{port}?", ":{port}\\", ":{port}", "#", "?", "\\"),
    *(":{port}#.s3.amazonaws.com", ":{port}%2f", "%23", "%3f", ":{port};", "@", ":{port}@", "\t"),
)
_BUCKET_STARTS: Final = ("", "", "a@", "a:b@", "container@", "account@", "[", "//", "\\\\")


class Ports(NamedTuple):
    """Where somebody listens: at private addresses, and at the public server."""

    inside: Sequence[int]
    public: int


Make = Callable[[random.Random, Ports], str]


def addresses(seed: int, count: int, ports: Ports) -> Iterator[str]:
    """`count` addresses that differ."""
    generator = random.Random(seed)
    makers: list[Make] = [_web] * 6 + [_odd_web, _redirected, _redirected, _other, _bucket, _bucket]
    made: set[str] = set()
    while len(made) < count:
        address = generator.choice(makers)(generator, ports)
        if address not in made:
            made.add(address)
            yield address


def _web(generator: random.Random, ports: Ports) -> str:
    before = generator.choice(_BEFORE)
    return generator.choice(_SCHEMES) + before + _rest(generator, ports)


def _odd_web(generator: random.Random, ports: Ports) -> str:
    if generator.random() < 0.5:
        return generator.choice(_ODD_SCHEMES) + _rest(generator, ports)
    return generator.choice(_SCHEMES) + generator.choice(_CLOSING) + _rest(generator, ports)


def _rest(generator: random.Random, ports: Ports) -> str:
    tricky = generator.random() < 0.2
    port = generator.choice(_MORE_PORTS if tricky else _PORTS).format(
        port=generator.choice(ports.inside)
    )
    return _host(generator) + port + generator.choice(_AFTER)


def _redirected(generator: random.Random, ports: Ports) -> str:
    """A public server that sends on to one of the others, by way of itself now and then."""
    target = _web(generator, ports) if generator.random() < 0.8 else _odd_web(generator, ports)
    for _ in range(generator.choice((1, 1, 2))):
        target = f"http://{PUBLIC}:{ports.public}/to/x?{quote(target, safe='')}"
    return target


def _other(generator: random.Random, ports: Ports) -> str:
    return generator.choice(_OTHERS) + generator.choice(_BEFORE) + _rest(generator, ports)


def _bucket(generator: random.Random, ports: Ports) -> str:
    """None that is the name of a bucket: such are asked of the store, wherever that is."""
    scheme = generator.choice(_BUCKET_SCHEMES + _MORE_BUCKETS)
    start, host = generator.choice(_BUCKET_STARTS), _host(generator)
    end = generator.choice(_BUCKET_ENDS).format(port=generator.choice(ports.inside))
    if end[0].isdigit():
        end = f":{end}"
    return f"{scheme}{start}{host}{end}/x.jpg"


def _host(generator: random.Random) -> str:
    kind = generator.random()
    if kind < 0.15:
        return generator.choice(_NAMES)
    inner = generator.choice(_V4 + _V4_MORE)
    if kind < 0.3:
        return f"[{generator.choice(_V6)}]"
    if kind < 0.45:
        return f"[{generator.choice(_carriers(inner))}]"
    return generator.choice(_SPELLINGS)(generator, inner)


def _carriers(inner: str) -> list[str]:
    number = int(IPv4Address(inner))
    high, low, hidden = number >> 16, number & 0xFFFF, number ^ 0xFFFFFFFF
    return [
        f"::ffff:{inner}",
        f"::ffff:{high:x}:{low:x}",
        f"0:0:0:0:0:FFFF:{inner}",
        f"::{inner}",
        f"::ffff:0:{inner}",
        f"64:ff9b::{inner}",
        f"64:ff9b:1::{inner}",
        f"2002:{high:x}:{low:x}::1",
        f"2001:0:808:808:0:0:{hidden >> 16:x}:{hidden & 0xFFFF:x}",
        f"2606:4700::5efe:{inner}",
    ]


def _parts(inner: str) -> list[int]:
    return [int(part) for part in inner.split(".")]


def _mixed(generator: random.Random, inner: str) -> str:
    """Each part in a base of its own."""
    bases = ("{}", "0x{:x}", "0X{:X}", "0{:o}", "00000{:o}", "0x000{:x}")
    return ".".join(generator.choice(bases).format(part) for part in _parts(inner))


def _short(generator: random.Random, inner: str) -> str:
    """`127.1` and the like: the last part has the bytes of those that are left out."""
    parts, kept = _parts(inner), generator.choice((0, 1, 2))
    tail = int.from_bytes(bytes(parts[kept:]))
    whole = [str(part) for part in parts[:kept]]
    return ".".join([*whole, generator.choice(("{}", "0x{:x}", "0{:o}")).format(tail)])


def _foreign_digits(generator: random.Random, inner: str) -> str:
    first = generator.choice((0xFF10, 0x1D7CE, 0x1D7D8, 0x1D7F6))
    dot = generator.choice((".", "\u3002", "\uff0e", "\uff61"))
    return "".join(dot if letter == "." else chr(first + int(letter)) for letter in inner)


def _percent(generator: random.Random, inner: str) -> str:
    return "".join(f"%{ord(one):02x}" if generator.random() < 0.4 else one for one in inner)


_SPELLINGS: Final[tuple[Callable[[random.Random, str], str], ...]] = (
    lambda _, inner: inner,
    lambda _, inner: f"{inner}.",
    lambda _, inner: f"{inner}..",
    lambda _, inner: str(int(IPv4Address(inner))),
    lambda _, inner: str(int(IPv4Address(inner)) + 2**32),
    lambda _, inner: f"0x{int(IPv4Address(inner)):08x}",
    lambda _, inner: f"0{int(IPv4Address(inner)):o}",
    lambda _, inner: f"{inner}.nip.test",
    _mixed,
    _short,
    _foreign_digits,
    _percent,
)
