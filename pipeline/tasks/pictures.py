"""The pictures that a network is proved on, as its preprocessing makes them."""

from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline import demo
from pipeline.images import Preprocess, prepare

#: Every hundredth photograph of the demo.
EVERY: Final = 100


def pictures(shape: Preprocess) -> NDArray[np.uint8]:
    """Photographs, and stripes of all brightnesses, as a model takes them: (n, H, W, 3)."""
    paths = sorted(demo.images().rglob("*.png"))[::EVERY]
    images = [*(path.read_bytes() for path in paths), picture()]
    return np.stack([prepare(image, shape).pixels for image in images])


def picture() -> bytes:
    """A PNG of coloured stripes, in a size that no model takes."""
    from PIL import Image

    stripes = Image.linear_gradient("L").resize((640, 427))
    sink = BytesIO()
    Image.merge("RGB", (stripes, stripes.rotate(180), stripes)).save(sink, "PNG")
    return sink.getvalue()
