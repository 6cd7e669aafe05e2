"""Warns about documents in a store that are not ours and are skipped."""

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from pipeline.errors import printable

#: This many are named.
NAMED: Final = 3


def warn_of_skipped(problems: Sequence[str]) -> None:
    """A warning for each of the first few, once in a process."""
    for problem in problems[:NAMED]:
        _warn(f"{problem}; it is skipped")
    if len(problems) > NAMED:
        _warn(f"{len(problems) - NAMED:,} more such files are skipped, like {problems[0]}")


@lru_cache(maxsize=1000)
def _warn(line: str) -> None:
    logging.getLogger("nightlabel").warning("nightlabel: %s", printable(line))
