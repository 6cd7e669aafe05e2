"""Names that Ray keeps to itself: this Ray has each, and one without any still labels."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from pipeline.engine.ray_compat import Private, attempt_number, find, patched
from tests.parts.models.tiny import archive

#: A night whose driver finds none of the names.
WITHOUT = """
import sys
from pipeline.engine import ray_compat
ray_compat.find = lambda name: None
import pipeline
from pipeline.engine import gcs
from pipeline.graph import backpressure
assert gcs.find is ray_compat.find
assert backpressure.ListingAhead.__mro__[-2].__module__ == backpressure.__name__
spec = pipeline.make_spec(src=sys.argv[1], dst=sys.argv[2], task="fingerprint")
print(pipeline.fingerprint(spec).counts.labelled)
"""


@pytest.mark.parametrize("name", Private)
def test_this_ray_has_it(name: Private) -> None:
    module, _, path = name.value.partition(":")
    *outer, last = path.split(".")
    owner = import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    assert hasattr(owner, last) or not path


@pytest.mark.parametrize(
    "value", ["ray._no_such_module:name", "ray._private.node:Node.no_such_name", "ray._private.x:y"]
)
def test_one_that_is_not_there_is_told_and_left_alone(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Private.GET_NODE
    monkeypatch.setattr(gone, "_value_", value)
    assert find(gone) is None
    with patched(gone, lambda _: 1 / 0):
        pass


def test_what_is_patched_is_put_back() -> None:
    own = find(Private.GET_NODE)
    with (
        pytest.raises(KeyError, match="get_node"),
        patched(Private.GET_NODE, lambda found: [found]),
    ):
        raise KeyError(*find(Private.GET_NODE))
    assert find(Private.GET_NODE) is own


def test_outside_of_ray_nothing_is_a_retry() -> None:
    assert attempt_number() == 0


@pytest.mark.ray
def test_a_night_without_any_of_them(tmp_path: Path) -> None:
    for name, data in archive(5).items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(data)
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT, tmp_path / "photos", tmp_path / "rows"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert (ran.returncode, ran.stdout.split()[-1:]) == (0, ["5"]), ran.stderr
