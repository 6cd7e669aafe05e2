"""The message of the end: signed, tried again, and never more than a warning."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from pipeline.cli import cli
from pipeline.cli.failures import exit_code_of
from pipeline.errors import Exit, SpecError
from pipeline.events.kinds import Finished
from pipeline.events.webhook import SECRET, notify, secret
from tests.parts.servers.http import serving

END = Finished(
    run_id="20260131T020000Z-00000000",
    dst="s3://bucket/labels",
    src="s3://bucket/photos",
    status="complete",
    exit_code=0,
    reason=None,
    recipe="r1",
    counts={"labelled": 3},
    errors={},
    seconds=1.5,
    text="done",
)


@dataclass
class Hook:
    """What was posted to `url`; `answers` are given in their order, the last for ever."""

    url: str
    answers: list[int]
    posted: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def hook(*answers: int, seconds: float = 0.0) -> Iterator[Hook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.posted.append(({k.lower(): v for k, v in self.headers.items()}, body))
            time.sleep(seconds)
            left = found.answers
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    found = Hook("", [*answers])
    with serving(Handler) as url:
        found.url = f"{url}/services/s3cr3t"
        yield found


def test_the_end_arrives_as_it_is() -> None:
    with hook(204) as receiver:
        assert notify(receiver.url, END, None, patient=True) is None
    [(headers, body)] = receiver.posted
    assert Finished.model_validate_json(body) == END
    assert json.loads(body)["event"] == "finished"
    assert headers["content-type"] == "application/json"
    assert "webhook-signature" not in headers


def test_the_signature_is_the_standards() -> None:
    key = b"a key of some bytes"
    with hook(200) as receiver:
        assert notify(receiver.url, END, key, patient=True) is None
    [(headers, body)] = receiver.posted
    assert headers["webhook-id"] == END.run_id
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    signed = b".".join([END.run_id.encode(), headers["webhook-timestamp"].encode(), body])
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"whsec_{base64.b64encode(bytes(range(24))).decode()}", bytes(range(24))),
        (f"whsec_{base64.b64encode(bytes(64)).decode()}", bytes(64)),
        ("any text", b"any text"),
        ("", None),
    ],
)
def test_the_secret(monkeypatch: pytest.MonkeyPatch, text: str, key: bytes | None) -> None:
    monkeypatch.setenv(SECRET, text)
    assert secret() == key


def test_a_broken_secret_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "whsec_c4n4ry!")
    with pytest.raises(SpecError, match=SECRET) as found:
        secret()
    assert "c4n4ry" not in str(found.value)


@pytest.mark.parametrize("key", [b"", b"c4n4ry", b"c4n4ry" * 3, bytes(23)])
def test_a_key_that_can_be_guessed_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    key: bytes,
    tmp_path: Path,
) -> None:
    text = f"whsec_{base64.b64encode(key).decode()}"
    monkeypatch.setenv(SECRET, text)
    with pytest.raises(SpecError, match=SECRET) as found:
        secret()
    told = str(found.value)
    assert "at least 24 bytes" in told
    assert not key or text.removeprefix("whsec_") not in told
    command = ["label", str(tmp_path), str(tmp_path / "out"), "--notify", "http://127.0.0.1:9/x"]
    assert exit_code_of(cli, command) == Exit.USAGE
    assert SECRET in capsys.readouterr().err


def test_it_is_tried_again() -> None:
    with hook(503, 429, 200) as receiver:
        assert notify(receiver.url, END, b"key", patient=True) is None
    assert len(receiver.posted) == 3
    assert len({headers["webhook-id"] for headers, _ in receiver.posted}) == 1


@pytest.mark.parametrize("answer", [400, 404, 302])
def test_a_refusal_is_final(answer: int) -> None:
    with hook(answer) as receiver:
        assert notify(receiver.url, END, None, patient=True) == f"127.0.0.1 answered {answer}"
    assert len(receiver.posted) == 1


def test_in_a_hurry_it_is_tried_once() -> None:
    with hook(503) as receiver:
        assert notify(receiver.url, END, None, patient=False) == "127.0.0.1 answered 503"
    assert len(receiver.posted) == 1


@pytest.mark.parametrize("away", [lambda url: url, lambda _: "http://127.0.0.1:9/s3cr3t"])
def test_whatever_goes_wrong_is_said_without_the_address(away: Callable[[str], str]) -> None:
    began = time.monotonic()
    with hook(200, seconds=4) as receiver:
        problem = notify(away(receiver.url), END, None, patient=False)
    assert problem is not None
    assert problem.startswith("127.0.0.1: ")
    assert "s3cr3t" not in problem
    assert time.monotonic() - began < 6
