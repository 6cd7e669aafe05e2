"""Memory budget: how much of a node's memory all large images may take together.

    large images = 90% of the node's memory - Ray's object store
                   - 0.75 GiB for each decoder
                   - (0.75 GiB + twice the model's weights) for each predictor;
                   a quarter of the node's memory at least

Ray ends workers at 95% of the node's memory. A decoder's 0.75 GiB are Python, its read-ahead
(256 MiB) and one image that is small enough to skip this budget (`SMALL_BYTES`). Without GPUs a
process is both, and takes both: it has one Python, but reads ahead for the next batch too. An image
that needs more than the whole budget is decoded alone. One that would not fit beside the node's
processes is `too_large`.
"""

from typing import Final

import ray

from pipeline.engine.placement import Node
from pipeline.engine.session import cores, nodes
from pipeline.images.cost import SMALL_BYTES
from pipeline.isolation.limits import MEMORY_BESIDE, image_memory
from pipeline.isolation.memory_locks import UNIT
from pipeline.isolation.node_memory import node_memory
from pipeline.isolation.node_room import Budget
from pipeline.spec import LabelSpec
from pipeline.storage import BYTES_IN_FLIGHT

USABLE: Final = 0.9
#: Ray's own default, used while no Ray runs.
OBJECT_STORE: Final = 0.3
PROCESS_BYTES: Final = 768 * 2**20
#: libwebp allocates two canvases as soon as it reads a header, of 16383 by 16383 pixels at most.
#: They count as allocated, but take no memory until they are drawn on.
WEBP_CANVASES: Final = 8
WEBP_PIXELS: Final = 2**28
LEAST_SHARE: Final = 0.25
LEAST_ALONE: Final = 0.5


def budget_of(memory: int, decoders: int, predictors: int, store: int, weights: int) -> Budget:
    """The formula above: all sizes in bytes, of one node."""
    store = min(store, int(OBJECT_STORE * memory))
    processes = decoders * PROCESS_BYTES + predictors * (PROCESS_BYTES + 2 * weights)
    most = max(USABLE * memory - processes, LEAST_ALONE * memory)
    large = max(USABLE * memory - processes - store, LEAST_SHARE * memory)
    return Budget(memory, decoders, max(UNIT, int(large) // UNIT * UNIT), int(most))


def budget_here(
    spec: LabelSpec, weights: int = 0, gpus: int = 0, *, network: bool = True
) -> Budget:
    """The budget of this process's node: the running Ray's, or that of a Ray started here.

    A task without a `network` has no predictors.
    """
    memory = min(spec.node_memory or node_memory(), node_memory())
    there = [Node("", cores(), gpus, int(OBJECT_STORE * memory))]
    mine = ""
    if ray.is_initialized():
        there, mine = nodes(), ray.get_runtime_context().get_node_id()
    node = next((one for one in there if one.id == mine), there[0])
    decoders, predictors = max(1, int(node.cpus)), 0
    if network:
        decoders, predictors = _processes(node, spec, on_gpus=any(one.gpus for one in there))
    return budget_of(memory, decoders, predictors, node.store, weights)


def _processes(node: Node, spec: LabelSpec, *, on_gpus: bool) -> tuple[int, int]:
    """How many decoders and predictors a node may have, see placement.py; without GPUs, processes
    that are both."""
    cpus = max(1, int(node.cpus))
    if on_gpus:
        return cpus, int(node.gpus / (spec.gpus_per_predictor or 1.0))
    both = min(cpus, spec.predictor_range[1] if spec.predictor_range else cpus)
    return both, both


def process_memory(spec: LabelSpec, *, sizes_known: bool = True) -> int:
    """Bytes that a decoder may allocate without asking for room for a large image.

    If a list gives no sizes of its objects, reads may take more memory than planned.
    """
    if not sizes_known:
        return image_memory(spec.max_pixels, spec.max_bytes)
    canvases = WEBP_CANVASES * min(spec.max_pixels, WEBP_PIXELS)
    return SMALL_BYTES + canvases + BYTES_IN_FLIGHT + spec.max_bytes + MEMORY_BESIDE
