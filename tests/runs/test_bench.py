"""What `bench` measures, and that nothing of it stays."""

import json
from pathlib import Path

import pytest

from pipeline.runs.bench import Bench, _measured
from pipeline.store.runs import Counts, RunSummary, new_run_id
from tests.integration.conftest import nightlabel
from tests.parts.clusters.cluster import logical_gpus
from tests.parts.models.tiny import archive, make_model

FOUND = Bench(
    src="s3://photos/",
    images=1024,
    mean_bytes=40_000,
    decoders=4,
    predictors=1,
    device="cuda:a GPU",
    decode_per_second=2000.0,
    predict_per_second=5200.0,
    ideal_per_second=2000.0,
    run_images=20_000,
    run_errors=0,
    run_per_second=1800.0,
    first_label_seconds=9.0,
    limit="decoding",
    decoders_wanted=11,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.mark.ray
@pytest.mark.torch
def test_a_whole_bench(tmp_path: Path, model: Path) -> None:
    photos, scratch = tmp_path / "photos", tmp_path / "scratch"
    photos.mkdir()
    for name, data in archive(3000).items():
        (photos / Path(name).name).write_bytes(data)
    arguments = ["--model", model, "--seconds", 0.5, "--scratch", scratch, "--json"]
    ran = nightlabel("bench", photos, *arguments)
    assert ran.code == 0, ran.err
    found = Bench.model_validate(json.loads(ran.out))
    assert found.images < found.run_images == 3000
    assert found.run_errors == 0
    assert found.device == "cpu"
    parts = (found.decode_per_second, found.predict_per_second, found.ideal_per_second)
    assert 0 < parts[2] < min(parts[:2])
    assert found.run_per_second > 0
    assert list(scratch.rglob("*")) == []


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.torch
def test_a_bench_of_gpus_tells_what_they_did(tmp_path: Path, model: Path) -> None:
    photos, scratch = tmp_path / "photos", tmp_path / "scratch"
    photos.mkdir()
    for name, data in archive(3000).items():
        (photos / Path(name).name).write_bytes(data)
    with logical_gpus(1) as address:
        arguments = ["--model", model, "--seconds", 0.5, "--scratch", scratch, "--json"]
        ran = nightlabel("bench", photos, *arguments, "--address", address)
    assert ran.code == 0, ran.err
    found = Bench.model_validate(json.loads(ran.out))
    assert found.run_images == 3000
    parts = (found.decode_per_second, found.predict_per_second)
    assert 0 < found.ideal_per_second == min(parts)
    assert 0 < found.device_seconds["works"] < sum(found.device_seconds.values())


@pytest.mark.ray
@pytest.mark.torch
def test_images_of_which_none_is_decoded_are_no_measure(tmp_path: Path, model: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    ran = nightlabel("bench", tmp_path, "--model", model, "--seconds", 0.5)
    assert ran.code == 1
    assert "none of the first 1 images is decoded" in ran.err.splitlines()[-1]


def test_a_cluster_needs_scratch_that_it_reaches(tmp_path: Path) -> None:
    ran = nightlabel("bench", tmp_path, "--address", "ray://nowhere:1")
    assert ran.code == 2
    assert "scratch" in ran.err.splitlines()[-1]


def test_the_rate_is_that_of_the_middle_half() -> None:
    points = [(1.0, 0), (9.0, 90), (10.0, 110), (11.0, 210), (12.0, 310), (12.1, 400), (15.0, 400)]
    measured = _measured(_summary(labelled=396, failed=4), points)
    assert measured == {
        "run_images": 400,
        "run_errors": 4,
        "run_per_second": 100.0,
        "first_label_seconds": 9.0,
        "device_seconds": {},
    }


def test_a_run_of_one_batch_has_no_rate() -> None:
    measured = _measured(_summary(labelled=64), [(9.0, 64)])
    assert measured["run_per_second"] == 0.0


def test_the_share_of_the_ideal() -> None:
    assert FOUND.share == pytest.approx(0.9)


def _summary(**counts: int) -> RunSummary:
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    return RunSummary(
        run_id=new_run_id(now), started=now, recipe="r", scope={}, spec={}, counts=Counts(**counts)
    )
