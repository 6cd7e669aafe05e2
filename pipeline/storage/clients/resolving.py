"""Resolves names with the system's resolver, within a time limit.

`getaddrinfo` cannot be interrupted, so each look-up has a thread, and its reader stops waiting at
the time limit. Readers of one name share one look-up. A name server that does not answer gets a
limited share: eight of its look-ups may be overdue, each with the one reader that began it.
Further readers of the same domain get an error, and the threads left behind are counted. Readers
of other domains still find room.
"""

import socket
import threading
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

from pipeline.storage.faults import Slow

Info = tuple[int, Any]  # address family, socket address

#: Seconds after which a resolver has asked a second server. A look-up that takes longer is overdue,
#: and so is one that a reader has left.
OVERDUE_SECONDS: Final = 8.0
#: At most this many overdue look-ups of one domain are waited for.
OVERDUE_AT_ONCE: Final = 8
#: At most this many look-ups of all domains run, including those that nobody waits for any more.
AT_ONCE: Final = 256


@dataclass(eq=False, slots=True)
class _Lookup:
    domain: str
    began: float = field(default_factory=time.monotonic)
    found: list[Info] | None = None
    error: BaseException | None = None
    overdue_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.overdue_at = self.began + OVERDUE_SECONDS


_changed = threading.Condition()
_under_way: dict[tuple[str, int], _Lookup] = {}


def addresses(host: str, port: int, seconds: float) -> list[Info]:
    """The addresses of `host`, waiting `seconds` at most.

    Raises Slow if that takes longer or its name server keeps too many readers waiting,
    socket.gaierror for an unknown name, ValueError for an invalid name.
    """
    if _is_address(host):
        return _asked(host, port)
    until = time.monotonic() + seconds
    lookup: _Lookup | None = None
    ours = False
    with _changed:
        while True:
            if lookup is None:
                ours = (host, port) not in _under_way
                lookup = _joined(host, port)
            if lookup is not None and lookup.found is not None:
                return lookup.found
            if lookup is not None and lookup.error is not None:
                raise lookup.error
            now = time.monotonic()
            if now >= until:
                if lookup is not None:
                    lookup.overdue_at = min(lookup.overdue_at, now)
                raise Slow("its name was not found in time")
            late = lookup is not None and now >= lookup.overdue_at
            if lookup is not None and late and (not ours or _many_before(lookup)):
                raise _unanswered()
            ends = [until] if lookup is None else [until, lookup.overdue_at]
            _changed.wait(min(end - now for end in ends if end > now))


def _joined(host: str, port: int) -> _Lookup | None:
    """The running look-up, or a new one; None if there is no room for it."""
    key = (host, port)
    if key in _under_way:
        return _under_way[key]
    lookup = _Lookup(_domain(host))
    if _many_before(lookup):
        raise _unanswered()
    if len(_under_way) >= AT_ONCE:
        return None
    name = f"nightlabel-resolve-{host[:40]}"
    threading.Thread(target=_look_up, args=(key, lookup), name=name, daemon=True).start()
    _under_way[key] = lookup  # its end waits for this lock
    return lookup


def _look_up(key: tuple[str, int], lookup: _Lookup) -> None:
    found: list[Info] | None = None
    error: BaseException | None = None
    try:
        found = _asked(*key)
    except BaseException as raised:  # noqa: BLE001 - raised where it is waited for
        error = raised
    with _changed:
        lookup.found, lookup.error = found, error
        del _under_way[key]
        _changed.notify_all()


def _asked(host: str, port: int) -> list[Info]:
    infos = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in infos]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _many_before(lookup: _Lookup) -> bool:
    """Whether enough older look-ups of the same domain are overdue."""
    now = time.monotonic()
    older = (
        one
        for one in _under_way.values()
        if one.domain == lookup.domain and one.began < lookup.began and one.overdue_at <= now
    )
    return sum(1 for _ in older) >= OVERDUE_AT_ONCE


def _domain(host: str) -> str:
    """The part of a name that probably has one owner: `example.com`, `example.co.uk`."""
    labels = host.lower().rstrip(".").split(".")
    second = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3 if second else -2 :])


def _unanswered() -> Slow:
    return Slow("its name server does not answer")
