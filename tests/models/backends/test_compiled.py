"""--compile: the labels of the plain network, batches of one shape, one compilation a machine."""

import ctypes
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import ModelError
from pipeline.models.backends.compiled import CALLS, _kernels
from pipeline.models.backends.torch_engine import TorchEngine
from pipeline.models.scorer import Scorer
from tests.models import tiny

ROOT = Path(__file__).parent.parent.parent.parent


def load(folder: Path, **changes: Any) -> TorchEngine:
    settings = {"height": tiny.SIZE, "width": tiny.SIZE, **tiny.SCALE}
    settings |= {"precision": "fp32", "top_k": 5, "batch_size": 4}
    return TorchEngine.load(folder, **settings | changes)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTLABEL_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "put back at the end")
    monkeypatch.setenv("TRITON_CACHE_DIR", "put back at the end")
    return tmp_path


def test_labels_are_those_of_the_plain_network(
    vit: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: set[int] = set()
    score = Scorer.__call__

    def seen(scorer: Scorer, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.add(len(batch))
        return score(scorer, batch)

    pixels = tiny.images(9)
    plain = load(vit).predict(pixels)
    monkeypatch.setattr(Scorer, "__call__", seen)
    compiled = load(vit, compile=True).predict(pixels)
    np.testing.assert_array_equal(compiled[0], plain[0])
    np.testing.assert_allclose(compiled[1], plain[1], rtol=0, atol=1e-6)
    assert sizes == {4}, "9 images are three batches of one shape"
    assert list((cache / "compiled").rglob("*.so")), "nothing was compiled"


@pytest.mark.usefixtures("cache")
def test_the_proof_calls_the_network_as_often_as_a_gpu_needs_to_record_it(
    vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the first block replays a CUDA graph. All calls have the shape of a full batch."""
    sizes: list[int] = []
    score = Scorer.__call__

    def seen(scorer: Scorer, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if scorer._model._compiled_call_impl is not None:
            sizes.append(len(batch))
        return score(scorer, batch)

    monkeypatch.setattr(Scorer, "__call__", seen)
    engine = load(vit, compile=True)
    assert sizes == [4] * CALLS
    assert engine._compiled is not None


@pytest.mark.usefixtures("cache")
def test_a_smaller_batch_is_compiled_once_and_the_larger_is_forgotten(
    vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out at 4 images; and at 2, while these are compiled."""
    engine, pixels = load(vit, compile=True), tiny.images(9)
    plain = load(vit).predict(pixels)
    sizes, resets = list[int](), list[int]()
    score, forget = Scorer.__call__, torch.compiler.reset

    def full(scorer: Scorer, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        sizes.append(len(batch))
        if len(batch) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB")
        return score(scorer, batch)

    def reset() -> None:
        resets.append(threading.get_ident())
        forget()

    monkeypatch.setattr(Scorer, "__call__", full)
    monkeypatch.setattr(torch.compiler, "reset", reset)
    indices, scores = engine.predict(pixels)
    assert engine.batch_size == 1
    assert sizes == [4, 2] + [1] * (2 * CALLS + 9), "each proof is of two images"
    np.testing.assert_array_equal(indices, plain[0])
    np.testing.assert_allclose(scores, plain[1], rtol=0, atol=1e-6)
    assert len(resets) == 2
    assert threading.get_ident() not in resets, "CUDA graphs belong to the thread that uses them"


def test_rows_in_fp32_are_not_compiled(vit: Path, cache: Path) -> None:
    engine = load(vit, compile=True, precision="bf16")
    assert engine.exact.precision == "fp32"
    assert engine.exact._compiled is None
    assert engine.exact._scorer._model._compiled_call_impl is None
    assert engine.exact.batch_size <= 16
    assert cache.exists()


@pytest.mark.usefixtures("cache")
def test_without_a_compiler_it_is_refused(vit: Path) -> None:
    code = f"from {__name__} import *; load(Path({str(vit)!r}), batch_size=3, compile=True)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"CXX": "no-such-compiler"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    why = "BadModelError: .* does not take images of 32x32 in fp32, compiled: .*no-such-compiler"
    assert re.search(why, done.stderr, re.DOTALL), done.stderr


def test_a_cache_that_cannot_be_written_is_named(vit: Path, cache: Path) -> None:
    (cache / "compiled").write_text("a file, where a folder should be")
    why = f"keeps its kernels in the cache of this machine, which cannot be written: .*{cache}"
    with pytest.raises(ModelError, match=why):
        load(vit, compile=True)


def test_the_first_is_alone_and_the_others_wait_for_it(cache: Path) -> None:
    entered, order = threading.Event(), list[str]()

    def second() -> None:
        entered.set()
        with _kernels("key"):
            order.append(kernel().read_text())

    with _kernels("key"):
        waiting = threading.Thread(target=second)
        waiting.start()
        entered.wait()
        waiting.join(timeout=0.3)
        assert waiting.is_alive()
        kernel().write_text("of the first")
        order.append("first")
    waiting.join(timeout=10)
    assert order == ["first", "of the first"]
    with _kernels("key"), _kernels("key"):  # nobody waits any more
        order.append("both")


@pytest.mark.usefixtures("cache")
def test_one_that_fails_leaves_it_to_the_next() -> None:
    def fail() -> None:
        with _kernels("key"):
            kernel().write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with _kernels("key"):
        assert not kernel().exists()


def kernel() -> Path:
    """Where this process has a kernel of its own."""
    return Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]) / "kernel.so"


def kept(cache: Path) -> Path:
    """The kernel "made" is kept for all processes."""
    with _kernels("key"):
        kernel().write_text("made")
    return cache / "compiled" / "key" / "kernel.so"


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.write_text("planted"),
        lambda file: file.unlink(),
        lambda file: (file.parent.parent / "key.sha256").unlink(),
        lambda file: (file.parent.parent / "key.sha256").write_text("no digests"),
        lambda file: (file.parent.parent / "key.sha256").write_text(f"{'0' * 64}  ../../x\n"),
    ],
    ids=["changed", "missing", "no digests", "bad digests", "digests that lead out"],
)
def test_kernels_that_are_not_what_they_were_are_made_anew(
    cache: Path, harm: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    file = kept(cache)
    harm(file)
    with _kernels("key"):
        assert not kernel().exists()
        kernel().write_text("made again")
    assert [record.getMessage() for record in caplog.records] == [
        f"nightlabel: the compiled kernels in {file.parent} are damaged: compiling again"
    ]
    with _kernels("key"):
        assert kernel().read_text() == "made again"


def test_a_kernel_that_was_added_is_seen_by_nobody(cache: Path) -> None:
    file = kept(cache)
    file.with_name("another.so").write_text("planted")
    with _kernels("key"):
        assert [path.name for path in kernel().parent.iterdir()] == ["kernel.so"]


def test_what_is_loaded_is_a_copy_of_ones_own(cache: Path) -> None:
    file = kept(cache)
    with _kernels("key"):
        file.write_text("changed once it was looked at")
        assert kernel().read_text() == "made"


@pytest.mark.slow
def test_a_planted_kernel_is_never_loaded(vit: Path, cache: Path, tmp_path: Path) -> None:
    """A real library in place of each kernel, which leaves a mark as soon as it is loaded."""
    first = labels(vit, cache)
    mark = tmp_path / "mark"
    source = tmp_path / "planted.c"
    source.write_text(
        "#include <stdio.h>\n__attribute__((constructor)) static void run(void)"
        f' {{ FILE *f = fopen("{mark}", "w"); if (f) fclose(f); }}\n'
    )
    planted = tmp_path / "planted.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", planted, source], check=True)
    kernels = [path for path in cache.rglob("*.so") if path.is_file()]
    assert kernels
    for path in kernels:
        path.write_bytes(planted.read_bytes())
    assert labels(vit, cache) == first
    assert not mark.exists()
    ctypes.CDLL(str(planted))
    assert mark.exists(), "the library leaves no mark"


LABELS = """
import sys
from pathlib import Path
from tests.models import tiny
from tests.models.backends.test_compiled import load
print(load(Path(sys.argv[1]), compile=True).predict(tiny.images(9))[0][:, 0].tolist(), flush=True)
"""


def labels(vit: Path, cache: Path) -> str:
    """Those of a process of its own, compiled."""
    done = subprocess.run(
        [sys.executable, "-c", LABELS, vit],
        env=os.environ | {"NIGHTLABEL_CACHE": str(cache)},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.usefixtures("cache")
def test_a_cuda_graph_gives_the_same_labels(vit: Path) -> None:
    pixels = tiny.images(1000)
    plain, graph = load(vit, batch_size=64), load(vit, batch_size=64, compile=True)
    np.testing.assert_array_equal(graph.predict(pixels)[0][:, 0], plain.predict(pixels)[0][:, 0])
    np.testing.assert_allclose(graph.predict(pixels)[1], plain.predict(pixels)[1], atol=1e-4)
