"""A command in a terminal of its own: a real pty of a given width."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_terminal(
    words: list[str], columns: int = 100, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> str:
    """What it writes to its terminal, both streams, with escape sequences."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        words,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env=clean | {"TERM": "xterm-256color", "PYTHONUTF8": "0"} | dict(env or {}),
        start_new_session=True,
    )
    os.close(theirs)
    written = b""
    try:
        while chunk := _read(ours):
            written += chunk
    finally:
        os.close(ours)
        process.wait(60)
    return written.decode("utf-8", "backslashreplace")


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", code, *words]


def frames(written: str) -> list[str]:
    """What one saw, line by line, without colours; a line drawn again is another."""
    return [line.rstrip() for line in re.split(r"[\r\n]+", _CONTROLS.sub("", written)) if line]


def _read(end: int) -> bytes:
    try:
        return os.read(end, 65536)
    except OSError:  # how Linux tells that nobody has the other end open
        return b""
