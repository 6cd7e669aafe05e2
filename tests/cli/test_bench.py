"""What `bench` says of what it measured."""

import pytest

from pipeline.cli.bench import _limit, _whole
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


def test_the_limit_names_the_cores_that_devices_want() -> None:
    assert _limit(FOUND) == "decoding: 11 cores would keep the devices busy"
    predicting = FOUND.model_copy(update={"limit": "predicting"})
    assert _limit(predicting) == "predicting: 11 cores keep the devices busy"
    assert "most of the cores' time" in _limit(FOUND.model_copy(update={"device": "cpu"}))
