"""Progress of a run: its stage and its counts. No Ray here: importing Ray is the first stage."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LOADING: Final = "loading"
COMPILING: Final = "compiling"
LABELLING: Final = "labelling"

#: The stages of a run in order, each with its description for people. Events name them.
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

#: The stages of commands that label nothing.
OTHER_STAGES: Final = {
    "probing": "measuring the speed with a few images",
    "sampling": "checking a sample of the rows",
}

#: The stages that report counts.
COUNTED: Final = (LOADING, COMPILING, LABELLING)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `labelled` counts rows from the graph, `committed` committed rows."""

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
    """A listener that ignores everything."""
