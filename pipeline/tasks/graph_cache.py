"""Graph cache: keeps on this machine the graphs of models, and why some have none."""

import json
import time
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from pipeline.models.backends.graph import Graph
from pipeline.models.cache import cache_folder, keep, kept
from pipeline.tasks import graph_maker
from pipeline.tasks.graph_maker import GraphRequest
from pipeline.tasks.preprocess_cache import digest

KIND: Final = "graphs"
#: Seconds: a graph that nobody has used for 60 days is removed.
UNUSED: Final = 60 * 86_400.0
#: Of a graph, all but its bytes is one line of JSON.
_FACTS: Final = [field.name for field in fields(Graph) if field.name != "onnx"]


def name_of(request: GraphRequest) -> str:
    """The name of a graph in the cache: another for other weights, pixels, results, versions, or
    other code that makes and proves it."""
    asked = [request.weights_sha256, request.preprocess, request.purpose, request.precision]
    code = Path(graph_maker.__file__).read_bytes()
    return digest(request.folder, [code, *(repr(one).encode() for one in asked)])


def kept_graph(name: str) -> Graph | str | None:
    """A graph, or in words why there is none; None if neither is known here."""
    try:
        facts, _, onnx = kept(KIND, name).partition(b"\n")
    except OSError:
        return None
    with suppress(OSError):
        (cache_folder(KIND) / name).touch()
    told: dict[str, Any] = json.loads(facts)
    if "why" in told:
        return str(told["why"])
    return Graph(onnx=onnx, **told | {"labels": tuple(told["labels"])})


def keep_graph(name: str, found: Graph | str) -> None:
    """Keep it for the next run. Raises OSError."""
    _remove_unused()
    if isinstance(found, str):
        keep(KIND, name, json.dumps({"why": found}).encode())
        return
    facts = {name: getattr(found, name) for name in _FACTS}
    keep(KIND, name, json.dumps(facts).encode() + b"\n" + found.onnx)


def _remove_unused() -> None:
    oldest = time.time() - UNUSED
    for path in cache_folder(KIND).iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
