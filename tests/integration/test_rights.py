"""The rights that docs/kubernetes.md gives to a head and to workers: what a night asks of S3 for.

A proxy sees which process each connection comes from: the driver, which runs on a head, or one that
Ray started for a task, which runs on a worker.
"""

import json
import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from contextvars import ContextVar
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.integration.conftest import command
from tests.parts.models.tiny import archive, image_bytes
from tests.parts.servers.faults import FaultProxy, faulty
from tests.parts.servers.s3 import S3Server

ROOT = Path(__file__).parents[2]
TOLD = (ROOT / "docs" / "kubernetes.md").read_text()
Policy = list[dict[str, Any]]
#: (action, resource), as a policy names them.
Asked = tuple[str, str]


def policies() -> dict[str, Policy]:
    """Those of the page, head first, by the role that is named before each."""
    found = re.findall(r"role\s`([\w-]+)`:\n\n```json\n(.*?)```", TOLD, re.DOTALL)
    return {role: json.loads(text)["Statement"] for role, text in found}


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def allows(policy: Policy, asked: Asked) -> bool:
    action, resource = asked
    return any(
        action in listed(one["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in listed(one["Resource"]))
        for one in policy
    )


def asked(method: str, target: str) -> Asked:
    """What a request to the bucket needs a right for; SRC, DST and model lie below it."""
    url = urlsplit(target)
    _, _, key = unquote(url.path).lstrip("/").partition("/")
    query = parse_qs(url.query, keep_blank_values=True)
    resource = f"arn:aws:s3:::bucket/{key}" if key else "arn:aws:s3:::bucket"
    if method == "POST" and "delete" in query:  # its keys are in the body
        return "s3:DeleteObject", "arn:aws:s3:::bucket/labels/any"
    if not key:
        return "s3:ListBucket", resource
    if method == "DELETE":
        return ("s3:AbortMultipartUpload" if "uploadId" in query else "s3:DeleteObject"), resource
    return ("s3:GetObject" if method in {"GET", "HEAD"} else "s3:PutObject"), resource


_ROLE: ContextVar[str] = ContextVar("role")


class Recorder:
    """What each role asked for, of a night whose driver is `pid`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pid = 0
        self.asked: dict[str, set[Asked]] = defaultdict(set)
        serve, pick = FaultProxy.serve, FaultProxy._pick

        async def noting_who(proxy: FaultProxy, client: Any, answers: Any) -> None:
            _ROLE.set(self._role(answers.get_extra_info("peername")[1]))
            await serve(proxy, client, answers)

        def noting_what(proxy: FaultProxy, method: str, target: str) -> Any:
            self.asked[_ROLE.get()].add(asked(method, target))
            return pick(proxy, method, target)

        monkeypatch.setattr(FaultProxy, "serve", noting_who)
        monkeypatch.setattr(FaultProxy, "_pick", noting_what)

    def _role(self, port: int) -> str:
        return "driver" if self._holds(self.pid, port) else "worker"

    @staticmethod
    def _holds(pid: int, port: int) -> bool:
        """Whether a process has the socket of a local port."""
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        inodes = {line[9] for line in lines if line[1].endswith(f":{port:04X}")} - {"0"}
        open_files = []
        for file in Path(f"/proc/{pid}/fd").iterdir():
            try:
                open_files.append(str(file.readlink()))
            except FileNotFoundError:
                continue
        return any(f"socket:[{inode}]" in open_files for inode in inodes)

    def run(self, env: Mapping[str, str], *words: object) -> dict[str, Any]:
        started = subprocess.Popen(
            command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True
        )
        self.pid = started.pid
        out, err = started.communicate(timeout=300)
        assert started.returncode == 0, err
        answer: dict[str, Any] = json.loads(out)
        return answer


@pytest.fixture(scope="module")
def recorded(s3: S3Server, tiny_model: Path) -> Iterator[dict[str, set[Asked]]]:
    """Two nights: the second has images that changed, are new and are gone, and merges."""
    bucket = s3.bucket()
    src, dst, model = f"{bucket}/photos", f"{bucket}/labels", f"{bucket}/models/vit"
    s3.put_folder(tiny_model, model)
    s3.put_many((f"{src}/{name}", data) for name, data in archive(60).items())
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        recorder = Recorder(patch)
        proxy = stack.enter_context(faulty(s3))
        env = os.environ | proxy.env
        night = ("label", src, dst, "--model", model, "--json")
        assert recorder.run(env, *night)["counts"]["labelled"] == 60
        names = list(archive(60))
        s3.put_many((f"{src}/{name}", image_bytes(900 + n)) for n, name in enumerate(names[:5]))
        s3.delete(f"{src}/{names[-1]}")
        again = recorder.run(env, *night, "--delete")["counts"]
        assert (again["changed"], again["deleted"]) == (5, 1)
        yield recorder.asked


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.parametrize(
    ("role", "who"), [("nightlabel", "driver"), ("nightlabel-worker", "worker")]
)
def test_a_night_needs_what_the_page_gives_and_no_more(
    recorded: dict[str, set[Asked]], role: str, who: str
) -> None:
    policy = policies()[role]
    assert recorded[who]
    refused = sorted(one for one in recorded[who] if not allows(policy, one))
    assert refused == [], f"{who} needs more than {role} may"
    used = {action for action, _ in recorded[who]} | {"s3:AbortMultipartUpload"}  # after a failure
    given = {action for one in policy for action in listed(one["Action"])}
    assert given == used


@pytest.mark.slow
@pytest.mark.s3
def test_workers_write_new_files_and_nothing_else(recorded: dict[str, set[Asked]]) -> None:
    written = {resource for action, resource in recorded["worker"] if action == "s3:PutObject"}
    assert written
    assert all(re.search(r"/labels/(_parts/.+/)?recipe=[^/]+/[^/]+$", one) for one in written)


@pytest.mark.parametrize("key", ["_delta_log/00000000000000000001.json", "_nightlabel/lease.json"])
def test_workers_may_not_commit_choose_or_delete(key: str) -> None:
    head, worker = policies()["nightlabel"], policies()["nightlabel-worker"]
    resource = f"arn:aws:s3:::bucket/labels/{key}"
    assert allows(head, ("s3:PutObject", resource))
    assert not allows(worker, ("s3:PutObject", resource))
    for path in (resource, "arn:aws:s3:::bucket/labels/recipe=r/a.parquet"):
        assert allows(head, ("s3:DeleteObject", path))
        assert not allows(worker, ("s3:DeleteObject", path))
    for policy in (head, worker):
        for action in ("s3:PutObject", "s3:DeleteObject"):
            assert not allows(policy, (action, "arn:aws:s3:::bucket/photos/1.jpg"))
            assert not allows(policy, (action, "arn:aws:s3:::bucket/models/vit/config.json"))
        assert all(one["Effect"] == "Allow" for one in policy)
        assert all("*" not in action for one in policy for action in listed(one["Action"]))


def test_the_roles_are_those_of_the_manifest() -> None:
    told = (ROOT / "jobs" / "kuberay" / "night.yaml").read_text()
    assert re.findall(r"role-arn: .*:role/([\w-]+)", told) == list(policies())
