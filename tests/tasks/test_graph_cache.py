"""The graphs of a machine: each kept whole, under a name for all that decides it, or made again."""

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UnsafeFolderError
from pipeline.models.backends.graph import Graph
from pipeline.models.purpose import CLASSIFYING, ClassifyingAndEmbedding, Embedding
from pipeline.tasks import preprocess_cache
from pipeline.tasks.graph_cache import UNUSED, keep_graph, kept_graph, name_of
from tests.models import graphs, tiny

GRAPH = Graph(b"\n\x00an onnx\n", ("a", "b\n"), True, 32, 48, "int8", group=64, off=1.5e-3)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


@pytest.mark.parametrize("found", [GRAPH, replace(GRAPH, labels=(), onnx=b""), "no: it's ünfit"])
def test_what_is_kept_is_found_again(found: Graph | str, cache: Path) -> None:
    assert kept_graph("name") is None
    keep_graph("name", found)
    assert kept_graph("name") == found
    assert kept_graph("another") is None
    assert [path.name for path in cache.iterdir()] == ["name"]


@pytest.mark.parametrize("cut", [0, 1, 64, 65, 100, -1])
def test_what_is_torn_is_unknown_and_kept_anew(cut: int, cache: Path) -> None:
    keep_graph("name", GRAPH)
    file = cache / "name"
    file.write_bytes(file.read_bytes()[:cut])
    assert kept_graph("name") is None
    keep_graph("name", GRAPH)
    assert kept_graph("name") == GRAPH


def test_a_changed_byte_anywhere_is_seen(cache: Path) -> None:
    keep_graph("name", GRAPH)
    file = cache / "name"
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert kept_graph("name") is None, at


def test_what_was_used_lately_stays_and_the_rest_goes(cache: Path) -> None:
    for name in ("used", "unused", "fresh"):
        keep_graph(name, GRAPH)
    old = (cache / "used").stat().st_mtime - UNUSED - 60
    for name in ("used", "unused", "fresh"):
        os.utime(cache / name, (old, old if name != "fresh" else old + 120))
    assert kept_graph("used") == GRAPH
    keep_graph("new", "none")
    assert {path.name for path in cache.iterdir()} == {"used", "fresh", "new"}


def test_a_folder_that_cannot_be_written_gives_what_it_holds(cache: Path) -> None:
    """Also where its times cannot be set; root writes everywhere, so a user's rights are tried."""
    keep_graph("name", GRAPH)
    cache.chmod(0o500)
    try:
        assert kept_graph("name") == GRAPH
        if os.geteuid() != 0:
            with pytest.raises(PermissionError):
                keep_graph("another", GRAPH)
    finally:
        cache.chmod(0o700)


def test_where_it_ends_in_a_file_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path / "file"))
    assert kept_graph("name") is None
    with pytest.raises(OSError, match="file"):
        keep_graph("name", GRAPH)


def test_a_full_disk_keeps_nothing_rather_than_half(cache: Path) -> None:
    """A limit on the size of files stands for it: the write ends in its middle."""
    keep_graph("small", "of another time")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            keep_graph("large", replace(GRAPH, onnx=bytes(100_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert kept_graph("large") is None
    assert [path.name for path in cache.iterdir()] == ["small"]


def test_a_cache_that_others_can_change_is_refused(cache: Path) -> None:
    keep_graph("name", GRAPH)
    cache.chmod(0o777)
    with pytest.raises(UnsafeFolderError, match="NIGHTLABEL_CACHE"):
        kept_graph("name")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"id2label": {"0": "cat"}}')
    return folder


def test_each_request_has_a_name_of_its_own(model: Path) -> None:
    request = graphs.request(model)
    wider = replace(request.preprocess, width=96)
    others: list[dict[str, Any]] = [
        {"weights_sha256": "1" * 64},
        {"precision": "int8"},
        {"precision": "bf16"},
        {"preprocess": wider},
        {"preprocess": replace(request.preprocess, mean=(0.5, 0.5, 0.5))},
        {"purpose": Embedding("cls")},
        {"purpose": Embedding("mean")},
        {"purpose": Embedding()},
        {"purpose": ClassifyingAndEmbedding("cls")},
        {"purpose": ClassifyingAndEmbedding("mean")},
    ]
    names = [name_of(request), *(name_of(replace(request, **other)) for other in others)]
    assert len({*names}) == len(names)
    assert name_of(graphs.request(model)) == names[0]


def test_a_label_in_the_config_counts(model: Path) -> None:
    before = name_of(graphs.request(model))
    tiny.edit_config(model, id2label={"0": "dog"})
    assert name_of(graphs.request(model)) != before


@pytest.mark.parametrize("package", ["openvino", "torch", "transformers"])
def test_another_version_of_a_package_counts(
    model: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, version = name_of(graphs.request(model)), preprocess_cache.version
    monkeypatch.setattr(
        preprocess_cache, "version", lambda name: "99" if name == package else version(name)
    )
    assert name_of(graphs.request(model)) != before


NAMES = """
import sys
from pathlib import Path
from pipeline.models.purpose import CLASSIFYING, ClassifyingAndEmbedding, Embedding
from pipeline.tasks.graph_cache import name_of
from tests.models import graphs

for purpose in (CLASSIFYING, Embedding("cls"), ClassifyingAndEmbedding("mean")):
    print(name_of(graphs.request(Path(sys.argv[1]), purpose)))
"""


def test_names_are_the_same_in_every_process(model: Path) -> None:
    told = [
        subprocess.run(
            [sys.executable, "-c", NAMES, str(model)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    purposes = (CLASSIFYING, Embedding("cls"), ClassifyingAndEmbedding("mean"))
    assert told == [[name_of(graphs.request(model, purpose)) for purpose in purposes]] * 2
