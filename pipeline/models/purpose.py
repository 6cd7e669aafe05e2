"""Purpose: which network is built from a checkpoint, and which of its outputs a task reads.

Checks, layer replacements and engines know a task's network only by its purpose. Every change of a
network is checked against what the task reads: logits, a vector, or both from one pass.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pipeline.errors import BadModelError
from pipeline.models.backends.surgery import Read, logits_of
from pipeline.models.pooling import chosen, pool, poolings_of
from pipeline.models.scorer import Embedder, Scaler, Scorer

if TYPE_CHECKING:
    from torch import Tensor

#: Classes with a projection beside their vision network, which AutoModel leaves out.
_PROJECTING: Final = "VisionModelWithProjection"
_MASKING: Final = "mask_ratio"
_PIXELS: Final = "pixel_values"


@dataclass(frozen=True)
class Reader:
    """A network as a task reads it: scaled pixels, (n, 3, H, W), to its results.

    `target` is the part that is called; `poolings` are the vectors that it has for such pixels.
    """

    target: Any
    read: Read
    poolings: "Callable[[Tensor], list[str]]"

    def __call__(self, pixels: "Tensor") -> "tuple[Tensor, ...]":
        return self.read(pixels)


class Purpose(ABC):
    """`labels`: its first result is the logits. `pooling`: its last one are such
    vectors, or None."""

    labels: ClassVar[bool]
    vectors: ClassVar[bool] = True
    pooling: str | None
    #: What is wrong with missing weights, and how to fix it.
    lacking: ClassVar[str]

    def prepared(self, config: Any) -> Any:
        """transformers' config, as used to build the network."""
        return config

    def network(self, config: Any) -> Any:  # noqa: ARG002
        """The class of transformers whose `from_pretrained` loads such a checkpoint."""
        from transformers import AutoModelForImageClassification

        return AutoModelForImageClassification

    def make(self, config: Any) -> Any:
        """The network itself, with any weights."""
        network = self.network(config)
        if hasattr(network, "from_config"):
            return network.from_config(config, trust_remote_code=False)
        return network(config)

    @abstractmethod
    def reader(self, model: Any) -> Reader:
        """Raises BadModelError if the network has no such result."""

    def scorer(self, reader: Reader, top_k: int, **scale: Any) -> Scaler:
        """From pixels to arrays. `scale`: see `Scaler`."""
        if self.labels:
            return Scorer(reader.target, top_k=top_k, read=reader.read, **scale)
        return Embedder(reader.target, read=reader.read, **scale)


@dataclass(frozen=True)
class Classifying(Purpose):
    """Logits of an image classifier."""

    labels: ClassVar[bool] = True
    vectors: ClassVar[bool] = False
    pooling: ClassVar[None] = None  # type: ignore[misc]
    lacking: ClassVar[str] = (
        "so labels would be random; fine-tune the model with its class head and save it again"
    )

    def reader(self, model: Any) -> Reader:
        return Reader(model, logits_of(model), lambda _: [])


@dataclass(frozen=True)
class Embedding(Purpose):
    """A vector of a vision backbone. Without `pooling` it is the first that the network has."""

    pooling: str | None = None
    labels: ClassVar[bool] = False
    lacking: ClassVar[str] = (
        "so vectors would be random; name another --pooling, or train the model and save it again"
    )

    def prepared(self, config: Any) -> Any:
        if hasattr(config, _MASKING):
            setattr(config, _MASKING, 0.0)  # an MAE would leave out three quarters, at random
        return config

    def network(self, config: Any) -> Any:
        import transformers

        for name in getattr(config, "architectures", None) or ():
            if str(name).endswith(_PROJECTING) and hasattr(transformers, name):
                return getattr(transformers, name)
        return transformers.AutoModel

    def reader(self, model: Any) -> Reader:
        tower = getattr(model, "vision_model", model)
        if getattr(tower, "main_input_name", _PIXELS) != _PIXELS:
            kind = type(model).__name__
            raise BadModelError(
                f"a {kind} does not take images; choose a vision backbone with --model"
            )
        projection = getattr(model, "visual_projection", None)
        poolings = _Poolings(tower, projects=projection is not None)

        def read(pixels: "Tensor") -> "tuple[Tensor, ...]":
            output = _run(tower, pixels)
            pooling = poolings.checked(output, pixels, self.pooling)
            return (pool(tower, output, pooling, projection),)

        return Reader(tower, read, poolings)


@dataclass(frozen=True)
class ClassifyingAndEmbedding(Purpose):
    """Logits of an image classifier, and a vector of its backbone, from one pass."""

    pooling: str
    labels: ClassVar[bool] = True
    lacking: ClassVar[str] = (
        "so labels or vectors would be random; fine-tune the model and save it again, or leave "
        "--embed out"
    )

    def reader(self, model: Any) -> Reader:
        tower = _tower_in(model)
        poolings, seen = _Poolings(tower), list[Any]()
        tower.register_forward_hook(lambda _module, _given, output: seen.append(output))

        def read(pixels: "Tensor") -> "tuple[Tensor, ...]":
            seen.clear()
            logits = model(pixel_values=pixels).logits
            output = seen.pop()
            pooling = poolings.checked(output, pixels, self.pooling)
            return logits, pool(tower, output, pooling)

        return Reader(model, read, poolings)


class _Poolings:
    """Determined once, from the first output; a trimmed layer leaves fewer tokens later."""

    def __init__(self, tower: Any, *, projects: bool = False) -> None:
        self._tower, self._projects = tower, projects
        self._there: list[str] | None = None

    def __call__(self, pixels: "Tensor") -> list[str]:
        return self._of(_run(self._tower, pixels), pixels)

    def checked(self, output: Any, pixels: "Tensor", pooling: str | None) -> str:
        """`pooling`, or the default one. Raises BadModelError if the network does not have it."""
        if self._there is None:
            self._there = self._of(output, pixels)
        return chosen(self._tower, pooling, self._there)

    def _of(self, output: Any, pixels: "Tensor") -> list[str]:
        size = (int(pixels.shape[2]), int(pixels.shape[3]))
        return poolings_of(self._tower, output, size, projects=self._projects)


def _run(tower: Any, pixels: "Tensor") -> Any:
    """Output of a vision network, with all of its patches in order."""
    import torch

    if not hasattr(tower.config, _MASKING) or tower.config.model_type != "vit_mae":
        return tower(pixel_values=pixels)
    edge = tower.config.patch_size
    patches = (pixels.shape[2] // edge) * (pixels.shape[3] // edge)
    # It sorts patches by this noise, and would draw new noise for each image.
    order = torch.arange(patches, device=pixels.device, dtype=torch.float32)
    return tower(pixel_values=pixels, noise=order.expand(pixels.shape[0], -1))


def _tower_in(classifier: Any) -> Any:
    from transformers import PreTrainedModel

    towers = [child for child in classifier.children() if isinstance(child, PreTrainedModel)]
    if len(towers) != 1:
        raise BadModelError(
            f"a {type(classifier).__name__} does not let its backbone be read; leave --embed out "
            "and run `nightlabel embed` beside it"
        )
    return towers[0]


CLASSIFYING: Final = Classifying()
