"""The image that runs on a cluster, as its Dockerfile makes it."""

import re
from collections.abc import Iterator

import pytest

from tests.test_kuberay import CONTAINERS, DOCKERFILE, HEAD, PROJECT, ROOT


def instructions(name: str) -> Iterator[str]:
    """What follows an instruction, its continued lines joined."""
    for line in re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", DOCKERFILE)).splitlines():
        word, _, rest = line.partition(" ")
        if word == name:
            yield rest


def test_the_stages_are_there() -> None:
    stages = [rest.rpartition(" AS ")[2] for rest in instructions("FROM")]
    assert stages == ["wheel", "cpu", "cuda"]
    (based_on,) = (rest for rest in instructions("FROM") if rest.endswith(" AS cuda"))
    assert based_on == "cpu AS cuda"


def test_what_is_copied_is_there_and_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert "*" in lines
    copied = {source for rest in instructions("COPY") for source in rest.split()[:-1]}
    assert sorted(copied) == sorted(kept)
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_is_of_this_version_and_of_an_allowed_python() -> None:
    (labels,) = instructions("LABEL")
    assert f'version="{PROJECT["version"]}"' in labels
    assert "python:3.11-" in DOCKERFILE
    assert "3.11" in PROJECT["requires-python"]


def test_the_base_image_has_no_default_and_comes_by_its_digest() -> None:
    bases = [rest.split()[0] for rest in instructions("FROM")]
    assert bases == ["${BASE}@${DIGEST}", "${BASE}@${DIGEST}", "cpu"]
    assert {"BASE", "DIGEST"} <= set(instructions("ARG"))
    told = (ROOT / "docs" / "kubernetes.md").read_text()
    assert "--build-arg BASE=" in told
    assert "--build-arg DIGEST=" in told


def test_what_is_installed_in_the_image_is_held_to_digests() -> None:
    runs = list(instructions("RUN"))
    installs = [one for one in runs if re.search(r"\bpip install|install\.py", one)]
    assert len(installs) == 3
    assert all("--require-hashes" in one or ".ci/install.py" in one for one in installs)
    assert all("--no-build-isolation" in one for one in runs if "pip wheel" in one)


@pytest.mark.parametrize(
    "text", [*map(str, CONTAINERS), DOCKERFILE, (ROOT / "ray-cluster.yaml").read_text()]
)
def test_no_image_is_the_latest_or_whatever_comes(text: str) -> None:
    assert ":latest" not in text
    for image in re.findall(r"'image': '([^']*)'", text):
        assert re.search(r":\d+\.\d+\.\d+|@sha256:[0-9a-f]{64}$", image), image


def test_the_image_is_not_roots_and_lets_a_stopped_job_commit() -> None:
    (user,) = instructions("USER")
    assert int(user) == HEAD["template"]["spec"]["securityContext"]["runAsUser"]
    assert any("RAY_JOB_STOP_WAIT_TIME_S=30" in rest for rest in instructions("ENV"))
