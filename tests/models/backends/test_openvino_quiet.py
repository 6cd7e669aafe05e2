"""OpenVINO tells nobody that it is used: its telemetry is not imported, nothing is left at home."""

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from pipeline.models.backends import openvino_engine
openvino_engine._core()
print(sorted(name for name in sys.modules if name.startswith("openvino_telemetry")))
"""


def test_openvino_comes_without_its_telemetry(tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path)}
    run = [sys.executable, "-c", CODE]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []
