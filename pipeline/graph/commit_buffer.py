"""Commit buffer: labelled blocks that wait for the next commit.

Ray keeps a task's small result in the driver's own memory, and copies it three times on the
way into the next task. A commit of 1,500 of them took 100 MB in the driver and in the worker, and
neither freed it. So small blocks are bundled into the object store as they arrive.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import ray

from pipeline.engine.session import fetch

if TYPE_CHECKING:
    from ray import ObjectRef

#: Results smaller than this stay in the driver's memory: the default of Ray's
#: `max_direct_call_object_size`.
SMALL_BYTES: Final = 100 * 1024
#: A bundle is stored when it is many times that size.
BUNDLE_BYTES: Final = 2**20


@dataclass(slots=True)
class CommitBuffer:
    """References to blocks of batches (see batches.py), and the total of their bytes."""

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
        """Return all blocks, in no guaranteed order, and empty the buffer."""
        taken = [*self._large, *self._small]
        self._large, self._small, self._small_bytes, self.size_bytes = [], [], 0, 0
        return taken

    def _bundle(self) -> None:
        # They are in this process already, so this does not wait.
        whole = pa.concat_tables(fetch(self._small)).combine_chunks()
        self._large.append(ray.put(whole))
        self._small, self._small_bytes = [], 0
