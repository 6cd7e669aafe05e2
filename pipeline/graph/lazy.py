"""The code of the graph, imported when a run labels: Ray Data takes a second of a core."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.graph.driver_loop import Stream


def stream_class() -> "type[Stream]":
    """`Stream`, with everything that it needs imported."""
    from pipeline.graph.driver_loop import Stream

    return Stream
