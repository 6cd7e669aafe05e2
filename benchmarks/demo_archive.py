"""The data of the demo: reads Fashion-MNIST, and writes the sample archive from its test split."""

import csv
import gzip
import io
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image

SEED = 20170828
LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FILES = {
    "train-images-idx3": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
SIDE = 28
SHIPPED_PER_CLASS = 50
#: Root mean square difference, in grey levels, under which two photographs count as one.
NEAR_DUPLICATE = 8.0


@dataclass(frozen=True)
class Split:
    """Images, uint8 (n, 28, 28), and their classes, int64 (n,)."""

    images: torch.Tensor
    classes: torch.Tensor

    def __getitem__(self, rows: slice | torch.Tensor) -> "Split":
        return Split(self.images[rows], self.classes[rows])

    def __len__(self) -> int:
        return len(self.classes)


def read_split(folder: Path, name: str) -> Split:
    """One split of the data set, from its two IDX files, whose checksums must be the known ones."""
    images = np.frombuffer(read_checked(folder, f"{name}-images-idx3"), np.uint8, -1, 16)
    classes = np.frombuffer(read_checked(folder, f"{name}-labels-idx1"), np.uint8, -1, 8)
    return Split(
        torch.from_numpy(images.reshape(-1, SIDE, SIDE).copy()),
        torch.from_numpy(classes.astype(np.int64)),
    )


def read_checked(folder: Path, name: str) -> bytes:
    path = folder / f"{name}-ubyte.gz"
    data = path.read_bytes()
    if sha256(data).hexdigest() != FILES[name]:
        raise SystemExit(f"{path} is not the file this model was trained on")
    return gzip.decompress(data)


def without_near_duplicates(train: Split, test: Split) -> Split:
    """`train` less every image that is all but equal to one of `test`."""
    known, held_out = (s.images.flatten(1).float() for s in (train, test))
    limit = NEAR_DUPLICATE * SIDE  # of an RMS over SIDE² pixels, as a Euclidean distance
    closest = torch.cat([torch.cdist(rows, held_out).amin(1) for rows in known.split(2_000)])
    return train[closest > limit]


def build_archive(test: Split, out: Path) -> None:
    """Writes a stratified draw of the test images, and three awkward ones, and labels.csv."""
    shutil.rmtree(out / "images", ignore_errors=True)
    rows = [("path", "label", "note")]
    for path, label, note, content in archive_files(test):
        target = out / "images" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        rows.append((path, label, note))
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines, lineterminator="\n").writerows(rows)


def archive_files(test: Split) -> Iterator[tuple[str, str, str, bytes]]:
    """(path, label, note, content) of each file of the archive."""
    draw = np.random.default_rng(SEED)
    for number, label in enumerate(LABELS):
        of_class = np.flatnonzero(test.classes.numpy() == number)
        *plain, spare = draw.choice(of_class, SHIPPED_PER_CLASS + 1, replace=False)
        folder = re.sub("[^a-z]+", "-", label.lower())
        for index in sorted(plain):
            yield f"{folder}/{index:05d}.png", label, "", encoded(photo(test, index), "PNG")
        if label in AWKWARD:
            name, note, make = AWKWARD[label]
            known = "" if make is cut_short else label
            yield f"awkward/{name}", known, note, make(photo(test, spare))


def photo(split: Split, index: int) -> Image.Image:
    return Image.fromarray(split.images[index].numpy())


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def sideways(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)


def png_inside(image: Image.Image) -> bytes:
    return encoded(image, "PNG")


def cut_short(image: Image.Image) -> bytes:
    whole = encoded(image, "JPEG", quality=95)
    scan = whole.index(b"\xff\xda")
    return whole[: (scan + len(whole)) // 2]


#: One further test image of each of these classes: file name, note, and how it is stored.
AWKWARD: dict[str, tuple[str, str, Callable[[Image.Image], bytes]]] = {
    "Coat": ("cut-short.jpg", "a JPEG of a coat that ends in the middle", cut_short),
    "Bag": ("png-inside.jpg", "a PNG, whatever its name says", png_inside),
    "Ankle boot": ("sideways.jpg", "a JPEG on its side; EXIF orientation 6 rights it", sideways),
}
