"""Predict: an actor on a GPU, from pixels to rows."""

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from pipeline.engine.ray_compat import attempt_number
from pipeline.engine.session import gpu_here
from pipeline.errors import ModelError
from pipeline.graph.batches import pack, unpack
from pipeline.graph.job import Sealed
from pipeline.graph.metrics import Meters
from pipeline.graph.stages.failures import reporting_errors
from pipeline.graph.stages.network import Network
from pipeline.graph.stages.turns import Turns

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

#: Calls that run at the same time in one actor: while the device works for one, another becomes
#: rows, and the pixels of a third are on their way.
CALLS: Final = 3


class Predict:
    """Pixels to rows, in an actor that loads the task's network once.

    The engine queues the work of several calls on its device, which so has no pause between them.
    If a predictor died on a batch, the retry isolates its images, see bisection.py, and has the
    actor to itself: nothing else can then end its process.
    """

    def __init__(
        self, sealed: Sealed, coordinator: "ActorHandle", graph: "ObjectRef | None" = None
    ) -> None:
        self._coordinator = coordinator
        self._network = Network(sealed.job, coordinator, graph)
        with reporting_errors(coordinator):
            _check_device(self._network.device)
        self._turns = Turns(Meters.of(sealed.job.spec.dst))

    def __call__(self, batches: pa.Table) -> pa.Table:
        with reporting_errors(self._coordinator):
            turn = self._turns.alone() if attempt_number() else self._turns.together()
            with turn, self._network.others_first(), self._network.labeller() as label:
                labelled = label(unpack(batches))
            self._coordinator.labelled.remote(labelled.num_rows)
            return pack(labelled)


def _check_device(device: str) -> None:
    """Raises ModelError where Ray has given away a GPU that torch cannot use: a night on one core
    instead would look as if it went well."""
    if device == "cpu" and gpu_here():
        raise ModelError(
            "Ray counts a GPU on this node, but PyTorch cannot use it: install a PyTorch that is "
            "made for the node's driver (`nightlabel doctor` there names both), or start Ray with "
            "--num-gpus 0 to label on its cores"
        )
