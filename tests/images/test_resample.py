"""The compiled kernel against Pillow: every filter, with and without AVX2, to the bit."""

import shutil
import sysconfig
from typing import Any

import numpy as np
import pytest
from PIL.Image import Resampling

from pipeline.images import resample
from pipeline.images.resample import FILTERS, by_pillow, one_pass

compiled = pytest.mark.skipif(not resample.COMPILED, reason="there is no compiled kernel here")


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Extremes among it, at which negative weights overflow."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, 3), np.uint8)
    return np.where(random.random(pixels.shape) < 0.3, random.choice([0, 255]), pixels).astype("u1")


def by_kernel(pixels: np.ndarray, axis: int, length: int, kept: slice, *rest: Any) -> np.ndarray:
    shape = [*pixels.shape]
    shape[axis] = kept.stop - kept.start
    made = np.full(shape, 99, np.uint8)
    resample._resample.resample(
        pixels, *pixels.shape[:2], made, axis, length, kept.start, kept.stop, *rest
    )
    return made


def test_it_is_compiled_where_there_is_a_compiler() -> None:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    assert resample.COMPILED


@compiled
@pytest.mark.parametrize("wide", [True, False], ids=["avx2", "plain"])
@pytest.mark.parametrize("axis", [0, 1], ids=["down", "across"])
@pytest.mark.parametrize("filter_", sorted(FILTERS), ids=str)
def test_the_same_pixels_as_pillow(filter_: int, axis: int, wide: bool) -> None:
    random = np.random.default_rng(filter_)
    for seed in range(60):
        height, width = (int(side) for side in random.integers(1, random.choice([6, 40, 300]), 2))
        length = int(random.integers(1, random.choice([6, 300])))
        start = int(random.integers(0, length))
        kept = slice(start, int(random.integers(start, length)) + 1)
        pixels = noise(height, width, seed)
        ours = by_kernel(pixels, axis, length, kept, filter_, wide)
        theirs = by_pillow(pixels, axis, length, kept, filter_)
        assert np.array_equal(ours, theirs), (height, width, length, kept)


@compiled
@pytest.mark.parametrize("wide", [True, False], ids=["avx2", "plain"])
@pytest.mark.parametrize("filter_", sorted(FILTERS), ids=str)
def test_thousands_of_pixels_to_one(filter_: int, wide: bool) -> None:
    kept = slice(0, 1)
    for value in (0, 128, 255):
        line = np.full((2, 70_000, 3), value, np.uint8)
        ours = by_kernel(line, 1, 1, kept, filter_, wide)
        assert np.array_equal(ours, by_pillow(line, 1, 1, kept, filter_))
    line = noise(3, 70_000)
    ours = by_kernel(line, 1, 2, slice(1, 2), filter_, wide)
    assert np.array_equal(ours, by_pillow(line, 1, 2, slice(1, 2), filter_))


@pytest.mark.parametrize("filter_", list(Resampling), ids=str)
def test_a_part_of_a_larger_array(filter_: int) -> None:
    pixels = noise(60, 90)[3:50, 5:70]
    ours = one_pass(pixels, 1, 30, slice(4, 20), filter_)
    assert ours.shape == (47, 16, 3)
    assert np.array_equal(ours, by_pillow(pixels, 1, 30, slice(4, 20), filter_))


@compiled
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((1, 10, 0, 10, 0), "filter"),
        ((1, 10, 0, 10, 6), "filter"),
        ((1, 10, 0, 10, -1), "filter"),
        ((2, 10, 0, 10, 2), "axis"),
        ((1, 10, -1, 9, 2), "start"),
        ((1, 10, 5, 5, 2), "start"),
        ((1, 10, 1, 11, 2), "start"),
        ((1, 2**40, 0, 10, 2), "start"),
        ((1, 11, 0, 11, 2), "target"),
        ((0, 11, 0, 8, 2), "target"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple[int, ...], says: str) -> None:
    pixels, made = np.zeros((7, 9, 3), np.uint8), np.zeros((7, 10, 3), np.uint8)
    with pytest.raises(ValueError, match=says):
        resample._resample.resample(pixels, 7, 9, made, *arguments)


@compiled
@pytest.mark.parametrize("shape", [(7, 10), (0, 9), (2**40, 2**40), (-7, -9)])
def test_a_shape_that_is_not_that_of_its_buffer_is_refused(shape: tuple[int, int]) -> None:
    pixels, made = np.zeros((7, 9, 3), np.uint8), np.zeros((7, 10, 3), np.uint8)
    with pytest.raises(ValueError, match=r"source|height"):
        resample._resample.resample(pixels, *shape, made, 1, 10, 0, 10, 2)


@compiled
def test_a_target_that_cannot_be_written_is_refused() -> None:
    pixels = np.zeros((7, 9, 3), np.uint8)
    with pytest.raises((TypeError, BufferError)):
        resample._resample.resample(pixels, 7, 9, bytes(210), 1, 10, 0, 10, 2)
