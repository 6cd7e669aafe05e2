"""What runs the network of a night on CPUs: OpenVINO, without torch in any process; else torch."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from pipeline.models.backends.openvino_engine import runtime_name
from tests.integration.conftest import nightlabel

pytestmark = [pytest.mark.ray, pytest.mark.torch]

#: Every Python process of a run notes what it imports of these; OpenVINO may be hidden from it.
SITE = """
import os, sys

class Finder:
    def find_spec(self, name, path, target=None):
        # A part of each, since who looks whether a package is there asks for the whole.
        if name in ("torch._C", "transformers.utils", "openvino._pyopenvino"):
            with open(os.environ["IMPORTS"], "a") as log:
                log.write(f"{os.getpid()} {name.partition('.')[0]}\\n")

sys.meta_path.insert(0, Finder())
if os.environ.get("HIDDEN"):
    sys.modules["openvino"] = None
"""


@dataclass(frozen=True)
class Night:
    """`rows` are (label, score) by URI; `imports` are the processes that imported a package."""

    runtime: str
    rows: dict[str, tuple[str | None, float | None]]
    imports: dict[str, set[str]]


def night(home: Path, name: str, photos: Path, model: Path, **env: str) -> Night:
    site, log, labels = home / "site", home / f"{name}.imports", home / name
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SITE)
    log.touch()
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = nightlabel(
        *("label", photos, labels, "--model", model, "--json"),
        env=os.environ | {"PYTHONPATH": path, "IMPORTS": str(log)} | env,
    )
    assert ran.code == 0, ran.err
    assert ran.json["counts"]["labelled"] == 10
    imports: dict[str, set[str]] = {"torch": set(), "transformers": set(), "openvino": set()}
    for line in log.read_text().splitlines():
        pid, package = line.split()
        imports[package].add(pid)
    table = DeltaTable(labels).to_pyarrow_table(columns=["uri", "label", "score"])
    rows: list[dict[str, Any]] = table.to_pylist()
    found = {row["uri"]: (row["label"], row["score"]) for row in rows}
    return Night(ran.json["hardware"]["runtime"], found, imports)


def test_a_night_on_cpus_needs_torch_once_and_labels_the_same_without_openvino(
    tmp_path: Path, photos: Path, tiny_model: Path
) -> None:
    known = {"NIGHTLABEL_CACHE": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    first, again = (night(tmp_path, name, photos, tiny_model, **known) for name in "ab")
    assert first.runtime == again.runtime == runtime_name()
    assert len(first.imports["torch"]) == 1, "only the process that makes the graph"
    assert again.imports["torch"] == again.imports["transformers"] == set()
    assert again.imports["openvino"]
    assert again.rows == first.rows

    shutil.rmtree(tmp_path / "cache" / "graphs")  # of a model that is known otherwise
    anew = night(tmp_path, "c", photos, tiny_model, **known)
    assert anew.runtime == first.runtime
    assert len(anew.imports["torch"]) == 1
    assert anew.rows == first.rows

    other = known | {"NIGHTLABEL_CACHE": str(tmp_path / "other"), "HIDDEN": "yes"}
    plain = night(tmp_path, "d", photos, tiny_model, **other)
    assert plain.runtime == "torch: OpenVINO is not installed"
    assert plain.imports["openvino"] == set()
    assert plain.rows.keys() == first.rows.keys()
    for uri, (label, score) in plain.rows.items():
        assert label == first.rows[uri][0]
        assert (score is None) == (first.rows[uri][1] is None)
        assert score is None or abs(score - first.rows[uri][1]) < 1e-4
