"""The Ray Data graph: shards in, labelled blocks out.

shards ─▶ List (tasks that wait) ─▶ Decode (CPU tasks) ─▶ Predict (a pool of actors, if any)
shards ─▶ List (tasks that wait) ─▶ Label (a pool of actors, if the cluster has no GPU)

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
from ray.data.context import AutoscalingConfig

from pipeline.engine.placement import IO_SHARE, Placement
from pipeline.engine.ray_compat import started_node
from pipeline.engine.single_node import alone
from pipeline.graph.backpressure import Live, limit_graph
from pipeline.graph.job import Job, Sealed
from pipeline.graph.stages.decode import Decode
from pipeline.graph.stages.failures import TASK_RETRIES
from pipeline.graph.stages.label import CALLS, Label
from pipeline.graph.stages.list import List
from pipeline.graph.stages.predict import CALLS as GPU_CALLS
from pipeline.graph.stages.predict import Predict

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
    `predict` the decode stage yields the rows; without `decode`, actors read and decode themselves.
    """

    list: Callable[[pa.Table], Iterator[pa.Table]]
    decode: Callable[[pa.Table], pa.Table] | None
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
        arguments = (Sealed(job), coordinator, graph)
        if placement.predictors_decode:
            return cls(lister, None, Label, arguments)
        predict = Predict if job.task.network else None
        decode = Decode(job, coordinator, beside_gpus=bool(placement.predictor_gpus))
        return cls(lister, decode, predict, arguments)


def labelled_blocks(
    stages: Stages, placement: Placement, shards: Sequence[Any], live: Live
) -> Generator[tuple["ObjectRef", int], None, None]:
    """Run the graph; yields (reference to a block of batches of rows, bytes) as blocks arrive.

    The graph holds no more than `live` allows. Only references reach the driver. Closing the
    iterator ends the graph.
    """
    set_up(live, placement)
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
    decoded = listed if stages.decode is None else _decoded(listed, stages.decode, placement)
    return decoded if stages.predict is None else predicted(decoded, stages, placement)


def _decoded(
    listed: "ray.data.Dataset", decode: Callable[[pa.Table], pa.Table], placement: Placement
) -> "ray.data.Dataset":
    return listed.map_batches(
        decode,
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=placement.decoder_cpus,
        max_retries=TASK_RETRIES,
        **placement.elsewhere,
    )


def predicted(
    decoded: "ray.data.Dataset", stages: Stages, placement: Placement
) -> "ray.data.Dataset":
    """The predictors behind blocks of decoded batches, or of refs if they decode themselves."""
    return decoded.map_batches(
        stages.predict,
        fn_constructor_args=stages.arguments,
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=placement.predictors[0],
            max_size=placement.most,
            max_tasks_in_flight_per_actor=placement.in_flight,
            max_concurrent_calls_per_actor=CALLS if placement.predictors_decode else GPU_CALLS,
            # Without this, Ray would run the call in a separate thread, in which a retry cannot
            # know that it is a retry.
            enable_true_multi_threading=True,
        ),
        num_cpus=placement.predictor_cpus,
        num_gpus=placement.predictor_gpus,
        max_restarts=-1,
        max_task_retries=-1,  # the stage limits them itself
    )


def set_up(live: Live, placement: Placement) -> None:
    """Set Ray Data up for a graph of this process."""
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1  # byte: each row is passed on alone, at once
    context.autoscaling_config = _scaling(placement)
    limit_graph(context, live)
    _quiet(context)


def _scaling(placement: Placement) -> AutoscalingConfig:
    """When another predictor of a range starts."""
    if not placement.predictors_decode:
        return AutoscalingConfig()
    # Once the others have all that they may have in flight: the default asks for more than that.
    return AutoscalingConfig(actor_pool_util_upscaling_threshold=placement.in_flight / CALLS)


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
