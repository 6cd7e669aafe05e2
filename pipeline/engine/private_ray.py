"""Private embedded Ray: listens on loopback only, with a token of this run, in a folder of our own.

By default Ray listens on all addresses of the machine. It has one token for all runs, which lies
in the home folder where every user may read it, and its sockets and logs are writable for every
user. Ray uses loopback as a node's address only if it finds no other; once it does, all that it
starts listens only on loopback.

The token is in the environment of Ray's processes, which only their own user may read. It is in no
file and on no command line.
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
    """For `ray.init` of a Ray on this machine: yields its options. Its files are below `base`.

    After that Ray has ended, `reset_token` lets this process reach other clusters again. Raises
    UnsafeFolderError if another user owns the folder, or could replace it.
    """
    own = Path(base).absolute() / f"ray-{os.geteuid()}"
    folder = private_folder(own, "set RAY_TMPDIR to another folder")
    with ExitStack() as stack:
        if has_tokens():
            token = {MODE: "token", TOKEN: secrets.token_hex(TOKEN_BYTES)}
            stack.enter_context(_environment(token))
            reset_token()
        stack.enter_context(patched(Private.RESOLVE_LOCALHOST, _itself))
        # Ray makes its folder writable for every user, so it is in a folder that only we can
        # enter. The name is short because socket paths must be short.
        yield {"_node_ip_address": LOOPBACK, "_temp_dir": str(folder / "r")}


def _itself(_: Callable[[str], str]) -> Callable[[str], str]:
    """Keep the host as it is: Ray would replace loopback by another address of the machine."""
    return lambda host: host


@contextmanager
def _environment(own: Mapping[str, str]) -> Iterator[None]:
    """Within the block, set the variables of `own`; afterwards restore the old values."""
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
