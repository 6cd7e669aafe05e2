"""Labelled blocks on their way from the graph to the next cut.

Ray keeps a task's small result in the driver's own memory, and copies it three times on the
way into the next task: a cut of fifteen hundred of them took 100 MB of driver and worker, which
neither gave back. So small blocks are bundled into the object store as they come.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import ray

from pipeline.engine.session import fetch

if TYPE_CHECKING:
    from ray import ObjectRef

#: Smaller results lie in the driver's memory: Ray's `max_direct_call_object_size`, its default.
SMALL_BYTES: Final = 100 * 1024
#: A bundle is put where it counts as large many times over.
BUNDLE_BYTES: Final = 2**20


@dataclass(slots=True)
class CommitBuffer:
    """References to blocks of batches (see batches.py), and how many bytes they stand for."""

    size_bytes: int = 0
    _large: "list[ObjectRef]" = field(default_factory=list)
    _small: "list[ObjectRef]" = field(default_factory=list)
    _small_bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self._large or self._small)

    def add(self, block: "ObjectRef", size_bytes: int) -> None:
        self.size_bytes += size_bytes
        if size_bytes >= SMALL_BYTES:
            self._large.append(block)
            return
        self._small.append(block)
        self._small_bytes += size_bytes
        if self._small_bytes >= BUNDLE_BYTES:
            self._bundle()

    def take(self) -> "list[ObjectRef]":
        """All that is held, in no promised order; nothing is held any more."""
        taken = [*self._large, *self._small]
        self._large, self._small, self._small_bytes, self.size_bytes = [], [], 0, 0
        return taken

    def _bundle(self) -> None:
        # They are in this process already, so this waits for nobody.
        whole = pa.concat_tables(fetch(self._small)).combine_chunks()
        self._large.append(ray.put(whole))
        self._small, self._small_bytes = [], 0
