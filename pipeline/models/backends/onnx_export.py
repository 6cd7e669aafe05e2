"""Export: a network of torch as an ONNX model, pixels in, results out.

torch's exporter that records one run (`dynamo=False`) is used: it takes half a second where the
newer one takes two to four and needs two packages more, and it exports as many families. Only this
file calls torch's exporter.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from pipeline.models.backends.graph import INPUT
from pipeline.models.backends.surgery import Read

if TYPE_CHECKING:
    from torch import Tensor

#: LayerNormalization is one operator from 17 on.
OPSET: Final = 17


def export(
    model: Any,
    read: Read,
    *,
    shape: tuple[int, int, int],
    rescale: float,
    mean: Sequence[float],
    std: Sequence[float],
) -> bytes:
    """An ONNX model of what `read` gives for `model`, a network in fp32 in evaluation mode.

    Its input, `pixels`, is (n, *shape) uint8 for any n, which become (x · rescale − mean) / std.
    Raises what torch raises for a network that cannot be exported.
    """
    import torch

    network = _with_scaling(model, read, rescale, mean, std)
    # Two images: a batch of one would be exported as if there were no batch.
    example = torch.zeros((2, *shape), dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings(), TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        warnings.simplefilter("ignore")  # of the recording, whose result is proved afterwards
        fix_positions(model, lambda: network(example))
        torch.onnx.export(
            network,
            (example,),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            dynamic_axes={INPUT: {0: "n"}},
        )
        return path.read_bytes()


def fix_positions(model: Any, run: Callable[[], Any]) -> None:
    """Replace the interpolation of position embeddings by its result, in place.

    It depends only on the images' size. Not every exporter knows every interpolation.
    """
    found: dict[Any, Tensor] = {}
    modules = [one for one in model.modules() if hasattr(one, "interpolate_pos_encoding")]
    for module in modules:
        _note(module, found)
    run()
    for module in modules:
        del module.interpolate_pos_encoding
        if module in found:
            module.interpolate_pos_encoding = lambda *_, fixed=found[module], **__: fixed


def _note(module: Any, found: "dict[Any, Tensor]") -> None:
    interpolate = module.interpolate_pos_encoding

    def noted(*args: Any, **options: Any) -> "Tensor":
        found[module] = interpolate(*args, **options).detach()
        return found[module]

    module.interpolate_pos_encoding = noted


def _with_scaling(
    model: Any, read: Read, rescale: float, mean: Sequence[float], std: Sequence[float]
) -> Any:
    import torch

    class Network(torch.nn.Module):
        """(n, H, W, 3) uint8 → what is read, in float32."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self._mean, self._std = (
                torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std)
            )

        def forward(self, pixels: "Tensor") -> "tuple[Tensor, ...]":
            values = pixels.permute(0, 3, 1, 2).float() * rescale
            return tuple(read((values - self._mean) / self._std))

    return Network().eval()
