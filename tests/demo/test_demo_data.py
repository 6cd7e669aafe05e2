"""The demo's archive and model are complete, load offline, and are as good as the card says."""

import re
from collections import Counter

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification
from transformers.image_utils import load_image

from pipeline import demo

CUT_SHORT = "awkward/cut-short.jpg"


@pytest.fixture(scope="module")
def loaded():
    return AutoModelForImageClassification.from_pretrained(
        demo.model(), dtype=torch.float32, local_files_only=True, output_loading_info=True
    )


@pytest.fixture(scope="module")
def predictions(loaded) -> dict[str, str]:
    """Path → label, by transformers alone: its PIL processor, its model, the shipped files."""
    model, _ = loaded
    processor = AutoImageProcessor.from_pretrained(
        demo.model(), backend="pil", local_files_only=True
    )
    paths = list(demo.known_labels())
    photos = [load_image(str(demo.images() / path)) for path in paths]
    with torch.inference_mode():
        classes = model(**processor(photos, return_tensors="pt")).logits.argmax(1).tolist()
    return {path: model.config.id2label[c] for path, c in zip(paths, classes, strict=True)}


def test_labels_name_exactly_the_files_of_the_archive():
    files = {p.relative_to(demo.images()).as_posix() for p in demo.images().rglob("*.*")}
    assert files == {*demo.known_labels(), CUT_SHORT}


def test_the_archive_holds_every_class_equally_often_but_for_the_awkward_files(loaded):
    model, _ = loaded
    plain = {k: v for k, v in demo.known_labels().items() if not k.startswith("awkward/")}
    counts = Counter(plain.values())
    assert set(counts) == set(model.config.id2label.values())
    assert len(set(counts.values())) == 1
    assert counts.total() >= 200


def test_the_model_loads_without_a_missing_key(loaded):
    model, info = loaded
    assert {key: list(names) for key, names in info.items() if names} == {}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (demo.model() / "model.safetensors").stat().st_size < 8 * 2**20


def test_accuracy_is_what_the_card_says(predictions):
    card = (demo.demo_folder() / "MODEL_CARD.md").read_text(encoding="utf-8")
    said, right, total = re.search(
        r"archive as shipped: \*\*(0\.\d+)\*\* \((\d+) of (\d+)\)", card
    ).groups()
    truth = demo.known_labels()
    accuracy = sum(predictions[path] == truth[path] for path in truth) / len(truth)
    assert int(total) == len(truth)
    assert float(said) == pytest.approx(int(right) / int(total), abs=5e-5)
    assert accuracy == pytest.approx(float(said), abs=0.01)


def test_the_awkward_files_are_awkward():
    folder = demo.images() / "awkward"
    with Image.open(folder / "png-inside.jpg") as image:
        assert image.format == "PNG"
    with Image.open(folder / "sideways.jpg") as image:
        assert image.getexif()[0x0112] == 6
    with Image.open(folder / "cut-short.jpg") as image, pytest.raises(OSError, match="truncated"):
        image.load()


def test_the_sideways_boot_is_right_only_when_it_is_turned_upright(predictions, loaded):
    model, _ = loaded
    processor = AutoImageProcessor.from_pretrained(demo.model(), backend="pil")
    with Image.open(demo.images() / "awkward/sideways.jpg") as image:
        as_stored = processor(image.convert("RGB"), return_tensors="pt")
    with torch.inference_mode():
        wrong = model.config.id2label[model(**as_stored).logits.argmax().item()]
    assert predictions["awkward/sideways.jpg"] == "Ankle boot"
    assert wrong != "Ankle boot"


def test_the_licence_of_the_images_ships_with_them():
    notice = (demo.demo_folder() / "LICENSE-images.txt").read_text(encoding="utf-8")
    assert "Copyright (c) 2017 Zalando SE" in notice
    assert "Permission is hereby granted" in notice
