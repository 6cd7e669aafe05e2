"""Graph: a network as ONNX, made once, which a CPU then runs without torch or transformers."""

from dataclasses import dataclass
from typing import Final

from pipeline.errors import ModelError

#: The precisions that a graph can have; others run in torch.
PRECISIONS: Final = ("fp32", "bf16", "int8")
#: The name of its input.
INPUT: Final = "pixels"


class NoGraphError(ModelError):
    """A network has no graph, or not one with the same results; says why. It runs in torch."""


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX model, `onnx`, in float32 or with 8-bit weights, and what its engine needs to know.

    Its input is `pixels`, (n, height, width, 3) uint8; its outputs are the logits if there are
    `labels`, then a vector if one is read, each (n, …) float32. `sigmoid`: scores are sigmoids of
    the logits, not their softmax. `precision` is one of PRECISIONS; in int8, activations get one
    scale for each `group` numbers of a row. `off` is how far its scores, or vectors as a share of
    their largest number, were from torch's in fp32 when it was made.
    """

    onnx: bytes
    labels: tuple[str, ...]
    sigmoid: bool
    height: int
    width: int
    precision: str
    group: int = 0
    off: float = 0.0
