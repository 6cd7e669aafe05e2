"""`fingerprint`: a perceptual hash and a few measures of each image, without a model.

For near-duplicates (`phash`) and for images that are blurred, dark, pale or of an odd shape. It
uses NumPy alone: no process of the run imports torch or transformers.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL.Image import Resampling

from pipeline.images import Preprocess, Room
from pipeline.spec import LabelSpec
from pipeline.tasks.base import Difference, Prepared, Setting, Task, Worker
from pipeline.tasks.measures import SIDE, measure
from pipeline.tasks.recipe import Recipe
from pipeline.tasks.rows import Answers, RowMaker
from pipeline.words import Words

#: Change this with every change of a formula, of SIDE or of the steps before them.
ALGORITHM: Final = "dct64-256-v1"

SHAPE: Final = Preprocess(
    height=SIDE,
    width=SIDE,
    box=(SIDE, SIDE),
    resample=Resampling.BILINEAR,
    rescale=1.0,
    mean=(0.0,),
    std=(1.0,),
    processor=ALGORITHM,
    on_white=False,
)

_MEASURES: Final = ("sharpness", "brightness", "colourfulness", "aspect")

#: How far a row may differ from the reference: bits of the hash; for the others a share of the
#: measure, and at least this much.
NEAR_BITS: Final = 4
NEAR: Final = {
    "sharpness": (1e-3, 0.01),
    "brightness": (0.0, 1e-4),
    "colourfulness": (1e-3, 0.01),
    "aspect": (1e-6, 0.0),
}
#: With --decode fast, whose pixels are a few 1/255 from the reference's (docs/parity.md).
NEAR_BITS_FAST: Final = 10
NEAR_FAST: Final = {
    "sharpness": (0.3, 5.0),
    "brightness": (0.0, 0.01),
    "colourfulness": (0.05, 1.0),
    "aspect": (1e-6, 0.0),
}


class FingerprintRecipe(Recipe):
    """What decides the measures: the algorithm, by its name, and how an image is decoded."""

    task: Literal["fingerprint"] = "fingerprint"
    algorithm: str
    preprocessing: dict[str, int]
    exif: bool
    decode: str

    @property
    def made_by(self) -> str:
        return self.algorithm


class MeasureDifference(Difference):
    """One image with a stored measure that differs from the reference. `bits` of its
    hash differ."""

    measure: str
    stored: float | None
    reference: float
    bits: int

    def words(self) -> str:
        if self.measure == "phash":
            return f"{self.uri}: {self.bits} bits of its phash are not the reference's"
        stored = "null" if self.stored is None else f"{self.stored:g}"
        return f"{self.uri}: its {self.measure} is {stored}, the reference's {self.reference:g}"


class Measurer:
    """Images of SIDE × SIDE pixels → the columns of `fingerprint`."""

    device = "cpu"
    image_shape = (SIDE, SIDE, 3)

    def __call__(self, images: NDArray[np.uint8], seen: pa.Table) -> Answers:
        found = list(map(measure, images))
        hashes, sharp, bright, colour = zip(*found, strict=True) if found else ((), (), (), ())
        aspect = pc.divide(seen["width"].cast(pa.float64()), seen["height"].cast(pa.float64()))
        columns = {
            "phash": pa.array(hashes, pa.int64()),
            "sharpness": pa.array(sharp, pa.float32()),
            "brightness": pa.array(bright, pa.float32()),
            "colourfulness": pa.array(colour, pa.float32()),
            "aspect": aspect.cast(pa.float32()).combine_chunks(),
        }
        return Answers(columns, pa.nulls(len(images), pa.string()))


class Fingerprint(Task):
    """A perceptual hash, sharpness, brightness, colourfulness and aspect: see `measures`."""

    name = "fingerprint"
    kind = "measures"
    columns = (
        pa.field("phash", pa.int64()),
        *(pa.field(measure, pa.float32()) for measure in _MEASURES),
    )
    words: ClassVar[Words] = Words("fingerprint", "fingerprinted", "measures")
    network = False
    recipe = FingerprintRecipe

    def prepare(self, spec: LabelSpec) -> Prepared:
        shape = {"height": SIDE, "width": SIDE, "resample": int(SHAPE.resample)}
        recipe = FingerprintRecipe(
            format=1, algorithm=ALGORITHM, preprocessing=shape, exif=spec.exif, decode=spec.decode
        )
        return Prepared(model=None, revision=None, weights=0, preprocess=SHAPE, recipe=recipe)

    def load(self, setting: Setting) -> Worker:
        return RowMaker(self.rows, Measurer(), setting.run_id, setting.recipe.id)

    def reference(
        self, spec: LabelSpec, recipe: Recipe, room: Room | None = None
    ) -> Callable[[bytes], Any]:
        from pipeline.tasks.slow_measures import slow_measures

        exif = _ours(recipe).exif
        return partial(slow_measures, exif=exif, max_pixels=spec.max_pixels, room=room)

    def agree(self, stored: Mapping[str, Any], reference: Any, recipe: Recipe) -> Difference | None:
        """The hash within a few bits, each measure within a small share of its value."""
        fast = _ours(recipe).decode == "fast"
        bits = distance(stored["phash"], reference.phash)
        if bits > (NEAR_BITS_FAST if fast else NEAR_BITS):
            return _difference(stored, reference, "phash", bits)
        for name, (share, least) in (NEAR_FAST if fast else NEAR).items():
            value, due = stored[name], getattr(reference, name)
            if value is None or not abs(value - due) <= max(share * abs(due), least):
                return _difference(stored, reference, name, bits)
        return None

    def summary(self, rows: pa.Table) -> str:
        """The median of each measure."""
        if not rows.num_rows - rows["aspect"].null_count:
            return "none"
        medians = {name: pc.quantile(rows[name])[0].as_py() for name in _MEASURES}
        return "median " + ", ".join(f"{name} {value:.3g}" for name, value in medians.items())


def distance(one: int | None, other: int | None) -> int:
    """How many of 64 bits differ; all of them if a hash is null."""
    if one is None or other is None:
        return 64
    return ((one ^ other) & (2**64 - 1)).bit_count()


def _difference(
    stored: Mapping[str, Any], reference: Any, measure: str, bits: int
) -> MeasureDifference:
    return MeasureDifference(
        uri=stored["uri"],
        measure=measure,
        stored=stored[measure],
        reference=getattr(reference, measure),
        bits=bits,
    )


def _ours(recipe: Recipe) -> FingerprintRecipe:
    if not isinstance(recipe, FingerprintRecipe):
        raise TypeError(f"{recipe.id} is no recipe of fingerprint")
    return recipe
