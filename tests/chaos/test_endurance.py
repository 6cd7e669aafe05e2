"""A long night leaves driver and workers as large as they were early in it.

    NIGHTLABEL_ENDURANCE=20000 python -m pytest -m chaos -s tests/chaos/test_endurance.py

takes another number of small images.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from pipeline.isolation.limits import BYTES_A_PIXEL
from tests.chaos.scores import Scores
from tests.parts.images.synthetic_photos import LARGEST_PHOTOGRAPH, photographs
from tests.parts.models.tiny import image_bytes, make_model
from tests.parts.processes.watch import HEADER, Held
from tests.parts.runs.nights import fill, night

pytestmark = [pytest.mark.chaos, pytest.mark.ray]

SMALL_IMAGES = int(os.environ.get("NIGHTLABEL_ENDURANCE", 600_000))
LARGE_IMAGES = 3000
#: A process with its imports, torch among them, and the bytes that it has read and not yet decoded.
PREDICTOR_BYTES = 2**30
#: Of the run, before the steady part. A worker holds the bytes of up to 32 photographs, of 0.3 to
#: 79 MB each, and its heap finds its size only after hundreds of them.
WARM = 0.5
#: Of private memory, from the first third of the steady part to its last.
GROWTH = 0.10


def told(title: str, summary: dict[str, Any], held: dict[str, Held]) -> None:
    seconds = summary["seconds"]
    rate = summary["counts"]["labelled"] / (seconds["label"] - seconds["start"])
    print(f"\n{title}: {seconds['all']:.0f} s, {rate:.0f} a second\n{HEADER}")
    for one in held.values():
        print(one)


@pytest.mark.parametrize(
    ("names", "make", "pixels"),
    [
        pytest.param(
            SMALL_IMAGES,
            lambda: {f"{seed}.jpg": image_bytes(seed) for seed in range(1000)},
            0,
            id="small",
        ),
        pytest.param(LARGE_IMAGES, photographs, LARGEST_PHOTOGRAPH, id="large"),
    ],
)
def test_nothing_grows_through_the_night(
    names: int, make: Callable[[], dict[str, bytes]], pixels: int, tmp_path: Path, scores: Scores
) -> None:
    fill(tmp_path / "photos", names, make())
    model = make_model(tmp_path / "model", layers=1, width=8)
    summary, watched = night(tmp_path, model)
    seconds = summary["seconds"]
    steady = seconds["start"] + WARM * (seconds["label"] - seconds["start"])
    held = watched.held(steady, seconds["label"])
    assert {"driver", "predictor", "task worker"} <= set(held), "too few images for a steady part"
    told(f"{names:,} images", summary, held)
    assert summary["counts"]["labelled"] == names
    uris = DeltaTable(tmp_path / "labels").to_pyarrow_table(columns=["uri"])["uri"]
    assert len(uris.unique()) == len(uris) == names
    scores.count("images in long nights", names)
    # Thirty-two are read at once, of two batches; what one takes to decode does not add up.
    assert held["predictor"].peak_rss < PREDICTOR_BYTES + BYTES_A_PIXEL * pixels
    for role in ("driver", "predictor", "task worker"):
        assert held[role].growth < GROWTH, role
        assert held[role].more_files < GROWTH, role
        assert held[role].more_threads < GROWTH, role
