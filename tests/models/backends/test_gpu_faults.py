"""Faults that a real GPU has, each in a process of its own: it is lost afterwards."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.torch,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

FAULT = """
import torch
from pipeline.models.backends.device_faults import fault
try:
    {cause}
    torch.cuda.synchronize()
except RuntimeError as error:
    print(fault(error).name)
"""
#: An index that is out of range ends the kernel, which is seen at the next call.
ASSERT = "torch.zeros(4, device='cuda')[torch.tensor([9], device='cuda')]"
LATER = f"""
import sys
import torch
from pathlib import Path
from pipeline.models.backends.base import DeviceLostError
from tests.models import tiny
from tests.models.backends.test_torch_engine import load
engine = load(Path(sys.argv[1]), batch_size=64)
try:
    {ASSERT}
    engine.predict(tiny.images(100))
except DeviceLostError:
    print("LOST")
"""


def said(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("cause", "kind"), [("torch.empty(2**50, device='cuda')", "MEMORY"), (ASSERT, "LOST")]
)
def test_a_real_fault_is_told_by_its_kind(cause: str, kind: str) -> None:
    assert said(FAULT.format(cause=cause)) == kind


def test_what_comes_after_a_lost_kernel_is_a_lost_device(vit: Path) -> None:
    assert said(LATER, vit) == "LOST"
