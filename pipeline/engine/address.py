"""Which cluster an address means, and whether a cluster answers there.

Ray itself waits a minute and more for a cluster that is down, and says little about any other
server at that address. Ray speaks gRPC, which is HTTP/2, and an HTTP/2 server sends a greeting to
each client that connects. Ray is not imported here, so a wrong address is refused at once.
"""

import os
import socket
from typing import Final

from pipeline.errors import ClusterError, SpecError
from pipeline.isolation.background import within
from pipeline.storage import public, redacted

#: Seconds for resolving the name and all that follows.
PROBE_SECONDS: Final = 20.0
#: Seconds for each of two steps: the connection, and the greeting.
STEP_SECONDS: Final = 8.0

_RAY: Final = "RAY_ADDRESS"
#: The client's part of HTTP/2's greeting (RFC 9113, 3.4): the preface, and an empty SETTINGS.
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
_FRAME_HEAD: Final = 9
_SETTINGS: Final = 4

_OURS: Final = "give the cluster's own address, such as head:6379, or auto, or local"
_NOT_OURS: Final = {
    "http": "is the url of a job server, which is for `nightlabel submit`",
    "https": "is the url of a job server, which is for `nightlabel submit`",
    "ray": "is an address of Ray Client, which cannot drive a run",
}


def cluster_address(address: str | None) -> str | None:
    """The cluster that `address`, else the environment, names; None for an embedded Ray.

    Ray's word for an embedded Ray is `local`: it overrides a cluster in the environment.
    """
    named = address or os.environ.get(_RAY)
    return None if named == "local" else named or None


def check_address(address: str | None) -> None:
    """Raises SpecError if this cannot be the address of a cluster; connects to nothing."""
    _host_and_port(address)


def check_answers(address: str | None) -> str | None:
    """`host:port` of a cluster where a gRPC server answers; None if there is nothing to connect to.

    Raises SpecError if the address, or the server there, is of the wrong kind, and ClusterError
    if nothing answers within `PROBE_SECONDS`.
    """
    place = _host_and_port(address)
    if place is None:
        return None
    host, port = place
    target = f"{host}:{port}"
    try:
        greeting = within(PROBE_SECONDS, lambda: _greeting(host, port))
    except TimeoutError:
        raise _away(target, "there is no answer; a firewall may drop the packets") from None
    except socket.gaierror as error:
        raise _away(target, f"the name {host} does not resolve: {error.strerror}") from None
    except OSError as error:
        raise _away(target, (error.strerror or str(error)).lower()) from None
    _check_greeting(target, greeting)
    return f"[{host}]:{port}" if ":" in host else target


def _host_and_port(address: str | None) -> tuple[str, int] | None:
    """None for an embedded Ray, and for a cluster that Ray has to find."""
    field, named = "address", cluster_address(address)
    if named == "auto" or not address:
        # Ray's own order: its environment variable overrides `auto`.
        field, named = _RAY, cluster_address(None) or named
    if named is None or named in ("auto", "local"):
        return None
    scheme, slashes, _ = named.partition("://")
    if slashes:
        kind = _NOT_OURS.get(scheme.lower(), "is not an address of a Ray cluster")
        raise SpecError(field, redacted(public(named)), f"{kind}: {_OURS}")
    host, colon, port = named.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise SpecError(field, named, f"is not HOST:PORT: {_OURS}")
    return host, int(port)


def _greeting(host: str, port: int) -> bytes:
    """The first bytes that a server sends to an HTTP/2 client; empty if it closes the
    connection."""
    with socket.create_connection((host, port), STEP_SECONDS) as link:
        if os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true"):
            return bytes([0, 0, 0, _SETTINGS]).ljust(_FRAME_HEAD, b"\0")  # Ray knows the keys
        link.settimeout(STEP_SECONDS)
        link.sendall(_PREFACE)
        found = b""
        while len(found) < _FRAME_HEAD and (more := link.recv(_FRAME_HEAD - len(found))):
            found += more
        return found


def _check_greeting(target: str, greeting: bytes) -> None:
    if not greeting:
        raise _away(target, "the connection was closed without an answer")
    if greeting.startswith((b"HTTP/", b"<")):  # some servers answer with only a page
        raise SpecError(
            "address",
            target,
            "a web server answers there, not a Ray cluster; if it is a job server "
            f"(port 8265), use `nightlabel submit`: {_OURS}",
        )
    if len(greeting) < _FRAME_HEAD or greeting[3] != _SETTINGS:
        raise not_a_cluster(target)


def not_a_cluster(target: str) -> SpecError:
    """The error for a server that is not a Ray cluster."""
    return SpecError("address", target, f"the server there is not a Ray cluster: {_OURS}")


def _away(target: str, why: str) -> ClusterError:
    return ClusterError(f"no Ray cluster answers at {target}: {why}; check --address (or {_RAY})")
