"""What a stream can show: whether it is a terminal, and which symbols its encoding has."""

import os
from typing import TYPE_CHECKING, Final, TextIO

from pipeline.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

#: Replacements for our symbols, if the encoding lacks them.
_ASCII: Final = str.maketrans({"→": "->", "…": "...", "·": "|"})


def on_terminal(stream: TextIO) -> bool:
    """Whether lines may be redrawn and columns cut to the terminal's width."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def shown(text: str, stream: TextIO) -> str:
    """`text` as this stream can write it: no control characters, no symbol that its
    encoding lacks."""
    text = printable(text)
    encoding = stream.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text


def console_of(stream: TextIO) -> "Console":
    """A rich console that does not interpret markup, and obeys NO_COLOR."""
    from rich.console import Console

    return Console(file=stream, markup=False, emoji=False, highlight=False)
