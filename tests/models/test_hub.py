"""Models from the hub: what is downloaded, what is cached, what is said when it is out of reach.

Each fetch runs in a process of its own, because huggingface_hub reads its environment once.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models import minihub, tiny
from tests.models.minihub import COMMIT, REPO, MiniHub

FETCH = """
import json, sys
from pipeline.errors import NightlabelError
from pipeline.models import fetch, hub
hub.TIMEOUT_S = float(sys.argv[3])
try:
    found = fetch.fetch(sys.argv[1], sys.argv[2] or None)
    said = {"path": str(found.path), "id": found.id, "revision": found.revision}
except NightlabelError as error:
    said = {"error": str(error)}
print(json.dumps(said | {"torch": "torch" in sys.modules}))
"""


@pytest.fixture
def hub(own_vit: Path) -> Iterator[MiniHub]:
    (own_vit / "pytorch_model.bin").write_bytes(b"pickled")
    (own_vit / "modeling.py").write_text("raise SystemExit")
    (own_vit / "onnx").mkdir()
    (own_vit / "onnx" / "model.safetensors").write_bytes(b"another")
    with minihub.serve(own_vit) as server:
        yield server


def fetch(
    home: Path, url: str, model: str = REPO, revision: str = "", timeout: float = 10, **env: str
) -> dict[str, Any]:
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, "-c", FETCH, model, revision, str(timeout)],
        env=kept | settings | {"NO_PROXY": "127.0.0.1"} | env,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    assert "\n" not in answer.get("error", "")
    return answer


def test_only_safetensors_and_json_come_down(hub: MiniHub, tmp_path: Path) -> None:
    found = fetch(tmp_path / "hf", hub.url)
    assert (found["id"], found["revision"], found["torch"]) == (REPO, COMMIT, False)
    names = {path.name for path in Path(found["path"]).iterdir()}
    assert names == {"config.json", "preprocessor_config.json", "model.safetensors"}
    assert hub.downloaded == names


def test_a_cached_model_serves_while_the_hub_is_away(hub: MiniHub, tmp_path: Path) -> None:
    home = tmp_path / "hf"
    first = fetch(home, hub.url)
    assert fetch(home, hub.url, HF_HUB_OFFLINE="1") == first
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    assert fetch(home, nobody) == first
    asked = len(hub.asked)
    assert fetch(home, hub.url, revision=COMMIT) == first
    assert len(hub.asked) == asked, "a cached commit costs no request"


def test_a_hub_that_never_answers_is_out_of_reach(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        found = fetch(tmp_path, url, timeout=0.5)
    assert time.monotonic() - start < 60
    assert "hub is out of reach" in found["error"]
    assert "--model FOLDER" in found["error"]


def test_offline_and_not_cached(tmp_path: Path) -> None:
    found = fetch(tmp_path, "http://127.0.0.1:9", model="google/vit-tiny", HF_HUB_OFFLINE="1")
    assert found["error"].startswith("the Hugging Face hub is out of reach, and google/vit-tiny is")


def test_unknown_models_and_revisions(hub: MiniHub, tmp_path: Path) -> None:
    found = fetch(tmp_path, hub.url, model="no-one/nothing")
    assert "neither a folder here nor a model on the Hugging Face hub" in found["error"]
    found = fetch(tmp_path, hub.url, revision="v9")
    assert found["error"] == f"{REPO} has no revision v9; check --revision"
    found = fetch(tmp_path, hub.url, model="no id at all")
    assert "neither a folder nor a hub id" in found["error"]


def test_what_is_no_classifier_is_refused_before_its_weights_come(
    hub: MiniHub, tmp_path: Path
) -> None:
    tiny.edit_config(hub.folder, architectures=["LlamaForCausalLM"])
    assert "not an image classifier" in fetch(tmp_path, hub.url)["error"]
    assert hub.downloaded == {"config.json"}


def test_a_repository_of_pickles_is_refused(hub: MiniHub, tmp_path: Path) -> None:
    (hub.folder / "model.safetensors").unlink()
    found = fetch(tmp_path, hub.url)
    assert "only pickled weights (pytorch_model.bin)" in found["error"]
    assert "--model FOLDER" in found["error"]
    assert hub.downloaded == {"config.json"}


def test_an_adapter_alone_is_told_before_anything_is_downloaded(
    hub: MiniHub, own_vit: Path, tmp_path: Path
) -> None:
    (own_vit / "config.json").unlink()
    (own_vit / "adapter_config.json").write_text("{}")
    assert "is only an adapter" in fetch(tmp_path / "home", hub.url)["error"]
    assert hub.downloaded == set()


def blob(found: dict[str, Any], name: str) -> Path:
    return (Path(found["path"]) / name).resolve()


@pytest.mark.parametrize("name", ["model.safetensors", "preprocessor_config.json", "config.json"])
def test_what_is_damaged_in_the_cache_is_downloaded_anew(
    hub: MiniHub, tmp_path: Path, name: str
) -> None:
    home = tmp_path / "hf"
    first = fetch(home, hub.url)
    whole = blob(first, name).read_bytes()
    for revision in ("", COMMIT):
        blob(first, name).write_bytes(b"{}" + whole[2:])
        asked = len(hub.asked)
        assert fetch(home, hub.url, revision=revision) == first
        assert blob(first, name).read_bytes() == whole
        assert ("GET", f"/{REPO}/resolve/{COMMIT}/{name}") in hub.asked[asked:]


def test_what_is_damaged_in_the_cache_is_not_used_while_the_hub_is_away(
    hub: MiniHub, tmp_path: Path
) -> None:
    home = tmp_path / "hf"
    blob(fetch(home, hub.url), "model.safetensors").write_bytes(b"planted")
    assert "out of reach" in fetch(home, hub.url, HF_HUB_OFFLINE="1")["error"]


def test_a_planted_partial_download_is_found(hub: MiniHub, tmp_path: Path) -> None:
    """The hub's client goes on where a download ended, and looks at the size alone."""
    home = tmp_path / "hf"
    first = fetch(home, hub.url)
    content = blob(first, "model.safetensors")
    whole = content.read_bytes()
    content.unlink()
    content.with_name(f"{content.name}.incomplete").write_bytes(b"planted" + whole[7:])
    assert fetch(home, hub.url) == first
    assert content.read_bytes() == whole


@pytest.mark.parametrize("below", ["", "hub", "hub/models--someone--vit-tiny/blobs"])
def test_a_cache_that_others_can_change_is_refused(
    hub: MiniHub, tmp_path: Path, below: str
) -> None:
    home = tmp_path / "hf"
    fetch(home, hub.url)
    (home / below).chmod(0o777)
    error = fetch(home, hub.url)["error"]
    assert f"other users can write to {(home / below)} (mode 0777)" in error
    assert "HF_HOME" in error
