"""What the benchmarks label: made from real photographs and fixed seeds, then kept.

JPEGs of 500×375 and of 12 megapixels, PNG and WebP, all of them random crops of desktop
backgrounds and ImageNet photographs (tests/parts/archives/real_archives.py fetches those), a ViT
of the size of ViT-Ti and a model of next to nothing, both with seeded weights.
"""

import json
import os
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from PIL import Image

from tests.parts.archives.real_archives import backgrounds, once, photos
from tests.parts.images.forge import encode
from tests.parts.images.synthetic_photos import landscape

SEED = 0
SOURCE_FORMATS = ("JPEG", "PNG", "WEBP")
SMALL, LARGE = (500, 375), (4000, 3000)
QUALITY = 90
CLASSES = 1000
#: The small JPEGs that differ; more names are links to these.
DISTINCT = 8_000

PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 224, "width": 224},
    "resample": Image.Resampling.BILINEAR,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "do_convert_rgb": True,
}
VIT_TINY = {
    "hidden_size": 192,
    "num_hidden_layers": 12,
    "num_attention_heads": 3,
    "intermediate_size": 768,
    "initializer_range": 0.08,  # so that labels differ from image to image
}
#: The rest is what transformers takes for granted.
VIT_BASE = {"initializer_range": 0.08}
#: One projection of the whole image: far less work than decoding it.
NO_OP = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 16,
    "patch_size": 224,
}


def small_jpegs(count: int) -> Path:
    """A folder of `count` JPEGs of 500×375, some 45 KB each."""
    return _made(f"jpeg-{count}", lambda out: _crops(out, count, SMALL, "jpg", quality=QUALITY))


def large_jpegs(count: int) -> Path:
    """A folder of `count` JPEGs of 4000×3000."""
    return _made(f"large-{count}", lambda out: _crops(out, count, LARGE, "jpg", quality=QUALITY))


def mixed(count: int) -> Path:
    """A folder of `count` images of 500×375, PNG and WebP by turns."""

    def make(out: Path) -> None:
        _crops(out, count // 2, SMALL, "png", compress_level=6)
        _crops(out, count - count // 2, SMALL, "webp", quality=QUALITY)

    return _made(f"mixed-{count}", make)


def synthetic_jpegs(count: int) -> Path:
    """A folder of `count` JPEGs of 500×375 that nobody took, some 40 KB each: needs no network."""

    def make(out: Path) -> None:
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            for number, data in enumerate(pool.map(_synthetic, range(count), chunksize=16)):
                (out / f"{number:06}.jpg").write_bytes(data)

    return _made(f"synthetic-{count}", make)


def many_names(count: int, distinct: int) -> Path:
    """`count` names of `distinct` small JPEGs, as hard links."""
    return names_of(small_jpegs(distinct), count, f"names-{count}-{distinct}")


def names_of(folder: Path, count: int, name: str = "") -> Path:
    """`count` names of the files in `folder`, as hard links; the first are of one file each."""
    files = sorted(folder.iterdir())

    def make(out: Path) -> None:
        for number in range(count):
            os.link(files[number % len(files)], out / f"{number:07}.jpg")

    return _made(name or f"{folder.name}-names-{count}", make)


def made_up_uri(number: int) -> str:
    """The name of an object that is nowhere, of a usual length."""
    return f"s3://a-bucket/an/archive/of/photos/{number:012}.jpg"


def vit_tiny() -> Path:
    """The folder of a ViT-Ti/16 of 1,000 classes, with random weights."""
    return _made("vit-tiny", lambda out: _model(out, VIT_TINY))


def vit_base() -> Path:
    """The folder of a ViT-B/16 of 1,000 classes, with random weights."""
    return _made("vit-base", lambda out: _model(out, VIT_BASE))


def resnet_50() -> Path:
    """The folder of a ResNet-50 of 1,000 classes, with random weights."""
    return _made("resnet-50", lambda out: _model(out, {}, kind="ResNet"))


def no_op() -> Path:
    """The folder of a model of next to nothing."""
    return _made("no-op", lambda out: _model(out, NO_OP))


def _made(name: str, make: Callable[[Path], None]) -> Path:
    def whole(new: Path) -> None:
        new.mkdir()
        make(new)

    return once(f"bench-{name}", whole)


@cache
def _sources() -> list[Path]:
    names = [*backgrounds().rglob("*"), *photos().rglob("*")]
    return sorted(path for path in names if path.suffix in {".jpg", ".png", ".webp"})


def _crops(out: Path, count: int, size: tuple[int, int], suffix: str, **options: Any) -> None:
    """Photograph by photograph, so that each is decoded once."""
    sources = _sources()
    for number, path in enumerate(sources):
        image = Image.open(path, formats=SOURCE_FORMATS).convert("RGB")
        for index in range(number, count, len(sources)):
            chance = random.Random(f"{SEED} {suffix} {index}")
            crop = _crop(image, size, chance).resize(size, Image.Resampling.LANCZOS)
            crop.save(out / f"{index:06}.{suffix}", **options)


def _crop(image: Image.Image, size: tuple[int, int], chance: random.Random) -> Image.Image:
    """A window of the shape of `size`, as large as it fits or down to half of that."""
    fit = min(image.width / size[0], image.height / size[1]) * chance.uniform(0.5, 1.0)
    width, height = int(size[0] * fit), int(size[1] * fit)
    left = chance.randint(0, image.width - width)
    top = chance.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def _synthetic(seed: int) -> bytes:
    chance = random.Random(seed)
    colour = Image.new("RGB", SMALL, tuple(chance.randrange(256) for _ in range(3)))
    tinted = Image.blend(landscape(*SMALL, seed), colour, chance.uniform(0.1, 0.6))
    return encode(tinted, "JPEG", quality=QUALITY)


def _model(out: Path, network: dict[str, Any], kind: str = "ViT") -> None:
    import torch
    import transformers

    torch.manual_seed(SEED)
    names = {index: f"class-{index}" for index in range(CLASSES)}
    make_config = getattr(transformers, f"{kind}Config")
    config = make_config(id2label=names, label2id={v: k for k, v in names.items()}, **network)
    getattr(transformers, f"{kind}ForImageClassification")(config).save_pretrained(out)
    (out / "preprocessor_config.json").write_text(json.dumps(PROCESSOR, indent=2))
