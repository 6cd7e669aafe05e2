"""Names of any letters, for all that a run speaks of: its label store, model, images and logs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Ran, nightlabel
from tests.parts.models.tiny import archive
from tests.parts.servers.s3 import S3Server

pytestmark = pytest.mark.s3

NAME = "jörg & Söhne #1 模型 é"


@pytest.mark.ray
def test_a_night_among_names_of_any_letters(
    here: Callable[..., Ran], s3: S3Server, tiny_model: Path, tmp_path: Path
) -> None:
    """Locally, in a process of its own, and on S3; an odd entry of the list is a row."""
    model = tmp_path / f"my model {NAME}"
    shutil.copytree(tiny_model, model)
    src = tmp_path / NAME
    src.mkdir()
    images = archive(6)
    for name, data in images.items():
        (src / f"ü {name.replace('/', '-')}").write_bytes(data)
    names = [path.name for path in src.iterdir()]
    odd = ["s3://arch /x.jpg", "wasbs://c@a/x.jpg", "a\0b.jpg", "s3://bucket", "file://host/x", "-"]
    (src / "läst.jsonl").write_text("\n".join(map(json.dumps, [*names, *odd])))
    local, remote = tmp_path / f"labels {NAME}", f"{s3.bucket()}/läbels"
    for dst, run in ((local, nightlabel), (remote, here)):
        log = tmp_path / f"events {NAME}.jsonl"
        ran = run(
            "label",
            src / "läst.jsonl",
            dst,
            "--model",
            model,
            "--events",
            log,
            "--max-errors",
            "100%",
            "--json",
        )
        assert ran.code == 0, ran.err
        assert "Traceback" not in ran.err
        counts = ran.json["counts"]
        assert (counts["labelled"], counts["failed"]) == (len(images), len(odd))
        assert counts["errors"] == {"missing": 5, "unsupported": 1}
        ends = [json.loads(line) for line in log.read_text().splitlines()]
        assert ends[-1]["event"] == "finished"
        assert ends[-1]["dst"] == str(dst)
        again = here("label", src / "läst.jsonl", dst, "--model", model, "--json")
        assert again.json["counts"]["new"] == 0, "identities are stable"
