"""Demo data: the sample archive and the small ViT of `nightlabel demo`; see MODEL_CARD.md."""

import csv
from importlib.resources import files
from pathlib import Path


def demo_folder() -> Path:
    """The folder that holds the archive, the model, the labels and the model card."""
    return Path(str(files(__name__)))


def images() -> Path:
    """The sample archive: small photographs of clothes, none of them used in training."""
    return demo_folder() / "images"


def model() -> Path:
    """A Hugging Face checkpoint folder of a small ViT trained on photographs like these."""
    return demo_folder() / "model"


def known_labels() -> dict[str, str]:
    """The true label of each image, by its path relative to `images()`, with `/` between folders.

    An image that cannot be decoded has no right label and is left out.
    """
    with (demo_folder() / "labels.csv").open(newline="", encoding="utf-8") as lines:
        return {row["path"]: row["label"] for row in csv.DictReader(lines) if row["label"]}
