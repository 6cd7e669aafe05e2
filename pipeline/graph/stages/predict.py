"""Predict: an actor on a GPU, from pixels to rows."""

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from pipeline.engine.ray_compat import attempt_number
from pipeline.graph.batches import pack, unpack
from pipeline.graph.job import Sealed
from pipeline.graph.metrics import DEVICE_SECONDS, Meters
from pipeline.graph.stages.failures import reporting_errors
from pipeline.graph.stages.network import Network
from pipeline.graph.stages.own_device import check_device
from pipeline.graph.stages.turns import Turns
from pipeline.models.backends.device_time import DeviceTime

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
            check_device(self._network.device)
        self._meters = Meters.of(sealed.job.spec.dst)
        self._turns, self._device = Turns(self._meters), DeviceTime(CALLS)

    def __call__(self, batches: pa.Table) -> pa.Table:
        with reporting_errors(self._coordinator):
            retry = bool(attempt_number())
            turn = self._turns.alone() if retry else self._turns.together()
            call = self._device.other_work() if retry else self._device.call()
            with turn, call, self._network.others_first(), self._network.labeller() as label:
                labelled = label(unpack(batches))
                rows = pack(labelled)
            self._coordinator.labelled.remote(labelled.num_rows, self._device_seconds())
            return rows

    def _device_seconds(self) -> dict[str, float]:
        """What the device did since the last batch."""
        seconds = self._device.take()
        for activity, amount in seconds.items():
            self._meters.add(DEVICE_SECONDS, amount, activity)
        return seconds
