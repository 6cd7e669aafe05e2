"""Pictures of many sizes and textures: what resampling filters find hard, and photographs."""

from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image

from tests.parts.archives.real_archives import photos

#: (width, height)
SIZES = (
    (224, 224),
    (225, 223),
    (223, 225),
    (256, 256),
    (500, 375),
    (375, 500),
    (640, 200),
    (200, 640),
    (1031, 773),
    (773, 1031),
    (97, 61),
    (61, 97),
    (1000, 3),
    (3, 1000),
    (7, 5),
    (2, 1),
    (1, 1),
)

TEXTURES = ("noise", "waves", "blur", "edges")


def picture(texture: str, size: tuple[int, int]) -> Image.Image:
    width, height = size
    random = np.random.default_rng([*texture.encode(), width, height])
    if texture == "noise":
        return Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
    if texture == "waves":
        y, x = np.mgrid[:height, :width]
        waves = [np.sin(x * a + y * b) for a, b in random.uniform(-0.4, 0.4, (3, 2))]
        return Image.fromarray((np.stack(waves, axis=-1) * 127 + 128).astype(np.uint8))
    small = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8))
    filters = {"blur": Image.Resampling.BICUBIC, "edges": Image.Resampling.NEAREST}
    return small.resize(size, filters[texture])


def png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@cache
def photographs() -> list[bytes]:
    """Real JPEGs; raises PartUnavailable where they can't be had."""
    return [path.read_bytes() for path in sorted(photos().rglob("*.jpg"))]
