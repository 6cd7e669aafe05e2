"""Keeping libraries' own words off the terminal."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries(*, debug: bool) -> Iterator[None]:
    """Send what C libraries write to file descriptor 2 nowhere; Python's stderr still speaks.

    Ray's core warns there of what is no concern of a user's, whatever its log level.
    """
    if debug:
        yield
        return
    terminal = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    python_stderr = sys.stderr
    sys.stderr = os.fdopen(terminal, "w", buffering=1)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        sys.stderr.close()
        sys.stderr = python_stderr
