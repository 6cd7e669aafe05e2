"""Keep the messages of libraries off the terminal."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path


@contextmanager
def quiet_libraries(*, debug: bool) -> Iterator[None]:
    """Discard what libraries print, and what C libraries write to descriptor 2.

    Python's `sys.stderr` still works. Whatever its log level, Ray's core prints warnings that do
    not concern users, and reports dead workers on standard output, which would spoil the JSON
    document.
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
