"""Folders, here and on S3: found, checked, refused with a fix."""

import hashlib
import json
import multiprocessing
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import transformers
from transformers import AutoModelForImageClassification, ViTConfig, ViTModel
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from pipeline.errors import BadModelError, Exit, ModelError
from pipeline.images.reference import reference_values
from pipeline.models import config
from pipeline.models.backends.torch_engine import TorchEngine
from pipeline.models.config import _known, _registered
from pipeline.models.fetch import fetch
from pipeline.models.reference import ReferenceModel
from pipeline.tasks.preprocess_cache import checked_preprocess
from tests.golden.pictures import picture, png
from tests.models import tiny
from tests.parts.servers.s3 import S3Server


def refusal(model: Path | str, revision: str | None = None) -> str:
    with pytest.raises(BadModelError) as caught:
        fetch(str(model), revision)
    assert caught.value.exit_code == Exit.USAGE
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_local_folder(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(vit.parent)
    expected = hashlib.sha256((vit / "model.safetensors").read_bytes()).hexdigest()
    for spelling in (str(vit), f"./{vit.name}", vit.name, f"file://{vit}", f"{vit}/../{vit.name}/"):
        found = fetch(spelling, None)
        assert (found.path, found.id, found.revision) == (vit, str(vit), None)
        assert found.weights_sha256 == expected


def test_shards_are_found_by_their_index(vit: Path, tmp_path: Path) -> None:
    model = AutoModelForImageClassification.from_pretrained(vit)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    (tmp_path / "preprocessor_config.json").write_text("{}")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    digests = [hashlib.sha256(shard.read_bytes()).hexdigest() for shard in shards]
    found = fetch(str(tmp_path), None)
    assert found.weights_sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()
    shape = {"height": tiny.SIZE, "width": tiny.SIZE, **tiny.SCALE, "top_k": 5}
    pixels = tiny.images(2)
    sharded = TorchEngine.load(found.path, precision="fp32", **shape).predict(pixels)
    whole = TorchEngine.load(vit, precision="fp32", **shape).predict(pixels)
    assert sharded[1].tolist() == whole[1].tolist()
    shards[1].unlink()
    assert f"is incomplete: {shards[1].name} missing" in refusal(tmp_path)


def test_the_checks_load_neither_torch_nor_transformers(vit: Path) -> None:
    code = f"import sys; from pipeline.models.fetch import fetch; fetch({str(vit)!r}, None)"
    code += "; print({'torch', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_the_register_names_is_there() -> None:
    for names in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.values():
        for name in [names] if isinstance(names, str) else names:
            assert _registered(name)
            assert name in dir(transformers)


def test_without_a_register_transformers_itself_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "find_spec", lambda _: None)
    assert not _registered("ViTForImageClassification")
    assert _known("ViTForImageClassification")
    assert not _known("OwnForImageClassification")


def test_a_backbone_is_no_classifier(tmp_path: Path) -> None:
    ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        tmp_path
    )
    message = refusal(tmp_path)
    assert "is a ViTModel, not an image classifier" in message
    assert "--model FOLDER" in message


def test_pickled_weights_are_refused(own_vit: Path) -> None:
    (own_vit / "model.safetensors").rename(own_vit / "pytorch_model.bin")
    message = refusal(own_vit)
    assert "only pickled weights (pytorch_model.bin)" in message
    assert "AutoModelForImageClassification" in message
    assert "(a backbone without a class head: AutoModel)" in message
    assert "save_pretrained(FOLDER)" in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"architectures": ["OwnForImageClassification"], "auto_map": {"AutoConfig": "a.B"}},
            "needs code of its own (auto_map in config.json), which is never run here",
        ),
        ({"architectures": ["OwnForImageClassification"]}, "install a newer transformers"),
        ({"architectures": None}, "names no architecture"),
        ({"model_type": "siglip2"}, "needs more than pixels"),
        ({"problem_type": "regression"}, "predicts a number"),
        *(
            ({"architectures": [f"{kind}ForImageClassification"]}, "transformers removed in vers")
            for kind in ("Van", "Nat", "ViTHybrid", "EfficientFormer")
        ),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "give the model from before"),
        ({"quantization_config": {}}, "has quantised weights"),
        ({"architectures": "ViTForImageClassification"}, "architectures in config.json is"),
        ({"architectures": [3]}, "architectures in config.json is"),
        ({"model_type": ["vit"]}, "model_type in config.json is"),
    ],
)
def test_configs_that_are_refused(own_vit: Path, changes: dict[str, object], said: str) -> None:
    tiny.edit_config(own_vit, **changes)
    assert said in refusal(own_vit)


@pytest.mark.parametrize("beside", [True, False])
def test_an_adapter_says_what_to_do_with_it(own_vit: Path, beside: bool) -> None:
    (own_vit / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/vit"}')
    if not beside:
        (own_vit / "config.json").unlink()
        (own_vit / "model.safetensors").rename(own_vit / "adapter_model.safetensors")
    said = refusal(own_vit)
    assert ("has an adapter" if beside else "is only an adapter") in said
    assert "merge_and_unload" in said


def test_what_may_pass_by_itself_is_no_fault_of_the_model() -> None:
    """A night that could not reach the hub is run again; one with a bad model is not."""
    assert ModelError("away").exit_code == Exit.FAILED
    assert BadModelError("bad").exit_code == Exit.USAGE


@pytest.mark.parametrize(
    "name", ["my model #1 é 模型", "a b", "100%", "%41", "?x=1", "[1]*", "'\"`$x"]
)
def test_a_folder_may_have_any_name(vit: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    shutil.copytree(vit, folder)
    found = fetch(str(folder), None)
    assert found.path == folder
    preprocess = checked_preprocess(found)
    assert reference_values(png(picture("waves", (50, 40))), folder, True).shape[1:] == (
        preprocess.height,
        preprocess.width,
    )
    shape = {"height": tiny.SIZE, "width": tiny.SIZE, **tiny.SCALE, "top_k": 5}
    assert (
        TorchEngine.load(found.path, precision="fp32", **shape).labels
        == ReferenceModel(folder).labels
    )


def test_code_that_is_not_needed_is_not_run(own_vit: Path) -> None:
    """A model that transformers knows may name code of its own beside it."""
    tiny.edit_config(own_vit, auto_map={"AutoModelForImageClassification": "evil.Model"})
    (own_vit / "evil.py").write_text("raise SystemExit('code was run')")
    shape = {"height": tiny.SIZE, "width": tiny.SIZE, **tiny.SCALE, "top_k": 5}
    engine = TorchEngine.load(fetch(str(own_vit), None).path, precision="fp32", **shape)
    assert len(engine.predict(tiny.images(1))[0]) == 1


def test_folders_without_a_model(own_vit: Path, tmp_path: Path) -> None:
    (own_vit / "config.json").write_text("{")
    assert "cannot be read as JSON" in refusal(own_vit)
    (own_vit / "config.json").write_text("[]")
    assert "is not a JSON object" in refusal(own_vit)
    (own_vit / "config.json").unlink()
    assert "holds no config.json" in refusal(own_vit)
    for spelling in (tmp_path / "none", "./none", "a/b/c", f"file://{tmp_path}/none"):
        assert refusal(spelling).startswith("no such model folder")


def test_a_folder_has_no_revisions(vit: Path) -> None:
    assert "leave out --revision" in refusal(vit, "main")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def copies(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


@pytest.mark.s3
def test_a_folder_on_s3_is_copied_once_for_each_content(
    s3: S3Server, own_vit: Path, cache: Path
) -> None:
    (own_vit / "pytorch_model.bin").write_bytes(b"pickled")
    (own_vit / "code.py").write_text("raise SystemExit")
    uri = f"{s3.bucket()}/models/vit-v1.5"
    s3.put_folder(own_vit, uri)
    s3.put(f"{uri}/checkpoint-9/model.safetensors", b"another")

    found = fetch(uri + "/", None)
    assert (found.id, found.revision) == (uri, None)
    assert found.weights_sha256 == fetch(str(own_vit), None).weights_sha256
    names = {path.name for path in found.path.iterdir()}
    assert names == {"config.json", "preprocessor_config.json", "model.safetensors"}
    written = (found.path / "model.safetensors").stat().st_mtime_ns
    assert fetch(uri, None) == found
    assert (found.path / "model.safetensors").stat().st_mtime_ns == written

    tiny.save_vit(own_vit, seed=1)
    s3.put_folder(own_vit, uri)
    changed = fetch(uri, None)
    assert changed.weights_sha256 == fetch(str(own_vit), None).weights_sha256
    assert changed.weights_sha256 != found.weights_sha256
    assert set(copies(cache)) == {found.path, changed.path}


@pytest.mark.s3
def test_processes_that_start_at_once_share_one_copy(s3: S3Server, vit: Path, cache: Path) -> None:
    uri = f"{s3.bucket()}/vit"
    s3.put_folder(vit, uri)
    cache.mkdir(parents=True)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=spawn) as pool:
        found = list(pool.map(fetch, [uri] * 3, [None] * 3))
    assert len({one.path for one in found}) == 1
    assert copies(cache) == [found[0].path]


@pytest.mark.s3
def test_a_copy_that_was_cut_short_is_begun_again(s3: S3Server, vit: Path, cache: Path) -> None:
    uri = f"{s3.bucket()}/vit"
    s3.put_folder(vit, uri)
    found = fetch(uri, None)
    partial = found.path.with_name(f"{found.path.name}.partial")
    found.path.rename(partial)
    (partial / "model.safetensors").write_bytes(b"half")
    assert fetch(uri, None) == found
    assert copies(cache) == [found.path]


@pytest.mark.s3
def test_folders_on_s3_that_hold_no_model(s3: S3Server, own_vit: Path, cache: Path) -> None:
    bucket = s3.bucket()
    assert "holds no model" in refusal(f"{bucket}/nothing")
    assert "no model there" in refusal("s3://no-such-bucket-anywhere/vit")
    (own_vit / "model.safetensors").rename(own_vit / "pytorch_model.bin")
    s3.put_folder(own_vit, f"{bucket}/pickled")
    assert "only pickled weights" in refusal(f"{bucket}/pickled")
    s3.put(f"{bucket}/adapter/adapter_config.json", b"{}")
    s3.put(f"{bucket}/adapter/adapter_model.safetensors", b"weights")
    assert "is only an adapter" in refusal(f"{bucket}/adapter")
    assert "read from a local folder" in refusal("ftp://somewhere/vit")
    s3.put_many([(f"{bucket}/archive/{i}.jpg", b"x") for i in range(1001)])
    assert "holds over 1,000 objects" in refusal(f"{bucket}/archive")


@pytest.mark.s3
def test_a_cache_that_cannot_be_written(
    s3: S3Server, vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{s3.bucket()}/vit"
    s3.put_folder(vit, uri)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        ModelError, match="set NIGHTLABEL_CACHE to a folder with free space"
    ) as caught:
        fetch(uri, None)
    assert caught.value.exit_code == Exit.FAILED


def test_a_bad_index_is_refused(own_vit: Path) -> None:
    (own_vit / "model.safetensors").unlink()
    (own_vit / "model.safetensors.index.json").write_text(json.dumps({"weight_map": [1]}))
    assert "is not an index of safetensors files" in refusal(own_vit)
