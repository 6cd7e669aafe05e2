"""How much is read of a store: by the kernel's own counters on disk, by a proxy before S3."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage.file_ranges import DiskRanges
from pipeline.store import projection
from tests.parts.servers.faults import FaultProxy, faulty
from tests.parts.servers.s3 import S3Server


@dataclass(frozen=True)
class Traffic:
    """What a call read. `requests` are HTTP's, or reads of the system."""

    bytes: int
    requests: int
    result: Any


Counter = Callable[[Callable[[], Any]], Traffic]


def on_disk(call: Callable[[], Any]) -> Traffic:
    """Bytes that this process read from files while `call` lasted, sockets aside."""
    before = _process()
    result = call()
    after = _process()
    return Traffic(after["rchar"] - before["rchar"], after["syscr"] - before["syscr"], result)


@contextmanager
def on_s3(server: S3Server) -> Iterator[Counter]:
    """Within the block this process reads through a proxy that counts."""
    with faulty(server) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield lambda call: _through(proxy, call)


def _through(proxy: FaultProxy, call: Callable[[], Any]) -> Traffic:
    requests, sent = proxy.requests, proxy.bytes_sent
    result = call()
    return Traffic(proxy.bytes_sent - sent, proxy.requests - requests, result)


def _process() -> dict[str, int]:
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


@contextmanager
def ranges_alone() -> Iterator[None]:
    """Within the block small files on disk are read by ranges too, whatever lies between them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiskRanges, "near", 0)
        patch.setattr(projection, "_TAIL_BYTES", 64)
        yield
