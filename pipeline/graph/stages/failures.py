"""Error handling of a stage: reports a fatal error to the coordinator, or lets Ray retry."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import ray

from pipeline.errors import NightlabelError

if TYPE_CHECKING:
    from ray.actor import ActorHandle

#: A block whose worker dies is retried this many times, then the run ends; its images stay
#: unlabelled. Ray's own default is to retry forever.
TASK_RETRIES: Final = 3


@contextmanager
def reporting_errors(coordinator: "ActorHandle | None") -> Iterator[None]:
    """Report our own errors to the coordinator too. Ray tells the driver that a UDF or an actor
    failed, but not the type of the error."""
    try:
        yield
    except NightlabelError as error:
        if coordinator is not None:
            ray.get(coordinator.fail.remote(error))
        raise


@contextmanager
def ending_without_memory(coordinator: "ActorHandle | None") -> Iterator[None]:
    """End the process if it runs out of memory.

    An image that uses up memory may take it from other images in its process: the batch is retried,
    with each image in a child process. Without a coordinator nobody would retry it.
    """
    try:
        yield
    except MemoryError:
        if coordinator is None:
            raise
        os._exit(1)
