"""Hides secrets from a driver's command line, which `ps` and Ray's dashboard show."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pipeline.engine.ray_compat import Private, find
from pipeline.spec import SECRETS
from pipeline.storage import redacted

#: The options of all secret fields, and `--set` of each.
_OPTIONS: Final = tuple(f"--{name}" for name in SECRETS)
_SETTINGS: Final = tuple(f"{word}=" for name in SECRETS for word in (name, f"--{name}"))


def hide_secrets() -> None:
    """From now on, show our own command line without queries, passwords and secret options."""
    if Path(sys.argv[0]).name != "nightlabel":
        return  # not our program
    clean = without_secrets(sys.argv)
    rename = find(Private.SET_TITLE)
    if clean != sys.argv and rename is not None:
        rename(" ".join(clean))


def without_secrets(words: Sequence[str]) -> list[str]:
    """A command line without its secrets."""
    found = []
    hide = False
    for word in words:
        if hide:
            found.append("…")
        elif word.startswith(_SETTINGS):
            found.append(f"{word.partition('=')[0]}=…")
        else:
            found.append(redacted(word))
        hide = word in _OPTIONS
    return found
