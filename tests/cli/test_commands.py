"""Every command has help, an example and --json; a failure is one clear line."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import COMMANDS, _module, cli
from tests.integration.conftest import nightlabel
from tests.parts.models.tiny import image_bytes, make_model
from tests.parts.servers.s3 import S3Server

ARGUMENTS = {"demo": [], "compact": ["dst"], "doctor": []}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(image_bytes(number))
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_json(name: str) -> None:
    found = CliRunner().invoke(cli, [name, "--help"])
    assert found.exit_code == 0
    assert f"nightlabel {name}" in found.output.partition("Example")[2]
    assert "--json" in found.output
    assert "--debug" in found.output


def test_every_file_of_the_command_line_is_listed() -> None:
    folder = Path(__file__).parents[2] / "pipeline" / "cli"
    shared = {
        "__init__",
        "declared",
        "failures",
        "grouped",
        "job",
        "options",
        "summary",
        "task_command",
    }
    shared |= {"cluster.__init__", "cluster.completed", "cluster.follow", "cluster.job_words"}
    shared |= {"store.__init__"}
    files = {
        ".".join(path.relative_to(folder).with_suffix("").parts)
        for path in folder.rglob("*.py")
        if path.parent.name != "console"
    }
    named = {_module(name).removeprefix("pipeline.cli.") for name in COMMANDS}
    assert files - shared == named


def _one_line(err: str) -> str:
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("nightlabel: ")]
    assert len(lines) == 1, err
    return lines[0]


def test_a_bad_flag() -> None:
    found = nightlabel("label", "a", "b", "--precison", "fp16")
    assert found.code == 2
    assert "--precision" in found.err
    assert "Traceback" not in found.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--predictors", "4:2"], "predictors='4:2'"),
        (["--deadline", "soon"], "deadline='soon'"),
        (["--max-errors", "many"], "max_errors='many'"),
        (["--set", "colour=red"], "colour='red'"),
        (["--set", "nonsense"], "write KEY=VALUE"),
        (["--config", "no-such.toml"], "no such file"),
        (["--delete", "--limit", "3"], "delete=True"),
    ],
)
def test_a_bad_value_is_named(photos: Path, options: list[str], words: str) -> None:
    found = nightlabel("label", photos, photos.parent / "labels", *options)
    assert found.code == 2
    assert words in _one_line(found.err)
    assert not (photos.parent / "labels").exists()


@pytest.mark.torch
def test_a_folder_that_is_not_there(tmp_path: Path, model: Path) -> None:
    found = nightlabel("label", tmp_path / "none", tmp_path / "labels", "--model", model)
    assert found.code == 2
    assert "none" in _one_line(found.err)


@pytest.mark.torch
def test_a_folder_without_images(tmp_path: Path, model: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("text")
    found = nightlabel("label", tmp_path / "texts", tmp_path / "labels", "--model", model)
    assert found.code == 2
    assert "--include" in _one_line(found.err)


@pytest.mark.torch
def test_labels_inside_the_images(photos: Path, model: Path) -> None:
    found = nightlabel("label", photos, photos / "labels", "--model", model)
    assert found.code == 2
    assert "dst=" in _one_line(found.err)


def test_a_model_that_is_none(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    config = {"architectures": ["Dinov2Model"], "model_type": "dinov2"}
    (tmp_path / "bare" / "config.json").write_text(json.dumps(config))
    found = nightlabel("label", photos, tmp_path / "labels", "--model", tmp_path / "bare")
    assert found.code == 2
    assert "Dinov2Model" in _one_line(found.err)


@pytest.mark.torch
def test_a_bad_field_of_a_model_is_told_before_ray_starts(photos: Path, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"resample": "PIL.Image.BOX"}))
    found = nightlabel("label", photos, tmp_path / "labels", "--model", folder)
    assert found.code == 2
    assert "resample in preprocessor_config.json is" in _one_line(found.err)
    assert "starting Ray" not in found.err
    assert not (tmp_path / "labels").exists()


@pytest.mark.torch
@pytest.mark.s3
def test_a_missing_bucket(s3: S3Server, tmp_path: Path, model: Path) -> None:
    found = nightlabel("label", "s3://no-such-bucket/x", tmp_path / "labels", "--model", model)
    assert found.code == 1
    assert "no-such-bucket" in _one_line(found.err)


@pytest.mark.torch
@pytest.mark.s3
def test_wrong_credentials(s3: S3Server, tmp_path: Path, model: Path) -> None:
    bucket = s3.bucket()
    s3.put(f"{bucket}/a.jpg", image_bytes(1))
    env = os.environ | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    found = nightlabel("label", bucket, tmp_path / "labels", "--model", model, env=env)
    assert found.code == 1
    assert "AWS_ACCESS_KEY_ID" in _one_line(found.err)
    assert "wrong" not in found.err


def test_a_failure_is_a_document_too(tmp_path: Path) -> None:
    found = nightlabel("label", tmp_path / "none", tmp_path / "labels", "--json")
    assert found.json["error"] == "SpecError"
    assert found.json["exit_code"] == found.code == 2
    assert found.json["message"] in _one_line(found.err)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    found = nightlabel("label", tmp_path / "none", tmp_path / "labels", "--debug")
    assert "Traceback" in found.err


@pytest.mark.torch
def test_options_from_a_file(photos: Path, tmp_path: Path, model: Path) -> None:
    config = tmp_path / "night.toml"
    config.write_text(
        f'src = "{photos}"\ndst = "{tmp_path / "labels"}"\nmodel = "{model}"\nlimit = 1\n'
    )
    found = nightlabel("plan", "--config", config, "--set", "limit=2", "--no-probe", "--json")
    assert found.code == 0, found.err
    assert found.json["counts"]["listed"] == 2


@pytest.mark.torch
def test_plan_probes_and_writes_nothing(photos: Path, tmp_path: Path, model: Path) -> None:
    found = nightlabel("plan", photos, tmp_path / "labels", "--model", model, "--json")
    assert found.code == 0, found.err
    assert found.json["probe"]["images"] == 3
    assert found.json["counts"]["new"] == 3
    assert not (tmp_path / "labels").exists()


@pytest.mark.torch
def test_doctor_names_what_is_wrong(photos: Path, tmp_path: Path, model: Path) -> None:
    well = nightlabel("doctor", photos, tmp_path / "labels", "--model", model, "--json")
    assert well.code == 0, well.out
    wrong = nightlabel("doctor", photos, "--model", tmp_path, "--json")
    assert wrong.code == 3
    assert [finding["ok"] for finding in wrong.json if finding["check"].startswith("model")] == [
        False
    ]


def test_compact_of_no_store(tmp_path: Path) -> None:
    found = nightlabel("compact", tmp_path)
    assert found.code == 1
    assert "no label store" in _one_line(found.err)
