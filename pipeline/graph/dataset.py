"""The Ray Data graph: shards in, labelled blocks out.

shards ─▶ List (tasks that wait) ─▶ Decode (CPU tasks) ─▶ Predict (a pool of actors, if any)

One block is one row is one batch of images, see batches.py.
"""

import logging
import pickle
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import ray
import ray.data

from pipeline.engine.placement import IO_SHARE, Placement
from pipeline.engine.ray_compat import started_node
from pipeline.engine.single_node import alone
from pipeline.graph.backpressure import Live, keep_lean
from pipeline.graph.job import Job, Sealed
from pipeline.graph.stages import TASK_RETRIES, Decode, List, Predict

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

#: Batches that a lister may yield before Ray Data, which looks every 0.1 s, takes them: 64, of two
#: objects each. Ray Data's default of two would limit a lister to twenty batches a second.
UNREAD_OBJECTS = 128


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of the graph; each maps one table to one or more tables.

    `predict` is a class; each actor creates one object of it with these `arguments`. Without
    `predict` the decode stage yields the rows.
    """

    list: Callable[[pa.Table], Iterator[pa.Table]]
    decode: Callable[[pa.Table], pa.Table]
    predict: type | None
    arguments: tuple[Any, ...]

    @classmethod
    def of(
        cls,
        job: Job,
        placement: Placement,
        ledgers: "Sequence[ObjectRef]",
        coordinator: "ActorHandle",
        graph: "ObjectRef | None" = None,
    ) -> Self:
        """The stages of a run."""
        lister = List(job, ledgers, coordinator, placement.batch_rows)
        predict = Predict if job.task.network else None
        return cls(lister, Decode(job, coordinator), predict, (Sealed(job), coordinator, graph))


def labelled_blocks(
    stages: Stages, placement: Placement, shards: Sequence[Any], live: Live
) -> Generator[tuple["ObjectRef", int], None, None]:
    """Run the graph; yields (reference to a block of batches of rows, bytes) as blocks arrive.

    The graph holds no more than `live` allows. Only references reach the driver. Closing the
    iterator ends the graph.
    """
    _set_up(live)
    with alone() if started_node() else nullcontext():
        for bundle in _graph(stages, placement, shards).iter_internal_ref_bundles():
            for block in bundle.blocks:
                if block.metadata.num_rows:
                    yield block.ref, block.metadata.size_bytes or 0


def _graph(stages: Stages, placement: Placement, shards: Sequence[Any]) -> "ray.data.Dataset":
    # A task would first inspect each Arrow block, while predictors could already be loading.
    numbered = [{"number": n, "shard": pickle.dumps(shard)} for n, shard in enumerate(shards)]
    one_each = ray.data.from_items(numbered, override_num_blocks=max(1, len(numbered)))
    listed = one_each.map_batches(
        stages.list,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=IO_SHARE,
        max_retries=TASK_RETRIES,
        _generator_backpressure_num_objects=UNREAD_OBJECTS,
        **placement.elsewhere,
    )
    decoded = listed.map_batches(
        stages.decode,
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=placement.decoder_cpus,
        max_retries=TASK_RETRIES,
        **placement.elsewhere,
    )
    if stages.predict is None:
        return decoded
    return decoded.map_batches(
        stages.predict,
        fn_constructor_args=stages.arguments,
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=placement.predictors[0],
            max_size=placement.most,
            max_tasks_in_flight_per_actor=placement.in_flight,
            # Calls still run one at a time. Without this, Ray would run the call in a separate
            # thread, in which a retry cannot know that it is a retry.
            enable_true_multi_threading=True,
        ),
        num_cpus=placement.predictor_cpus,
        num_gpus=placement.predictor_gpus,
        max_restarts=-1,
        max_task_retries=-1,  # Predict limits them itself
    )


def _set_up(live: Live) -> None:
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1  # byte: each row is passed on alone, at once
    keep_lean(context, live)
    _quiet(context)


def _quiet(context: ray.data.DataContext) -> None:
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # What Ray would log as an error is also raised, and reported in our own words.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # Before Ray 2.64 there is no other way to limit retries; pyproject.toml excludes later
    # versions.
    warnings.filterwarnings("ignore", message=".*ray_remote_args.*deprecated")
    # A run may have fewer batches than there are predictors.
    warnings.filterwarnings("ignore", message="The minimum number of concurrent actors")
