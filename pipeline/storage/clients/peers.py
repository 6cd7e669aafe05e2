"""urllib3 connections that check the peer's address, and that obey a total time limit.

A name is resolved once (see resolving.py), its addresses are checked, and the connection goes to
one of these same addresses: no second look-up can give another (DNS rebinding). A refused address
gets no connection at all, so nobody can use us to find open private ports.

Each socket wait is limited to the time that is left of the current request, since a server
that sends a byte now and then never exceeds a timeout between two bytes. A server that is
only slow keeps its connection until that time is up.
"""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
)
from urllib3.util import create_urllib3_context

from pipeline.errors import NOT_PUBLIC
from pipeline.storage.clients import resolving
from pipeline.storage.clients.hosts import named_inside, plain_address
from pipeline.storage.clients.special_addresses import is_public
from pipeline.storage.faults import Refused, Slow

CONNECT_SECONDS: Final = 5.0
SEND_SECONDS: Final = 10.0

#: At most this many addresses of a name are tried: each may take the whole connect timeout.
_ADDRESSES_TRIED: Final = 4


@dataclass(frozen=True, slots=True)
class _Request:
    """Limits of the current request."""

    allow_private: bool
    seconds: float
    silence: float  # seconds without a byte
    until: float


_request: ContextVar[_Request] = ContextVar("request")


@contextmanager
def request(*, allow_private: bool, seconds: float, silence: float) -> Iterator[None]:
    """All requests within the block together end after `seconds`, with Slow; a request that
    receives nothing for `silence` seconds times out."""
    token = _request.set(_Request(allow_private, seconds, silence, time.monotonic() + seconds))
    try:
        yield
    finally:
        _request.reset(token)


@contextmanager
def proxied() -> Iterator[None]:
    """Connections within the block go to the environment's proxy, whatever its address."""
    token = _request.set(replace(_request.get(), allow_private=True))
    try:
        yield
    finally:
        _request.reset(token)


def time_left() -> float:
    """Seconds that are left for the current request. Raises Slow if there are none."""
    at_hand = _request.get()
    left = at_hand.until - time.monotonic()
    if left <= 0:
        raise Slow(f"took longer than {at_hand.seconds:g} s to be read")
    return left


def refuse_inside(host: str, *, by_proxy: bool) -> None:
    """Raises Refused for a host that is known to be private before it is resolved."""
    address = plain_address(host)
    if named_inside(host, by_proxy=by_proxy) if address is None else not is_public(address):
        raise refused(host.strip("[]"))


def refused(address: str) -> Refused:
    return Refused(f"{address} {NOT_PUBLIC}")


class _Bounded:
    """A socket whose waits end with the time limit of the current request."""

    def recv_into(self, *args: Any, **options: Any) -> int:
        left = time_left()
        self.settimeout(min(_request.get().silence, left))  # type: ignore[attr-defined]
        try:
            return int(super().recv_into(*args, **options))  # type: ignore[misc]
        except TimeoutError:
            time_left()
            raise


class _Socket(_Bounded, socket.socket):
    pass


class _TlsSocket(_Bounded, ssl.SSLSocket):
    pass


class _Checked(HTTPConnection):
    """A connection that resolves, checks and connects in one place."""

    def _new_conn(self) -> socket.socket:
        failed: OSError | None = None
        for info in self._addresses()[:_ADDRESSES_TRIED]:
            try:
                return _connected(info)
            except OSError as error:
                failed = error
        if isinstance(failed, TimeoutError):
            raise ConnectTimeoutError(self, "connecting timed out") from failed
        raise NewConnectionError(self, f"no connection: {failed}") from failed

    def _addresses(self) -> list[resolving.Info]:
        """The addresses that may be connected to. Raises Refused if all others are private."""
        try:
            infos = resolving.addresses(self.host.strip("[]"), self.port, time_left())
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except ValueError:  # not a valid name, or one with a part that is too long
            raise LocationParseError(self.host) from None
        if _request.get().allow_private:
            return infos
        public = [info for info in infos if is_public(str(info[1][0]))]
        if not public:
            raise refused(str(infos[0][1][0]))
        return public


def _connected(info: resolving.Info) -> socket.socket:
    family, address = info
    connection = _Socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(min(CONNECT_SECONDS, time_left()))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


class _CheckedTls(_Checked, HTTPSConnection):
    pass


class HTTPPool(HTTPConnectionPool):
    ConnectionCls = _Checked


class HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _CheckedTls


POOLS: Final = {"http": HTTPPool, "https": HTTPSPool}


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """A TLS context that trusts `ca_bundle`, else the system's certificates."""
    context = create_urllib3_context()
    context.sslsocket_class = _TlsSocket
    if ca_bundle is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(ca_bundle)
    return context
