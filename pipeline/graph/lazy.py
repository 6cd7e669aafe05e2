"""Imports the code of the graph only when a run labels: importing Ray Data takes a second."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.graph.driver_loop import Stream


def stream_class() -> "type[Stream]":
    """`Stream`, with everything that it needs imported."""
    from pipeline.graph.driver_loop import Stream

    return Stream
