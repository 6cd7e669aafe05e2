"""The bench itself: the S3 server that the other tests stand on."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.parts.servers import s3 as bench
from tests.parts.servers.s3 import S3Server

pytestmark = pytest.mark.s3


def test_puts_lists_gets_and_deletes(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.bucket()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one #1 %20?.jpg").write_bytes(b"one")
    (tmp_path / "two.png").write_bytes(b"two")

    assert s3.put_folder(tmp_path, f"{bucket}/in/") == 2
    assert s3.put(f"{bucket}/else", b"else") == hashlib.md5(b"else").hexdigest()
    assert s3.keys(f"{bucket}/in/") == ["in/a/one #1 %20?.jpg", "in/two.png"]
    assert s3.get(f"{bucket}/in/a/one #1 %20?.jpg") == b"one"

    s3.delete(f"{bucket}/in/two.png")
    assert s3.uris(f"{bucket}/in/") == [f"{bucket}/in/a/one #1 %20?.jpg"]
    assert os.environ["AWS_ENDPOINT_URL"] == s3.endpoint


def test_refuses_a_wrong_secret(s3: S3Server) -> None:
    bucket = s3.bucket()
    intruder = S3Server(int(s3.endpoint.rpartition(":")[2]), s3.env["AWS_ACCESS_KEY_ID"], "wrong")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        intruder.put(f"{bucket}/x", b"x")


def test_starts_elsewhere_when_its_ports_are_taken(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = int(s3.endpoint.rpartition(":")[2])
    free_ports = bench._free_ports
    answers = [[taken, *free_ports(4)], free_ports(5)]
    monkeypatch.setattr(bench, "_free_ports", lambda count: answers.pop(0))
    with bench.serve(tmp_path) as other:
        assert other.endpoint != s3.endpoint
        assert other.keys(other.bucket()) == []
    assert not answers


def test_killed_it_loses_nothing(tmp_path: Path) -> None:
    """So it is ended by a kill: asked to end, it takes ten seconds and more."""
    with bench.serve(tmp_path) as server:
        first, second = f"{server.bucket()}/a", f"{server.bucket()}/b"
        assert server.put_many([(first, b"one"), (second, b"two")]) == 2
        server.kill()
        assert not _servers_in(tmp_path)
        assert server.start()
        assert [server.get(first), server.get(second)] == [b"one", b"two"]
    assert not _servers_in(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's parent-death signal")
def test_the_command_dies_with_its_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.parts.servers.s3", str(tmp_path / "data")]
    process = subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    assert lines[0].startswith("export AWS_ACCESS_KEY_ID=")
    assert _servers_in(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()

    give_up = time.monotonic() + 10
    while _servers_in(tmp_path) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not _servers_in(tmp_path)


def _servers_in(folder: Path) -> list[Path]:
    """Processes whose data lies below `folder`, except our own command."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if any(word.startswith(f"-dir={folder}") for word in words):
                found.append(process)
    return found
