"""A Ray of our own that is nobody else's: on loopback, with a token of this run, in our folder.

Left to itself Ray listens on all addresses of the machine, has one token for all runs, which lies
in the home for every user to read, and lets every user write where its sockets and logs lie.
Ray takes loopback for a node's address only where it can't find another; told so, all that it
starts listens there alone.

The token is in the environment of Ray's processes, which only their own user may read, and in no
file and no command line.
"""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from pipeline.engine.ray_compat import Private, has_tokens, patched, reset_token
from pipeline.storage import private_folder

LOOPBACK: Final = "127.0.0.1"
TOKEN_BYTES: Final = 32
MODE: Final = "RAY_AUTH_MODE"
TOKEN: Final = "RAY_AUTH_TOKEN"  # noqa: S105 - where it is, not what it is


@contextmanager
def private_start(base: str) -> Iterator[dict[str, Any]]:
    """For `ray.init` of a Ray on this machine: yields its options. Its files lie below `base`.

    Once that Ray is ended, `reset_token` lets this process reach others again. Raises
    UnsafeFolderError where another user has the folder, or could put another in its place.
    """
    own = Path(base).absolute() / f"ray-{os.geteuid()}"
    folder = private_folder(own, "name another folder in RAY_TMPDIR")
    with ExitStack() as stack:
        if has_tokens():
            token = {MODE: "token", TOKEN: secrets.token_hex(TOKEN_BYTES)}
            stack.enter_context(_environment(token))
            reset_token()
        stack.enter_context(patched(Private.RESOLVE_LOCALHOST, _itself))
        # Ray lets every user write in what it is given, so that lies in what is ours alone. Its
        # name is short since the paths of sockets must be.
        yield {"_node_ip_address": LOOPBACK, "_temp_dir": str(folder / "r")}


def _itself(_: Callable[[str], str]) -> Callable[[str], str]:
    """Ray puts another address of the machine in the place of loopback."""
    return lambda host: host


@contextmanager
def _environment(own: Mapping[str, str]) -> Iterator[None]:
    """`own` is set meanwhile, whatever was."""
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
