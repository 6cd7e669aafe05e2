"""The words for a task in messages. No Arrow here: the command line needs them before
it loads any."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Words:
    """`nightlabel VERB`: 502 are DONE, more are to VERB; the RESULTS are at DST.

    `loads_model`: whether a run loads a model at its start.
    """

    verb: str
    done: str
    results: str
    loads_model: bool = False


#: The task of a job that names none, and of everything written before there were other tasks.
DEFAULT_TASK: Final = "classify"

LABELLING: Final = Words("label", "labelled", "labels", loads_model=True)
