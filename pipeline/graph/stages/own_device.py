"""The device of a worker: the GPU that Ray gives it, and no other.

Ray counts GPUs that torch may not be able to use: Apple's, Intel's, or NVIDIA's where torch is
built for CPUs or the driver is too old. And it no longer hides a node's GPUs from a worker to which
it gives none (https://github.com/ray-project/ray/issues/54868).
"""

import os
from typing import Final

import ray

from pipeline.errors import ModelError
from pipeline.models.backends.loading import torch_in_words, unused_gpu

#: "1": Ray's GPUs are only numbers, as in tests of scheduling, and predictors use CPUs.
LOGICAL: Final = "NIGHTLABEL_LOGICAL_GPUS"
HIDDEN: Final = {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1"}


def keep_to_own_device() -> None:
    """Hide all GPUs from this process and its children if Ray gave it none.

    Call it before torch uses one.
    """
    if not _given():
        os.environ.update(HIDDEN)


def check_device(device: str) -> None:
    """Raises ModelError if Ray gave this process a GPU and the network is on a CPU: one core would
    do the work of a GPU, and the run would look as if it went well."""
    if device == "cpu" and _given() and not logical():
        what = unused_gpu()
        why = f"{what} is not supported" if what else f"{torch_in_words()} cannot use it"
        raise ModelError(
            f"Ray counts a GPU on the node {ray.util.get_node_ip_address()}, but {why}: {advice()}"
        )


def advice() -> str:
    return (
        "install a PyTorch that is made for the node's GPU and driver (`nightlabel doctor` there "
        "names them), or start Ray there with --num-gpus 0 to label on its cores"
    )


def logical() -> bool:
    return os.environ.get(LOGICAL) == "1"


def _given() -> list[str]:
    return list(ray.get_runtime_context().get_accelerator_ids().get("GPU", []))
