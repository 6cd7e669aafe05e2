"""Which IP addresses are public, by our own list.

Python's `is_global` differs between versions, and does not know clouds' addresses. This list
is that of IANA's registries, as they stood on 2026-07-18; it stays the same until it is edited:

    iana.org/assignments/iana-ipv4-special-registry    "Globally Reachable" of each block
    iana.org/assignments/iana-ipv6-special-registry    the same
    iana.org/assignments/multicast-addresses, ipv6-address-space

A block whose column is empty or `N/A` is not public, except those that carry an IPv4 address.
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

#: Of the blocks that contain an address, the smallest counts.
_IPV4: Final = {
    "0.0.0.0/0": True,
    "0.0.0.0/8": False,  # this network
    "10.0.0.0/8": False,  # private use
    "100.64.0.0/10": False,  # carrier-grade NAT; Alibaba's metadata: 100.100.100.200
    "127.0.0.0/8": False,  # loopback
    "168.63.129.16/32": False,  # Azure's host; in no registry
    "169.254.0.0/16": False,  # link-local; metadata: 169.254.169.254, 169.254.170.2 and others
    "172.16.0.0/12": False,  # private use
    "192.0.0.0/24": False,  # protocol assignments; Oracle's metadata: 192.0.0.192
    "192.0.0.9/32": True,  # anycast of PCP
    "192.0.0.10/32": True,  # anycast of TURN
    "192.0.2.0/24": False,  # documentation
    "192.31.196.0/24": True,  # AS112
    "192.52.193.0/24": True,  # AMT
    "192.88.99.0/24": False,  # relays of 6to4, deprecated
    "192.168.0.0/16": False,  # private use
    "192.175.48.0/24": True,  # AS112
    "198.18.0.0/15": False,  # benchmarks
    "198.51.100.0/24": False,  # documentation
    "203.0.113.0/24": False,  # documentation
    "224.0.0.0/4": False,  # multicast
    "240.0.0.0/4": False,  # reserved, and broadcast
}
_IPV6: Final = {
    # Reserved unless listed below: loopback, IPv4-compatible, discard-only, the dummy prefix,
    # segment routing, unique-local (metadata: fd00:ec2::254, fd20:ce::254), link-local, site-local
    # and multicast are all part of it.
    "::/0": False,
    "64:ff9b::/96": True,  # NAT64
    "64:ff9b:1::/48": False,  # a network's own NAT64
    "2000::/3": True,  # all allocated addresses
    "2001::/23": False,  # protocol assignments
    "2001::/32": True,  # Teredo
    "2001:1::1/128": True,  # anycast of PCP
    "2001:1::2/128": True,  # anycast of TURN
    "2001:1::3/128": True,  # anycast of DNS-SD
    "2001:2::/48": False,  # benchmarks
    "2001:3::/32": True,  # AMT
    "2001:4:112::/48": True,  # AS112
    "2001:10::/28": False,  # ORCHID, deprecated
    "2001:20::/28": True,  # ORCHIDv2
    "2001:30::/28": True,  # drones
    "2001:db8::/32": False,  # documentation
    "2002::/16": True,  # 6to4
    "2620:4f:8000::/48": True,  # AS112
    "3fff::/20": False,  # documentation
}

_Blocks = tuple[tuple[int, int, bool], ...]  # first address, last address, public?


def _smallest_first(table: Mapping[str, bool]) -> _Blocks:
    networks = [(ip_network(block), public) for block, public in table.items()]
    networks.sort(key=lambda one: one[0].prefixlen, reverse=True)
    return tuple((int(net[0]), int(net[-1]), public) for net, public in networks)


_BLOCKS: Final = {4: _smallest_first(_IPV4), 6: _smallest_first(_IPV6)}
_NAT64: Final = IPv6Network("64:ff9b::/96")
#: The upper half of the interface id in an ISATAP address, without its "universal" bit.
_ISATAP: Final = 0x5EFE


def is_public(address: str) -> bool:
    """Whether this address is public; a zone (`%eth0`) is ignored.

    An IPv6 address that carries IPv4 addresses is public only if they are. Raises ValueError
    for an invalid address.
    """
    ip = ip_address(address.partition("%")[0] if ":" in address else address)
    if isinstance(ip, IPv4Address):
        return _by_block(ip)
    if ip.ipv4_mapped is not None:
        return _by_block(ip.ipv4_mapped)
    return _by_block(ip) and all(map(_by_block, _carried(ip)))


def _by_block(ip: IPv4Address | IPv6Address) -> bool:
    number = int(ip)
    return next(public for first, last, public in _BLOCKS[ip.version] if first <= number <= last)


def _carried(ip: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses to which packets for this address may be forwarded."""
    number = int(ip)
    if ip.sixtofour is not None:
        yield ip.sixtofour
    if ip.teredo is not None:
        yield from ip.teredo  # its server and its client
    if ip in _NAT64 or (number >> 32) & 0xFDFFFFFF == _ISATAP:
        yield IPv4Address(number & 0xFFFFFFFF)
