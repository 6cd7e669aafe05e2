"""Which addresses are public, against IANA's tables and against what Python makes of them."""

import random
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest

from pipeline.storage.clients.special_addresses import is_public

#: Address blocks and the column "Globally Reachable" of iana-ipv4-special-registry-1.csv, as of
#: 2026-07-18; "" where the registry leaves it empty.
IPV4_REGISTRY = """
0.0.0.0/8 False
0.0.0.0/32 False
10.0.0.0/8 False
100.64.0.0/10 False
127.0.0.0/8 False
169.254.0.0/16 False
172.16.0.0/12 False
192.0.0.0/24 False
192.0.0.0/29 False
192.0.0.8/32 False
192.0.0.9/32 True
192.0.0.10/32 True
192.0.0.170/32 False
192.0.0.171/32 False
192.0.2.0/24 False
192.31.196.0/24 True
192.52.193.0/24 True
192.88.99.0/24 empty
192.88.99.2/32 False
192.168.0.0/16 False
192.175.48.0/24 True
198.18.0.0/15 False
198.51.100.0/24 False
203.0.113.0/24 False
240.0.0.0/4 False
255.255.255.255/32 False
"""
#: The same of iana-ipv6-special-registry-1.csv.
IPV6_REGISTRY = """
::1/128 False
::/128 False
::ffff:0:0/96 False
64:ff9b::/96 True
64:ff9b:1::/48 False
100::/64 False
100:0:0:1::/64 False
2001::/23 False
2001::/32 N/A
2001:1::1/128 True
2001:1::2/128 True
2001:1::3/128 True
2001:2::/48 False
2001:3::/32 True
2001:4:112::/48 True
2001:10::/28 empty
2001:20::/28 True
2001:30::/28 True
2001:db8::/32 False
2002::/16 N/A
2620:4f:8000::/48 True
3fff::/20 False
5f00::/16 False
fc00::/7 False
fe80::/10 False
"""
ROWS = [tuple(line.split()) for line in (IPV4_REGISTRY + IPV6_REGISTRY).splitlines() if line]
REGISTRY = [(ip_network(block), reachable) for block, reachable in ROWS]
#: Judged by the IPv4 addresses within.
CARRIERS = [
    ip_network(block) for block in ("::ffff:0:0/96", "64:ff9b::/96", "2001::/32", "2002::/16")
]
#: In no registry of special purposes: multicast, what IANA has not given out, Azure's host.
OTHERS = [
    ip_network(block)
    for block in ("224.0.0.0/4", "168.63.129.16/32", "::/3", "4000::/2", "8000::/1")
]


def by_registry(ip: IPv4Address | IPv6Address) -> bool:
    """The smallest block of the tables that has it, and without one what is left."""
    found = [row for row in REGISTRY if ip in row[0]]
    if found:
        return max(found, key=lambda row: row[0].prefixlen)[1] == "True"
    return not any(ip in block for block in OTHERS)


@pytest.mark.parametrize(("block", "reachable"), ROWS, ids=[row[0] for row in ROWS])
def test_each_row_of_the_registries(block: str, reachable: str) -> None:
    """At both ends, in the middle, and right beside."""
    network = ip_network(block)
    if network in CARRIERS:
        return  # each form has a test of its own below
    middle = network[network.num_addresses // 2]
    for ip in (network[0], middle, network[-1], *beside(network)):
        if not any(ip in carrier for carrier in CARRIERS):
            assert is_public(str(ip)) == by_registry(ip), ip
    assert by_registry(middle) == (reachable == "True") or network.prefixlen == 23


def beside(network) -> list[IPv4Address | IPv6Address]:
    first, last = int(network[0]) - 1, int(network[-1]) + 1
    kind = type(network[0])
    return [kind(number) for number in (first, last) if 0 <= number < 2**network.max_prefixlen]


METADATA = (
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fe80::a9fe:a9fe%eth0",
)
INSIDE = ("127.0.0.1", "10.0.0.1", "0.0.0.0", "192.168.1.1", "224.0.0.1", "255.255.255.255")


@pytest.mark.parametrize("address", METADATA)
def test_what_clouds_keep_for_their_machines(address: str) -> None:
    assert not is_public(address)


def carriers_of(inner: str) -> dict[str, str]:
    """`inner` in each form of IPv6 that carries an IPv4 address."""
    number = int(IPv4Address(inner))
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    hidden, public = number ^ 0xFFFFFFFF, "808:808"
    return {
        "mapped": f"::ffff:{inner}",
        "mapped, in hex": f"::ffff:{high}:{low}",
        "NAT64": f"64:ff9b::{inner}",
        "6to4": f"2002:{high}:{low}::1",
        "client of Teredo": f"2001:0:{public}:0:0:{hidden >> 16:x}:{hidden & 0xFFFF:x}",
        "server of Teredo": f"2001:0:{high}:{low}:0:0:f7f7:f7f7",
        "ISATAP": f"2606:4700::5efe:{inner}",
        "ISATAP, universal": f"2606:4700::200:5efe:{inner}",
    }


@pytest.mark.parametrize("form", carriers_of("8.8.8.8"))
def test_what_carries_an_address_is_as_public_as_it(form: str) -> None:
    for inner in (*INSIDE, *METADATA[:6]):
        assert not is_public(carriers_of(inner)[form]), inner
        assert not is_public(carriers_of(inner)[form] + "%eth0")
    for inner in ("8.8.8.8", "1.1.1.1", "192.0.0.9"):
        assert is_public(carriers_of(inner)[form]), inner


@pytest.mark.parametrize("inner", ["127.0.0.1", "8.8.8.8"])
@pytest.mark.parametrize("form", ["::{}", "::ffff:0:{}", "64:ff9b:1::{}", "fe80::5efe:{}"])
def test_forms_that_are_never_public(form: str, inner: str) -> None:
    assert not is_public(form.format(inner))


def test_a_zone_changes_nothing() -> None:
    assert not is_public("fe80::1%eth0")
    assert not is_public("::1%lo")
    assert is_public("2606:4700:4700::1111%eth0")
    for text in ("", "localhost", "127.1", "0x7f000001", "127.0.0.1%eth0", "1.2.3.4/8"):
        with pytest.raises(ValueError, match="IPv"):
            is_public(text)


#: Where Python's own opinion, of some version or other, is not ours, and why.
DIFFERENCES = {
    "168.63.129.16/32": "Azure's host, which Python does not know",
    "192.88.99.0/24": "deprecated, and its column is empty",
    "192.0.0.0/24": "the smaller blocks within came to Python later",
    "224.0.0.0/4": "multicast is global to Python",
    "::/3": "Python takes for global what is not given out",
    "4000::/2": "the same",
    "8000::/1": "the same, with site-local addresses and multicast",
    "2001::/23": "the smaller blocks within came to Python later",
    "2002::/16": "by what it carries",
    "3fff::/20": "came to Python later",
}


def test_against_python() -> None:
    """Of 20,000 addresses, what differs is in a block that is known to."""
    generator = random.Random(26)
    known = [ip_network(block) for block in DIFFERENCES]
    blocks = [row[0] for row in REGISTRY]
    differ = 0
    for ip in (any_address(generator, blocks) for _ in range(20_000)):
        ours = is_public(str(ip))
        if isinstance(ip, IPv6Address) and (int(ip) >> 32) & 0xFDFFFFFF == 0x5EFE:
            continue
        if ours != ip.is_global:
            assert any(ip in block for block in known), ip
            differ += 1
    assert 100 < differ < 12_000


def any_address(generator: random.Random, blocks) -> IPv4Address | IPv6Address:
    if generator.random() < 0.5:
        block = generator.choice(blocks)
        return block[generator.randrange(block.num_addresses)]
    if generator.random() < 0.5:
        return IPv4Address(generator.getrandbits(32))
    return IPv6Address(generator.getrandbits(125) | 1 << 125)


def test_all_over_ipv4() -> None:
    """Every eighth /16, against the table."""
    generator = random.Random(4)
    for high in range(0, 2**16, 8):
        ip = ip_address(high << 16 | generator.getrandbits(16))
        assert is_public(str(ip)) == by_registry(ip), ip
