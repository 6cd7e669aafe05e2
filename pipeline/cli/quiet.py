"""Keeping libraries' own words off the terminal."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path


@contextmanager
def quiet_libraries(*, debug: bool) -> Iterator[None]:
    """Send what libraries print, and what C libraries write to descriptor 2, nowhere.

    Python's `sys.stderr` still speaks. Ray's core warns of what is no concern of a user's,
    whatever its log level, and tells of a dead worker on standard output, where it would
    spoil the JSON document.
    """
    if debug:
        yield
        return
    terminal = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    python_stderr = sys.stderr
    encoding = python_stderr.encoding
    sys.stderr = os.fdopen(terminal, "w", buffering=1, encoding=encoding, errors="backslashreplace")
    try:
        with Path(os.devnull).open("w") as nowhere_to_print, redirect_stdout(nowhere_to_print):
            yield
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        sys.stderr.close()
        sys.stderr = python_stderr
