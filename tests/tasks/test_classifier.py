"""From PIXELS to rows of labels: every row comes out, in its place."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from transformers import AutoModelForImageClassification

from pipeline import schema
from pipeline.errors import ModelError
from pipeline.models.backends.torch_engine import TorchEngine
from pipeline.tasks.classifier import Classifier
from pipeline.tasks.rows import RowMaker, image_array
from tests.models import tiny
from tests.models.tables import pixel_table
from tests.store.stores import LABELLED, LABELS

SHAPE = (tiny.SIZE, tiny.SIZE, 3)


def load(folder: Path, **changes: Any) -> TorchEngine:
    settings = {"height": tiny.SIZE, "width": tiny.SIZE, **tiny.SCALE}
    settings |= {"precision": "fp32", "top_k": 3, "batch_size": 4}
    return TorchEngine.load(folder, **settings | changes)


@pytest.fixture(scope="module")
def engine(vit: Path) -> TorchEngine:
    return load(vit)


@pytest.fixture(scope="module")
def classify(engine: TorchEngine) -> RowMaker:
    return RowMaker(LABELS, Classifier(engine), run_id="night-1", recipe_id="r0123abcd")


def test_rows_keep_their_place_and_errors_pass_through(
    classify: RowMaker, engine: TorchEngine
) -> None:
    images = tiny.images(9)
    failed = (0, 4, 5, 11)
    before = datetime.now(UTC)
    pixels = pixel_table(images, failed)
    labelled = classify(pixels)
    assert labelled.schema == LABELLED
    labelled.validate(full=True)
    kept = [name for name in LABELLED.names if name in schema.PIXELS.names]
    assert labelled.select(kept).equals(pixels.select(kept))

    indices, scores = engine.predict(images)
    answers = iter(zip(indices, scores, strict=True))
    for number, row in enumerate(labelled.to_pylist()):
        assert (row["run_id"], row["recipe_id"]) == ("night-1", "r0123abcd")
        assert before <= row["labelled_at"] <= datetime.now(UTC)
        if number in failed:
            assert row["error_code"] == "truncated"
            unlabelled = ("label", "score", "top_k", "precision", "device")
            assert [row[name] for name in unlabelled] == [None] * 5
            continue
        classes, values = next(answers)
        top_k = [
            {"label": engine.labels[i], "score": value.item()}
            for i, value in zip(classes, values, strict=True)
        ]
        assert row["top_k"] == top_k
        assert {"label": row["label"], "score": row["score"]} == top_k[0]
        assert (row["precision"], row["device"]) == (engine.precision, engine.device)


@pytest.mark.parametrize("failed", [(), (0, 1, 2)], ids=["none", "only errors"])
def test_tables_without_images(classify: RowMaker, failed: tuple[int, ...]) -> None:
    labelled = classify(pixel_table(tiny.images(0), failed))
    assert labelled.schema == LABELLED
    assert labelled["error_code"].to_pylist() == ["truncated"] * len(failed)


def test_slices_and_chunks_give_the_same(classify: RowMaker) -> None:
    table = pixel_table(tiny.images(8), (0, 3, 9))
    whole = classify(table).drop_columns("labelled_at")
    parts = [table.slice(start, 4) for start in range(0, len(table), 4)]
    sliced = pa.concat_tables([classify(part) for part in parts]).drop_columns("labelled_at")
    chunked = classify(pa.concat_tables(parts)).drop_columns("labelled_at")
    exact = [name for name in whole.column_names if name not in {"score", "top_k"}]
    for other in (sliced, chunked):
        assert other.select(exact).equals(whole.select(exact))


def test_pixels_are_not_copied() -> None:
    images = tiny.images(6)
    column = pixel_table(images, (2,)).slice(1)["pixels"]
    found = image_array(column, SHAPE)
    np.testing.assert_array_equal(found, images[1:])
    data = column.chunk(0).buffers()[2]
    assert data.address <= found.ctypes.data < data.address + data.size


def test_null_rows_that_keep_their_bytes_are_left_out() -> None:
    images = tiny.images(3)
    whole = pa.array([image.tobytes() for image in images], pa.large_binary())
    _, offsets, data = whole.buffers()
    gap = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), 3, [pa.py_buffer(b"\x05"), offsets, data]
    )
    np.testing.assert_array_equal(image_array(pa.chunked_array([gap]), SHAPE), images[[0, 2]])


def test_a_wrong_size_is_a_mistake(classify: RowMaker) -> None:
    table = pixel_table(np.zeros((2, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match=r"pixels of \[768\] bytes, the model takes 3072"):
        classify(table)


def test_a_row_has_pixels_or_an_error(classify: RowMaker) -> None:
    table = pixel_table(tiny.images(2))
    at = table.schema.get_field_index("error_code")
    both = table.set_column(at, table.schema.field(at), pa.array(["crashed", None], pa.string()))
    with pytest.raises(ValueError, match="either pixels or an error_code"):
        classify(both)


def huge_where_bright(folder: Path) -> Path:
    """A model that leaves the range of fp16, not that of fp32, for a bright image alone."""
    import torch

    model = AutoModelForImageClassification.from_pretrained(tiny.save_vit(folder))
    with torch.no_grad():
        model.vit.embeddings.patch_embeddings.projection.weight.fill_(300.0)
        model.vit.embeddings.patch_embeddings.projection.bias.zero_()
    model.save_pretrained(folder)
    return folder


def test_what_overflows_in_half_precision_is_labelled_in_fp32(tmp_path: Path) -> None:
    folder = huge_where_bright(tmp_path)
    images = np.stack([np.full(SHAPE, value, np.uint8) for value in (118, 255, 120, 254)])
    table = pixel_table(images, (1,))
    half = RowMaker(LABELS, Classifier(load(folder, precision="fp16")), "run", "rid")(table)
    assert half["precision"].to_pylist() == ["fp16", None, "fp32", "fp16", "fp32"]
    exact = RowMaker(LABELS, Classifier(load(folder)), "run", "rid")(table)
    ours, theirs = (told_of(found.take([2, 4])) for found in (half, exact))
    assert [label for label, _ in ours] == [label for label, _ in theirs]
    # Two images and four are batches of other shapes, whose sums may be rounded otherwise.
    np.testing.assert_allclose([s for _, s in ours], [s for _, s in theirs], rtol=0, atol=1e-6)


def told_of(rows: pa.Table) -> list[tuple[str, float]]:
    """The labels and scores of all rows, the best first in each."""
    return [(one["label"], one["score"]) for best in rows["top_k"].to_pylist() for one in best]


def test_broken_weights_stop_the_run(tmp_path: Path) -> None:
    model = AutoModelForImageClassification.from_pretrained(tiny.save_vit(tmp_path))
    model.classifier.bias.data[3] = float("nan")
    model.save_pretrained(tmp_path)
    classify = RowMaker(LABELS, Classifier(load(tmp_path)), "run", "rid")
    with pytest.raises(ModelError, match="not finite, in fp32 as well"):
        classify(pixel_table(tiny.images(2)))
