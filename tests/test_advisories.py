"""No pinned, allowed or installed version is one that a known advisory is about."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
KNOWN = tomllib.loads((ROOT / "advisories.toml").read_text())
FIXED = {name: (Version(known[0]), known[1:]) for name, known in KNOWN["fixed"].items()}


def pinned() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(number) for name, number in pairs}


def test_every_advisory_is_named() -> None:
    for name, (_, ids) in FIXED.items():
        assert name == canonicalize_name(name)
        assert ids, name
        assert all(re.fullmatch(r"(CVE|PYSEC|GHSA)-[\w-]+", one) for one in ids), name


def test_every_package_is_one_of_ours() -> None:
    assert set(FIXED) <= set(pinned())


@pytest.mark.parametrize("name", FIXED)
def test_the_pinned_and_the_installed_version_are_fixed(name: str) -> None:
    fixed, ids = FIXED[name]
    assert pinned()[name] >= fixed, ids
    try:
        assert Version(version(name)) >= fixed, ids
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed in this environment")


def test_what_we_ask_for_allows_no_version_that_is_not() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for asked in map(Requirement, project["dependencies"]):
        if (name := canonicalize_name(asked.name)) in FIXED:
            fixed, ids = FIXED[name]
            lowest = min(Version(one.version) for one in asked.specifier if one.operator == ">=")
            assert lowest >= fixed, (name, ids)
