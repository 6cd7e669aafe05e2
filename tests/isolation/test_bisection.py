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
from PIL import Image

from pipeline.errors import ErrorCode, ImageError, NightlabelError
from pipeline.images import Prepared, prepare
from pipeline.isolation.bisection import IsolatedDecoder
from pipeline.spec import MAX_PIXELS
from tests.parts.images.decode_trial import SHAPE
from tests.parts.images.hostile import entries
from tests.parts.images.poison import PLUGIN, poison
from tests.parts.models.tiny import image_bytes

CRASH, EXIT, HANG = poison("segfault"), poison("exit"), poison("hang")

DECODE = partial(prepare, preprocess=SHAPE, max_pixels=10_000_000)


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(PLUGIN)
    return folder


@pytest.fixture
def poisonous(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_it_answers_as_prepare_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels to the bit, and every ImageError, over odd, broken and hostile files."""
    # Pillow names its limit, which decoding larger images has raised in this process.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", MAX_PIXELS // 2)
    images = [data for _, data, _ in entries()]
    with IsolatedDecoder(DECODE) as careful:
        found = [_answer(careful, data) for data in images]
    assert found == [_answer(DECODE, data) for data in images]
    assert len({answer[0] for answer in found if len(answer) == 2}) >= 5


def test_a_crash_costs_one_image(poisonous: None) -> None:
    good = [image_bytes(seed) for seed in range(20)]
    with IsolatedDecoder(DECODE) as careful:
        before = [_answer(careful, data) for data in good[:10]]
        assert _crash_of(careful, CRASH) == "decoding this image ended its process (signal 11)"
        assert _crash_of(careful, EXIT) == "decoding this image ended its process (exit 1)"
        after = [_answer(careful, data) for data in good[10:]]
    assert before + after == [_answer(DECODE, data) for data in good]


def test_an_image_that_hangs_is_given_up(poisonous: None) -> None:
    began = time.monotonic()
    with IsolatedDecoder(DECODE, seconds=1.0) as careful:
        assert _crash_of(careful, HANG) == "decoding this image took longer than 1 s"
        assert _answer(careful, image_bytes(1)) == _answer(DECODE, image_bytes(1))
    assert time.monotonic() - began < 30


def test_it_gives_up_where_every_image_crashes(poisonous: None) -> None:
    with IsolatedDecoder(DECODE, crashes_in_a_row=3) as careful:
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
        IsolatedDecoder(DECODE) as careful,
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
    with IsolatedDecoder(DECODE) as careful:
        assert careful(image_bytes(1)).format == "jpeg"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends it in the midst of an image")
def test_a_hanging_child_dies_with_its_parent(plugin: Path, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = (
        "from pipeline.isolation.bisection import IsolatedDecoder; "
        "from tests.isolation.test_bisection import DECODE; "
        f"IsolatedDecoder(DECODE)({poison('hang', told)!r})"
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
        "import sys; from pipeline.isolation.bisection import IsolatedDecoder; "
        "from tests.isolation.test_bisection import *; "
        "from tests.isolation.test_bisection import _crash_of; "
        f"print(_crash_of(IsolatedDecoder(DECODE, seconds=3), {poison('hang', told)!r}))"
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
