"""What `ps` and a dashboard show of a driver."""

import subprocess
import sys
from pathlib import Path

from pipeline.engine.process_title import without_secrets
from pipeline.spec import SECRETS

#: Runs under the name of our command, and shows its own command line as others see it.
SHOWN = """
import sys
from pathlib import Path
from pipeline.engine.process_title import hide_secrets
hide_secrets()
print(Path("/proc/self/cmdline").read_text())
"""


def test_addresses_lose_what_opens_them() -> None:
    given = ["nightlabel", "label", "https://me:c4n4ry@h/l.txt?sig=c4n4ry", "s3://b/x", "--limit=5"]
    assert without_secrets(given) == [*given[:2], "https://h/l.txt?…", *given[3:]]


def test_options_that_are_secrets_are_not_seen() -> None:
    assert {"notify"} == SECRETS
    ways = (["--notify", "https://h/c4n4ry"], ["--notify=h/c4n4ry"], ["--set", "notify=h/c4n4ry"])
    for words in ways:
        assert "c4n4ry" not in " ".join(without_secrets(["label", *words, "--json"]))
        assert without_secrets([*words, "--json"])[-1] == "--json"


def shown(folder: Path, name: str, *words: str) -> str:
    script = folder / name
    script.write_text(SHOWN)
    ran = [sys.executable, str(script), *words]
    return subprocess.run(ran, capture_output=True, text=True, check=True).stdout.strip("\0\n")


def test_the_command_line_of_our_process_is_what_others_see(tmp_path: Path) -> None:
    src = "https://h/l.txt?X-Amz-Signature=c4n4ry"
    seen = shown(tmp_path, "nightlabel", "label", src, "--notify", "http://h/c4n4ry")
    assert seen.endswith("nightlabel label https://h/l.txt?… --notify …")
    assert src in shown(tmp_path, "anothers.py", "label", src)
    assert shown(tmp_path, "nightlabel", "label", "a b").endswith("nightlabel\0label\0a b")
