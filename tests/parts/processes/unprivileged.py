"""Folders that may not be read: for root everything may, so a child becomes nobody first."""

import os
import pickle
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

NOBODY = 65534


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A new folder that nobody may walk to, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="nightlabel-shared-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_nobody(call: Callable[[], T]) -> T:
    """What `call` returns in a child without root's rights. What it imports must be loaded."""
    if os.geteuid() != 0:
        return call()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        _child(call, tell)
    os.close(tell)
    with os.fdopen(told, "rb") as answer:
        data = answer.read()
    os.waitpid(child, 0)
    ok, result = pickle.loads(data)
    assert ok, result
    return result


def _child(call: Callable[[], object], tell: int) -> None:
    try:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        answer = (True, call())
    except BaseException:  # noqa: BLE001 - the parent raises it
        answer = (False, traceback.format_exc())
    with os.fdopen(tell, "wb") as file:
        file.write(pickle.dumps(answer))
    os._exit(0)
