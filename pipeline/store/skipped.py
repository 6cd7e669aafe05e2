"""Warns about documents in a store that are not ours and are skipped."""

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from pipeline.errors import printable

#: This many are named.
TOLD: Final = 3


def tell_passed_over(problems: Sequence[str]) -> None:
    """A warning for each of the first few, once in a process."""
    for problem in problems[:TOLD]:
        _tell(f"{problem}; it is skipped")
    if len(problems) > TOLD:
        _tell(f"{len(problems) - TOLD:,} more such files are skipped, like {problems[0]}")


@lru_cache(maxsize=1000)
def _tell(line: str) -> None:
    logging.getLogger("nightlabel").warning("nightlabel: %s", printable(line))
