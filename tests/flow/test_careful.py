"""An image that ends its decoder costs one row, whether it crashes, exits or hangs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from deltalake import DeltaTable

from pipeline.errors import ErrorCode, ImageError, NightlabelError
from pipeline.flow.careful import Careful, attempt_number
from pipeline.images import Prepared, Preprocess, prepare
from tests.integration.conftest import nightlabel
from tests.parts.hostile import entries
from tests.parts.tiny import archive, image_bytes, make_model

#: A plugin of Pillow's whose images do to their process what bugs in decoders do. Python
#: imports a sitecustomize before all else, so every process has it that finds it on its path.
PLUGIN = """
import os, signal, time
from pathlib import Path
from PIL import Image

def _open(file, filename):
    _, deed, *path = file.read().split()
    if deed == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if deed == b"exit":
        os._exit(1)
    if path:
        Path(path[0].decode()).write_text(str(os.getpid()))
    while True:
        time.sleep(1)

Image.register_open("POISON", _open, lambda prefix: prefix.startswith(b"POISON "))
"""
CRASH, EXIT, HANG = b"POISON crash", b"POISON exit", b"POISON hang"

DECODE = partial(
    prepare,
    preprocess=Preprocess(
        height=24,
        width=20,
        rescale=1 / 255,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        processor="ViTImageProcessorPil",
        on_white=False,
        shortest_edge=32,
        crop=(24, 20),
    ),
    max_pixels=10_000_000,
)


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(PLUGIN)
    return folder


@pytest.fixture
def poison(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The children of this process have the plugin; this process has not."""
    monkeypatch.syspath_prepend(plugin)


def _answer(decode: Callable[[bytes], Prepared], data: bytes) -> tuple[object, ...]:
    try:
        image = decode(data)
    except ImageError as error:
        return error.code, error.message
    return image.pixels.tobytes(), image.pixels.dtype, image.pixels.shape, *image[1:]


def _crash_of(decode: Callable[[bytes], Prepared], data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.code is ErrorCode.CRASHED
    return caught.value.message


def test_it_answers_as_prepare_does() -> None:
    """Pixels to the bit, and every ImageError, over odd, broken and hostile files."""
    images = [data for _, data, _ in entries()]
    with Careful(DECODE) as careful:
        found = [_answer(careful, data) for data in images]
    assert found == [_answer(DECODE, data) for data in images]
    assert len({answer[0] for answer in found if len(answer) == 2}) >= 5


def test_a_crash_costs_one_image(poison: None) -> None:
    good = [image_bytes(seed) for seed in range(20)]
    with Careful(DECODE) as careful:
        before = [_answer(careful, data) for data in good[:10]]
        assert _crash_of(careful, CRASH) == "decoding this image ended its process (signal 11)"
        assert _crash_of(careful, EXIT) == "decoding this image ended its process (exit 1)"
        after = [_answer(careful, data) for data in good[10:]]
    assert before + after == [_answer(DECODE, data) for data in good]


def test_an_image_that_hangs_is_given_up(poison: None) -> None:
    began = time.monotonic()
    with Careful(DECODE, seconds=1.0) as careful:
        assert _crash_of(careful, HANG) == "decoding this image took longer than 1 s"
        assert _answer(careful, image_bytes(1)) == _answer(DECODE, image_bytes(1))
    assert time.monotonic() - began < 30


def test_it_gives_up_where_every_image_crashes(poison: None) -> None:
    with Careful(DECODE, crashes_in_a_row=3) as careful:
        for data in (EXIT, CRASH, image_bytes(1), EXIT, b"", EXIT, CRASH):
            _answer(careful, data)
        with pytest.raises(NightlabelError, match=r"3 images in a row \(.*exit 1") as caught:
            careful(EXIT)
    assert not isinstance(caught.value, ImageError)


def test_a_child_that_cannot_start_is_no_fault_of_the_image(
    plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plugin / "sitecustomize.py").write_text("import os; os._exit(7)")
    monkeypatch.syspath_prepend(plugin)
    with (
        Careful(DECODE) as careful,
        pytest.raises(NightlabelError, match=r"does not start.*exit 7") as caught,
    ):
        careful(image_bytes(1))
    assert not isinstance(caught.value, ImageError)


def test_a_module_in_the_working_folder_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise SystemExit('not ours')")
    monkeypatch.chdir(tmp_path)
    with Careful(DECODE) as careful:
        assert careful(image_bytes(1)).format == "jpeg"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends it in the midst of an image")
def test_a_hanging_child_dies_with_its_parent(plugin: Path, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = (
        "from pipeline.flow.careful import Careful; from tests.flow.test_careful import DECODE; "
        f"Careful(DECODE)({HANG + b' ' + str(told).encode()!r})"
    )
    env = os.environ | {"PYTHONPATH": str(plugin)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=env, cwd=Path(__file__).parents[2])
    try:
        child = int(_soon(lambda: told.exists() and told.read_text()))
        assert _runs(child)
    finally:
        parent.kill()
        parent.wait()
    assert _soon(lambda: not _runs(child))


def test_signals_for_the_whole_terminal_are_no_crash(plugin: Path, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = (
        "import sys; from pipeline.flow.careful import Careful; "
        "from tests.flow.test_careful import *; from tests.flow.test_careful import _crash_of; "
        f"print(_crash_of(Careful(DECODE, seconds=3), {HANG + b' ' + str(told).encode()!r}))"
    )
    env = os.environ | {"PYTHONPATH": str(plugin)}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=env,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        child = int(_soon(lambda: told.exists() and told.read_text()))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(child, number)
        out, _ = parent.communicate(timeout=60)
    assert out.strip() == "decoding this image took longer than 3 s"


def _soon(condition: Callable[[], object], seconds: float = 60.0) -> str:
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return str(found)


def _runs(pid: int) -> bool:
    """A zombie that nobody has waited for no longer runs."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_outside_of_ray_nothing_is_a_retry() -> None:
    assert attempt_number() == 0


def test_a_run_survives_two_poisoned_images(tmp_path: Path, plugin: Path) -> None:
    poisoned = {"a/00050.jpg": CRASH, "b/00151.jpg": EXIT}
    objects = archive(200) | poisoned
    assert len(objects) == 200
    for name, data in objects.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(data)
    model, labels = make_model(tmp_path / "model"), tmp_path / "labels"
    env = os.environ | {"PYTHONPATH": str(plugin)}
    arguments = ["label", tmp_path / "photos", labels, "--model", model, "--json"]
    ran = nightlabel(*arguments, env=env)
    assert ran.code == 0, ran.err
    assert ran.json["counts"]["errors"] == {"crashed": 2}

    columns = ["uri", "label", "error_code", "error_message"]
    rows = DeltaTable(labels).to_pyarrow_table(columns=columns).to_pylist()
    uris = {(tmp_path / "photos" / name).as_uri(): name for name in objects}
    assert sorted(row["uri"] for row in rows) == sorted(uris)
    failed = {uris[row["uri"]]: row for row in rows if row["error_code"] is not None}
    assert {name: (row["error_code"], row["error_message"]) for name, row in failed.items()} == {
        "a/00050.jpg": ("crashed", "decoding this image ended its process (signal 11)"),
        "b/00151.jpg": ("crashed", "decoding this image ended its process (exit 1)"),
    }
    assert all(row["label"] for row in rows if uris[row["uri"]] not in failed)
