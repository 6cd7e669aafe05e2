"""The measures of `fingerprint`: what they are of known images, and a reference that is no twin."""

import ast
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from pipeline.errors import ImageError, SpecError
from pipeline.images import prepare
from pipeline.spec import make_spec
from pipeline.tasks import task_named
from pipeline.tasks.fingerprint import (
    SHAPE,
    Fingerprint,
    FingerprintRecipe,
    Measurer,
    distance,
)
from pipeline.tasks.measures import SIDE, measure
from pipeline.tasks.rows import RowMaker
from pipeline.tasks.slow_measures import slow_measures
from tests.golden.pictures import picture
from tests.models.tables import pixel_table

FINGERPRINT = Fingerprint()
KINDS = ("noise", "waves", "blur", "edges")


def recipe(**spec: Any) -> FingerprintRecipe:
    job = make_spec(src="a", dst="b", task="fingerprint", **spec)
    found = FINGERPRINT.prepare(job).recipe
    assert isinstance(found, FingerprintRecipe)
    return found


def encoded(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def row(data: bytes, *, fast: bool = False, exif: bool = True) -> dict[str, Any]:
    """A row as a run writes it."""
    found = prepare(data, SHAPE, fast=fast, exif=exif)
    seen = pa.table({"width": [found.width], "height": [found.height]})
    answers = Measurer()(found.pixels[None], seen)
    return {"uri": "a.png"} | {name: one[0].as_py() for name, one in answers.columns.items()}


def plain(colour: tuple[int, int, int]) -> dict[str, Any]:
    return row(encoded(Image.new("RGB", (300, 200), colour)))


def photographs() -> Iterator[Image.Image]:
    for number, kind in enumerate(KINDS * 2):
        yield picture(kind, (70 + 211 * number, 1300 - 157 * number))


def test_the_fingerprint_of_its_recipe_never_drifts() -> None:
    """Another value here would measure every archive of the world again."""
    assert recipe().id == "r86af5243"
    assert recipe(decode="fast").id != recipe().id != recipe(exif=False).id
    assert FingerprintRecipe.from_json(recipe().to_json()) == recipe()


def test_plain_images_have_the_measures_that_the_formulas_say() -> None:
    white, black, red = plain((255, 255, 255)), plain((0, 0, 0)), plain((255, 0, 0))
    assert [white["brightness"], black["brightness"]] == pytest.approx([1, 0], abs=1e-6)
    assert red["brightness"] == pytest.approx(0.299, abs=1e-6)
    for found in (white, black, red):
        assert (found["phash"], found["sharpness"]) == (0, pytest.approx(0, abs=1e-6))
        assert found["aspect"] == 1.5
    assert [white["colourfulness"], black["colourfulness"]] == pytest.approx([0, 0], abs=1e-4)
    # rg = 255 and yb = 127.5 everywhere: no variance, and 0.3 times the length of their mean.
    assert red["colourfulness"] == pytest.approx(0.3 * np.hypot(255, 127.5), abs=1e-3)


def test_stripes_have_the_sharpness_that_the_formula_says() -> None:
    stripes = np.zeros((SIDE, SIDE, 3), np.uint8)
    stripes[:, ::2] = 255
    _, sharpness, brightness, colourfulness = measure(stripes)
    assert sharpness == pytest.approx(510.0**2)  # the Laplacian is 510 and −510 by turns
    assert (brightness, colourfulness) == (pytest.approx(0.5), pytest.approx(0, abs=1e-3))


def test_a_wave_sets_the_bit_of_its_coefficient() -> None:
    """Waves 1 to 8 both ways, row by row from the most significant bit."""
    for v, u in ((1, 1), (1, 8), (4, 3), (8, 8)):
        at = np.pi * (2 * np.arange(SIDE) + 1) / (2 * SIDE)
        wave = 127 + 100 * np.outer(np.cos(v * at), np.cos(u * at))
        image = np.repeat(wave.round().astype(np.uint8)[..., None], 3, axis=2)
        bit = 1 << (63 - 8 * (v - 1) - (u - 1))
        assert measure(image)[0] & (2**64 - 1) & bit == bit


def test_what_a_person_takes_for_the_same_is_near_and_other_images_are_far() -> None:
    images = [picture(kind, (900, 700)) for kind in KINDS] + [
        picture(kind, (900, 700)).rotate(90) for kind in KINDS[:3]
    ]
    hashes = [row(encoded(image))["phash"] for image in images]
    assert min(distance(a, b) for n, a in enumerate(hashes) for b in hashes[:n]) > 10
    for image, known in zip(images, hashes, strict=True):
        for change in (
            encoded(image.resize((450, 350))),
            encoded(image, "jpeg", quality=60),
            encoded(ImageEnhance.Brightness(image).enhance(0.9)),
        ):
            assert distance(row(change)["phash"], known) <= 10


def test_each_measure_orders_images_as_a_person_does() -> None:
    image = picture("edges", (900, 700))
    before = row(encoded(image))
    assert row(encoded(image.filter(ImageFilter.GaussianBlur(6))))["sharpness"] < (
        before["sharpness"] / 4
    )
    darker = row(encoded(ImageEnhance.Brightness(image).enhance(0.5)))
    assert darker["brightness"] == pytest.approx(before["brightness"] / 2, abs=0.01)
    greyer = row(encoded(ImageEnhance.Color(image).enhance(0.3)))
    assert greyer["colourfulness"] < before["colourfulness"] / 2


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_the_reference_agrees_with_true_rows(kind: str) -> None:
    for number, image in enumerate(photographs()):
        exif = image.getexif()
        exif[0x0112] = 1 + number % 8
        data = encoded(image, kind, exif=exif)
        for upright in (True, False):
            truth = slow_measures(data, exif=upright, max_pixels=10**9)
            stored = row(data, exif=upright)
            assert FINGERPRINT.agree(stored, truth, recipe()) is None
            assert distance(stored["phash"], truth.phash) == 0


def test_the_reference_agrees_with_rows_of_a_smaller_scale() -> None:
    for kind in KINDS:
        data = encoded(picture(kind, (2600, 1900)), "jpeg", quality=85)
        stored, exact = row(data, fast=True), row(data)
        assert stored != exact, "a smaller scale was taken"
        truth = slow_measures(data, exif=True, max_pixels=10**9)
        assert FINGERPRINT.agree(stored, truth, recipe(decode="fast")) is None


WRONG: dict[str, Any] = {
    "phash": lambda value: value ^ 0b11111,
    "sharpness": lambda value: value * 1.01,
    "brightness": lambda value: value + 0.001,
    "colourfulness": lambda value: value * 1.01,
    "aspect": lambda value: 1 / value,
}


@pytest.mark.parametrize("name", [column.name for column in FINGERPRINT.columns])
def test_a_row_with_one_wrong_value_does_not_agree(name: str) -> None:
    data = encoded(picture("edges", (500, 300)))
    truth = slow_measures(data, exif=True, max_pixels=10**9)
    stored = row(data)
    for value in (WRONG[name](stored[name]), None):
        found = FINGERPRINT.agree(stored | {name: value}, truth, recipe())
        assert found is not None
        assert f"its {name}" in found.words()
        assert found.words().startswith("a.png")


def test_nan_does_not_agree() -> None:
    data = encoded(picture("edges", (500, 300)))
    truth = slow_measures(data, exif=True, max_pixels=10**9)
    assert FINGERPRINT.agree(row(data) | {"sharpness": float("nan")}, truth, recipe())


def test_the_reference_refuses_what_is_no_image() -> None:
    for data, limit in ((b"no image", 10**9), (encoded(picture("blur", (40, 40))), 100)):
        with pytest.raises(ImageError):
            slow_measures(data, exif=True, max_pixels=limit)


def test_rows_keep_their_place_and_errors_pass_through() -> None:
    images = np.stack([np.full((SIDE, SIDE, 3), shade, np.uint8) for shade in (0, 51, 255)])
    found = RowMaker(FINGERPRINT.rows, Measurer(), "night", "r1")(pixel_table(images, (0, 2)))
    found.validate(full=True)
    assert found["brightness"].to_pylist() == pytest.approx([None, 0.0, None, 0.2, 1.0])
    assert found["aspect"].to_pylist() == [None, pytest.approx(4 / 3), None] + 2 * [
        pytest.approx(4 / 3)
    ]
    assert found["precision"].to_pylist() == [None] * 5
    assert found["device"].to_pylist() == [None, "cpu", None, "cpu", "cpu"]
    none = RowMaker(FINGERPRINT.rows, Measurer(), "night", "r1")(pixel_table(images[:0], (0,)))
    assert none["phash"].to_pylist() == [None]


def test_its_line_for_people() -> None:
    images = np.stack([np.full((SIDE, SIDE, 3), shade, np.uint8) for shade in (0, 51, 255)])
    maker = RowMaker(FINGERPRINT.rows, Measurer(), "night", "r1")
    words = FINGERPRINT.summary(maker(pixel_table(images)))
    assert words == "median sharpness 0, brightness 0.2, colourfulness 0, aspect 1.33"
    assert FINGERPRINT.summary(maker(pixel_table(images[:0], (0,)))) == "none"


def test_options_of_a_model_are_refused() -> None:
    for name, value in (("model", "x"), ("top_k", 3), ("predictors", "2"), ("compile", True)):
        with pytest.raises(SpecError, match="fingerprint has no model; leave this option out"):
            FINGERPRINT.check(make_spec(src="a", dst="b", task="fingerprint", **{name: value}))
    FINGERPRINT.check(make_spec(src="a", dst="b", task="fingerprint", exif=False, decode="fast"))
    task_named("classify").check(make_spec(src="a", dst="b", model="x"))


def test_the_reference_shares_no_step_with_what_measures() -> None:
    path = Path(__file__).parents[2] / "pipeline" / "tasks" / "slow_measures.py"
    modules = {
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
    }
    ours = {module for module in modules if module and module.startswith("pipeline")}
    assert ours == {"pipeline.images.reference"}
