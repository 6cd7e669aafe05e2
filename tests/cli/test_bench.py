"""What `bench` says of what it measured."""

import pytest

from pipeline.cli.bench import _limit, _predicted, _processes, _say, _whole
from tests.runs.test_bench import FOUND


@pytest.mark.parametrize(
    ("per_second", "said"),
    [
        (1800.0, "1,800.0 img/s, 90% of that"),
        (0.0, "20,000 images are too few to time"),
    ],
)
def test_a_run_that_was_too_short_to_time_says_so(per_second: float, said: str) -> None:
    assert _whole(FOUND.model_copy(update={"run_per_second": per_second})) == said


def test_on_cpus_one_kind_of_process_does_both() -> None:
    assert _processes(FOUND) == ("decoders", "predictors")
    on_cpus = FOUND.model_copy(update={"device": "cpu", "predictors": 4})
    assert _processes(on_cpus) == ("processes", "processes")
    assert _predicted(on_cpus)[0] == ("predict", "5,200.0 img/s (4 processes, 1,300.0 each)")
    without_network = on_cpus.model_copy(update={"predictors": 0})
    assert _processes(without_network)[0] == "decoders"


def test_what_gpus_did_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    _say(FOUND.model_copy(update={"device_seconds": {"works": 60.0, "waits": 40.0}}))
    said = capsys.readouterr().out
    assert "GPUs             worked 60% of the time, waited for images 40%" in said
    assert "would help" not in said  # the limit says it
    _say(FOUND)
    assert "GPUs" not in capsys.readouterr().out


def test_the_limit_names_the_cores_that_devices_want() -> None:
    assert _limit(FOUND) == "decoding: 11 cores would keep the devices busy"
    predicting = FOUND.model_copy(update={"limit": "predicting"})
    assert _limit(predicting) == "predicting: 11 cores keep the devices busy"
    assert "most of the cores' time" in _limit(FOUND.model_copy(update={"device": "cpu"}))
