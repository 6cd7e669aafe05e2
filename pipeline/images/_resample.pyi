import numpy as np
from numpy.typing import NDArray

#: Whether this CPU has AVX2.
WIDE: bool

def resample(
    source: NDArray[np.uint8],
    height: int,
    width: int,
    target: NDArray[np.uint8],
    axis: int,
    length: int,
    start: int,
    stop: int,
    filter: int,
    wide: bool = True,
    /,
) -> None: ...
