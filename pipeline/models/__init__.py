"""Pixels to labels: one file a kind of model.

To add a kind, write one file here and one line in `KINDS`. A kind is a class that is built
from an `Engine`, a run id and a recipe id, and is called with a PIXELS table for a
LABELLED one (see `schema`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.models.classifier import Classifier


def _classifier() -> "type[Classifier]":
    from pipeline.models.classifier import Classifier

    return Classifier


KINDS: "dict[str, Callable[[], type[Classifier]]]" = {"classifier": _classifier}
