"""The coordinator's process starts beside those that load the network."""

import subprocess
import sys

IMPORTS = """
import sys
import pipeline.graph.coordinator
print(*(name for name in ("PIL", "pipeline.images", "pipeline.scan.survey", "pipeline.storage")
        if name in sys.modules))
"""


def test_it_imports_at_first_only_what_it_needs_at_first() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == []
