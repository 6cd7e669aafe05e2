"""What people read of a task. No Arrow here: the command line says them before it loads any."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Words:
    """`nightlabel VERB`: 502 DONE, to VERB, DOING; the RESULTS are at DST."""

    verb: str
    done: str
    doing: str
    results: str


LABELLING: Final = Words("label", "labelled", "labelling", "labels")
