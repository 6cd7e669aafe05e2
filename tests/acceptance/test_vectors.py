"""Vectors of real images by a real DINOv2 ViT-S/14, killed three times, held against transformers.

2,500 images take a quarter of an hour on two cores; NIGHTLABEL_IMAGES takes fewer.
"""

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.store.reader import LabelStore
from tests.integration.conftest import command, nightlabel
from tests.parts.archives.real_archives import need, textiles, tuxpaint_stamps
from tests.parts.models.dinov2 import backbone, checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]

IMAGES = int(os.environ.get("NIGHTLABEL_IMAGES", "2500"))
DIM = 384
COSINE = 0.99999
BATCH = 8


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many drawings as textiles, while there are any."""
    folder = tmp_path_factory.mktemp("photos")
    stamps = sorted(need(tuxpaint_stamps).rglob("*.png"))[: IMAGES // 2]
    others = sorted(need(textiles).rglob("*.jpg"))[: IMAGES - len(stamps)]
    for number, path in enumerate([*stamps, *others]):
        shutil.copy(path, folder / f"{number:05}{path.suffix}")
    assert len(list(folder.iterdir())) == IMAGES
    return folder


@pytest.fixture(scope="module")
def truth(photos: Path) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """By name, the class token and the mean of patches, by transformers alone."""
    import torch
    from transformers import AutoImageProcessor, AutoModel
    from transformers.image_utils import load_image

    folder = need(backbone)
    model = AutoModel.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    names = sorted(path.name for path in photos.iterdir())
    found = {}
    for start in range(0, len(names), BATCH):
        some = names[start : start + BATCH]
        images = [load_image(str(photos / name)) for name in some]
        with torch.inference_mode():
            hidden = model(**processor(images, return_tensors="pt")).last_hidden_state
        pairs = zip(some, hidden[:, 0].numpy(), hidden[:, 1:].mean(1).numpy(), strict=True)
        found |= {name: (cls, mean) for name, cls, mean in pairs}
    return found


def vectors(dst: Path) -> dict[str, NDArray[np.float32]]:
    rows = LabelStore(str(dst)).to_table(["uri", "embedding"]).to_pylist()
    assert max(Counter(row["uri"] for row in rows).values()) == 1
    assert len({len(row["embedding"]) for row in rows}) == 1
    return {Path(row["uri"]).name: np.array(row["embedding"], np.float32) for row in rows}


def killed(job: list[object], dst: Path, rows: int) -> int:
    """Start a run, kill it once there are so many rows; how many there are then."""
    process = subprocess.Popen(command(*job), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while _count(dst) < rows:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return _count(dst)


def _count(dst: Path) -> int:
    if not any(dst.glob("_delta_log/*.json")):
        return 0
    return sum(file.num_rows for file in LabelStore(str(dst)).live())


def assert_equal(ours: dict[str, NDArray[np.float32]], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    one, other = (np.stack([found[name] for name in sorted(theirs)]) for found in (ours, theirs))
    lengths = np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1)
    cosines = (one * other).sum(axis=1) / lengths[0] / lengths[1]
    off = np.abs(lengths[0] / lengths[1] - 1).max()
    print(f"{len(one)} vectors, cosine {cosines.min():.7f} at least, lengths {off:.2e} off at most")
    assert cosines.min() >= COSINE
    assert off < 1e-3


def test_class_tokens_after_three_kills(photos: Path, truth: Any, tmp_path: Path) -> None:
    dst = tmp_path / "vectors"
    job: list[object] = ["embed", photos, dst, "--model", need(backbone), "--commit-seconds", 0.5]
    after = 0
    for _ in range(3):
        after = killed(job, dst, after + IMAGES // 10)
        assert len(vectors(dst)) == after
        print("rows after a kill:", after)
    last = nightlabel(*job, "--json")
    assert last.code == 0, last.err
    assert last.json["counts"]["done"] >= after
    assert last.json["counts"]["done"] + last.json["counts"]["labelled"] == IMAGES
    assert_equal(vectors(dst), {name: cls for name, (cls, _) in truth.items()})
    proof = nightlabel("verify", photos, dst, "--json")
    assert proof.code == 0, proof.out


def test_means_of_patches(photos: Path, truth: Any, tmp_path: Path) -> None:
    dst = tmp_path / "vectors"
    ran = nightlabel("embed", photos, dst, "--model", need(backbone), "--pooling", "mean", "--json")
    assert (ran.code, ran.json["counts"]["labelled"]) == (0, IMAGES), ran.err
    assert_equal(vectors(dst), {name: mean for name, (_, mean) in truth.items()})


def test_labels_with_vectors_are_the_labels(photos: Path, truth: Any, tmp_path: Path) -> None:
    def head() -> Path:
        return checkpoint("dinov2")

    few, job = tmp_path / "few", ["--model", need(head), "--json"]
    few.mkdir()
    for path in sorted(photos.iterdir())[:: max(1, IMAGES // 200)]:
        shutil.copy(path, few / path.name)
    found = {}
    for name, options in {"plain": [], "both": ["--embed", "cls"]}.items():
        dst = tmp_path / name
        ran = nightlabel("label", few, dst, *job, *options)
        assert ran.code == 0, ran.err
        rows = LabelStore(str(dst)).to_table(["uri", "label"]).to_pylist()
        found[name] = {row["uri"]: row["label"] for row in rows}
    assert found["both"] == found["plain"]
    ours = vectors(tmp_path / "both")
    assert_equal(ours, {name: truth[name][0] for name in ours})
