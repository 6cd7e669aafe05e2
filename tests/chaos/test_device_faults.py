"""Nights whose devices fail: a fault costs a row, a smaller batch or a fresh predictor.

The devices are GPUs that only Ray knows of; their faults are PyTorch's own errors, raised in
predictors where a CUDA device raises them.
"""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from deltalake import DeltaTable
from PIL import Image

from pipeline.engine.placement import GPU_IN_FLIGHT
from pipeline.graph.stages.predict import CALLS
from tests.chaos.scores import Scores
from tests.integration.conftest import Ran, nightlabel
from tests.parts.clusters.cluster import logical_gpus
from tests.parts.models.device_faults import Fault, Faults
from tests.parts.models.tiny import image_bytes, make_model

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.torch]

#: Images of the first folder, which is a block; and of each other one, which is a block as well.
FIRST, EACH = 1000, 50
FOLDERS: Final = [f"c{number:02}" for number in range(20)]
NAMES: Final = [f"c00/{number:05}.jpg" for number in range(FIRST)] + [
    f"{folder}/{number:05}.jpg" for folder in FOLDERS[1:] for number in range(EACH)
]
#: Images that are all grey, and their shades.
GREY: Final = {"c03/00011.jpg": 60, "c08/00042.jpg": 120, "c15/00000.jpg": 180}
#: No night takes so long, on two cores that have other work, too: a device that fails at each
#: block ends a predictor for each block in flight, and a dozen children after them.
SECONDS: Final = 480.0

Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class House:
    """An archive, a model, two devices, and the rows of a night in which nothing failed."""

    photos: Path
    model: Path
    address: str
    faults: Faults
    truth: Rows


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("devices")
    photos, model = root / "photos", make_model(root / "model")
    for folder in FOLDERS:
        (photos / folder).mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        (photos / name).write_bytes(grey(GREY[name]) if name in GREY else image_bytes(seed))
    faults = Faults(root / "faults")
    with logical_gpus(2, faults.environment) as address:
        house = House(photos, model, address, faults, {})
        night = Night(house, root / "labels")
        assert night.label().code == 0
        yield House(photos, model, address, faults, night.rows())


def grey(shade: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (40, 40), (shade,) * 3).save(sink, "png")
    return sink.getvalue()


@dataclass(frozen=True)
class Night:
    house: House
    labels: Path

    def label(self, *faults: Fault, predictors: int = 2) -> Ran:
        self.house.faults.set(*faults)
        began = time.monotonic()
        options = ["--address", self.house.address, "--predictors", predictors]
        ran = nightlabel(
            "label",
            *[self.house.photos, self.labels, "--model", self.house.model, "--json", *options],
            seconds=SECONDS,
        )
        met = [self.house.faults.met(number) for number, _ in enumerate(faults)]
        print(f"\nexit {ran.code} after {time.monotonic() - began:.0f} s, met {met}: {ran.err}")
        return ran

    def rows(self) -> Rows:
        columns = ["uri", "label", "score", "error_code", "error_message"]
        if not (self.labels / "_delta_log").exists():
            return {}
        rows = DeltaTable(self.labels).to_pyarrow_table(columns=columns).to_pylist()
        names = [row.pop("uri").removeprefix(f"{self.house.photos.as_uri()}/") for row in rows]
        assert len(set(names)) == len(names)
        return dict(zip(names, rows, strict=True))

    def check(self, ran: Ran, crashed: tuple[str, ...] = ()) -> None:
        """The night ended well, with one row for each image: a true one, or a crash."""
        assert ran.code == 0, ran.err
        rows = self.rows()
        assert {name for name, row in rows.items() if row["error_code"]} == set(crashed)
        assert {rows[name]["error_code"] for name in crashed} <= {"crashed"}
        assert rows.keys() == self.house.truth.keys()
        self.check_labels({name: row for name, row in rows.items() if name not in crashed})

    def check_labels(self, rows: Rows) -> None:
        wrong = [
            name
            for name, row in rows.items()
            if row["label"] != self.house.truth[name]["label"]
            or abs(row["score"] - self.house.truth[name]["score"]) > 1e-5
        ]
        assert wrong == []

    def check_failed(self, ran: Ran, *words: str) -> None:
        """It ended with exit 1 and said why; its rows are true, and the next night has the rest."""
        assert ran.code == 1, ran.err
        assert all(word in ran.err.splitlines()[-1] for word in words), ran.err
        assert "Traceback" not in ran.err
        before = self.rows()
        self.check_labels(before)
        self.check(self.label())


@pytest.fixture
def night(house: House, tmp_path: Path, scores: Scores) -> Iterator[Night]:
    found = Night(house, tmp_path / "labels")
    yield found
    scores.count("nights with a device's fault")


@pytest.mark.parametrize(
    ("error", "point"),
    [
        ("busy", "load"),
        ("no device", "load"),
        ("ecc", "proof"),
        ("launch failure", "copy"),
        ("cublas", "forward"),
        ("cudnn", "forward"),
        ("illegal access", "gather"),
        ("triton", "gather"),
    ],
)
def test_a_fault_that_passes_costs_a_fresh_predictor(night: Night, error: str, point: str) -> None:
    later = 0 if point in ("load", "proof") else 5
    ran = night.label(Fault(error, point, times=1, after=later), predictors=1)
    assert night.house.faults.met() > 1 + later
    night.check(ran)


def test_an_image_that_loses_the_device_costs_its_row(night: Night) -> None:
    points = zip(("copy", "forward", "gather"), GREY.values(), strict=True)
    faults = [Fault("illegal access", point, image=shade) for point, shade in points]
    night.check(night.label(*faults, predictors=1), crashed=tuple(GREY))
    assert {row["error_message"] for name, row in night.rows().items() if name in GREY} == {
        f"predicting this image lost its device (cpu: {faults[0].words})"
    }


@pytest.mark.parametrize(
    ("error", "point"),
    [
        ("no memory", "copy"),
        ("no memory", "forward"),
        ("no memory of cuda", "gather"),
        ("no memory of cublas", "forward"),
    ],
)
def test_too_little_memory_halves_the_batch(night: Night, error: str, point: str) -> None:
    ran = night.label(Fault(error, point, rows=5))
    # Twice at each of two devices, and each time by all calls that had queued their batches.
    assert 2 <= night.house.faults.met() <= 2 * 2 * CALLS
    night.check(ran)


@pytest.mark.parametrize(("error", "point"), [("ecc", "load"), ("illegal access", "proof")])
def test_a_device_that_is_bad_from_the_start_ends_no_night(
    night: Night, error: str, point: str
) -> None:
    night.check(night.label(Fault(error, point, device=1)))
    assert night.house.faults.met()


@pytest.mark.parametrize("point", ["load", "proof"])
def test_a_device_without_memory_from_the_start_ends_no_night(night: Night, point: str) -> None:
    night.check(night.label(Fault("no memory", point, device=1)))


@pytest.mark.parametrize(
    ("error", "point"), [("ecc", "load"), ("illegal access", "proof"), ("no memory", "load")]
)
def test_where_all_devices_are_bad_the_night_says_so(night: Night, error: str, point: str) -> None:
    fault = Fault(error, point)
    ran = night.label(fault)
    assert night.rows() == {}
    night.check_failed(ran, fault.words)


@pytest.mark.parametrize(("error", "point"), [("ecc", "gather"), ("no memory", "forward")])
def test_a_device_that_fails_at_each_block_keeps_no_other_from_labelling(
    night: Night, error: str, point: str
) -> None:
    """What waits at its predictor goes to the other device, or remains for the next night."""
    fault = Fault(error, point, device=1)
    for number in range(5):  # the other device may have labelled all before this one is ready
        night = Night(night.house, night.labels.with_name(f"labels-{number}"))
        ran = night.label(fault)
        if night.house.faults.met():
            break
    assert night.house.faults.met()
    if ran.code == 0:
        night.check(ran)
    else:
        assert len(night.rows()) >= len(night.house.truth) - FIRST - GPU_IN_FLIGHT * EACH
        night.check_failed(ran, fault.words)


def test_the_only_device_fails_in_the_midst(night: Night) -> None:
    fault = Fault("ecc", "forward", after=100)
    ran = night.label(fault, predictors=1)
    assert night.rows()
    night.check_failed(ran, fault.words)


def test_a_device_that_fails_some_times_in_a_row_is_tried_again(night: Night) -> None:
    night.check(night.label(Fault("ecc", "forward", after=8, times=3), predictors=1))


def test_a_device_that_a_careful_child_cannot_have_at_once(night: Night) -> None:
    faults = [
        Fault("illegal access", "forward", after=8, times=1),
        Fault("busy", "load", child=True, times=1),
    ]
    night.check(night.label(*faults, predictors=1))
    assert night.house.faults.met(1)
