"""PIXELS tables for tests."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import schema


def pixel_table(images: NDArray[np.uint8], failed: tuple[int, ...] = ()) -> pa.Table:
    """PIXELS with the images in order and rows of errors at the positions `failed`."""
    count = len(images) + len(failed)
    left = iter(images)
    pixels = [None if row in failed else next(left).tobytes() for row in range(count)]
    code = ["truncated" if row in failed else None for row in range(count)]
    uris = [f"file:///a/{row}.png" for row in range(count)]
    return pa.table(
        {
            "uri": uris,
            "member": [None] * count,
            "etag": [f"etag{row}" for row in range(count)],
            "size": list(range(count)),
            "modified": [datetime(2026, 1, 1, tzinfo=UTC)] * count,
            "object_id": [schema.object_id(uri) for uri in uris],
            "version": list(range(count)),
            "replaces": [row if row % 2 else None for row in range(count)],
            "width": [None if c else 640 for c in code],
            "height": [None if c else 480 for c in code],
            "format": [None if c else "PNG" for c in code],
            "pixels": pixels,
            "error_code": code,
            "error_message": [c and "cut short" for c in code],
        },
        schema=schema.PIXELS,
    )
