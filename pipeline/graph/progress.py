"""How far a run is, and for what it waits. No Ray here: the first stage is its import."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LOADING: Final = "loading"
COMPILING: Final = "compiling"
LABELLING: Final = "labelling"

#: The stages of a run in their order, and what each is for people. Events name them.
STAGES: Final = {
    "importing": "importing Ray",
    "checking": "checking source and store",
    "model": "checking the model",
    "listing": "listing",
    "starting": "starting Ray",
    "waiting": "waiting for cluster nodes",
    LOADING: "loading the model",
    COMPILING: "loading and compiling the model",
    LABELLING: "labelling",
    "deleting": "deleting rows of images that are gone",
    "merging": "merging parts into large files",
}

#: Those of commands that label nothing.
OTHER_STAGES: Final = {
    "probing": "measuring the speed with a few images",
    "sampling": "checking a sample of the rows",
}

#: The stages whose progress has counts.
COUNTED: Final = (LOADING, COMPILING, LABELLING)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `labelled` counts rows out of the graph, `committed` true ones."""

    stage: str
    listed: int = 0
    listing_complete: bool = False
    done_before: int = 0
    todo: int = 0
    labelled: int = 0
    committed: int = 0
    errors: int = 0


Listener = Callable[[Progress], None]


def nobody(_: Progress) -> None:
    """Listens to nothing."""
