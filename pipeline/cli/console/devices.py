"""What GPUs did with their time, in one line for people."""

from collections.abc import Mapping
from typing import Final

_WORDS: Final = {
    "works": "worked {} of the time",
    "waits": "waited for images {}",
    "copies": "copied {}",
    "rows": "made rows {}",
}
#: Advice is given if this share was spent waiting, over this many seconds: a run's first images
#: are always waited for.
_MUCH: Final = 0.15
_LONG: Final = 60.0


def gpu_rows(seconds: Mapping[str, float], *, advice: bool = True) -> list[tuple[str, object]]:
    """The row of a table, from `device_seconds`; none if no GPU was used. `advice`: say what would
    help."""
    total = sum(seconds.values())
    if total <= 0:
        return []
    shares = {name: amount / total for name, amount in seconds.items()}
    said = [words.format(f"{shares.get(name, 0.0):.0%}") for name, words in _WORDS.items()]
    helps = advice and shares.get("waits", 0.0) >= _MUCH and total >= _LONG
    return [("GPUs", ", ".join(said) + "; more cores that decode would help" * helps)]
