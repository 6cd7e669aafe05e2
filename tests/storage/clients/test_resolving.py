"""Names whose server is slow or dead: bounded for their readers, and no matter to others."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage import Rules, Want, read_many
from pipeline.storage.clients import aws, resolving
from pipeline.storage.faults import Slow
from tests.storage.clients.test_peers import outcome
from tests.storage.servers import HERE, web_server

ROOT = Path(__file__).parents[3]
UNSHARE = ["unshare", "--map-root-user", "--net", "--mount"]


def test_a_dead_name_server_and_the_system_s_own_resolver(tmp_path: Path) -> None:
    """Of 330 names 297 are of one domain that nobody answers for; a reader has three seconds."""
    can = [*UNSHARE, "sh", "-c", "ip link set lo up && mount --bind /etc/hosts /etc/hosts"]
    if sys.platform != "linux" or subprocess.run(can, check=False, capture_output=True).returncode:
        pytest.skip("no network of its own for a process here")
    command = [*UNSHARE, sys.executable, "-m", "tests.storage.clients.slow_names", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    told = json.loads(done.stdout)
    slow = Counter(said for host, said in told["found"].items() if "slow" in host)
    good = Counter(said for host, said in told["found"].items() if "good" in host)
    assert good == {"read": 33}
    assert sum(slow.values()) == 297
    assert all(said.startswith("transient: its name") for said in slow)
    assert told["took"] < 15  # and not three seconds for each 32 of them
    assert told["threads"] < 64


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Names of `dead.test` and `dead<n>.test` are not answered until the test ends; who asked."""
    over, asked, real = threading.Event(), Counter[str](), socket.getaddrinfo

    def resolve(host: str, *rest: Any) -> Any:
        asked[host] += 1
        if "dead" in host:
            over.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return real("127.0.0.1", *rest)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    yield asked
    over.set()
    until = time.monotonic() + 10
    while any(one.name.startswith("nightlabel-resolve") for one in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)


def together(call: Callable[[int], object], count: int) -> list[object]:
    found: list[object] = [None] * count

    def run(at: int) -> None:
        try:
            found[at] = call(at)
        except Slow as error:
            found[at] = error

    threads = [threading.Thread(target=run, args=(at,)) for at in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_one_object_waits_no_longer_than_it_may(dead: Counter[str]) -> None:
    began = time.monotonic()
    said = outcome("http://dead.test/a.jpg", Rules(seconds=0.5))
    assert said == "transient: its name was not found in time"
    assert time.monotonic() - began < 3


def test_readers_of_one_name_share_a_look_up(dead: Counter[str]) -> None:
    found = together(lambda _: resolving.addresses("a.dead.test", 80, 0.3), 40)
    assert all(isinstance(one, Slow) for one in found)
    assert dead["a.dead.test"] == 1


def test_one_dead_name_keeps_one_reader(
    dead: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many images a list has there."""
    monkeypatch.setattr(resolving, "OVERDUE_SECONDS", 0.2)
    found = together(lambda _: resolving.addresses("a.dead.test", 80, 1.0), 32)
    assert Counter(map(str, found)) == {
        "its name server does not answer": 31,
        "its name was not found in time": 1,
    }
    with pytest.raises(Slow, match="its name server does not answer"):
        resolving.addresses("a.dead.test", 80, 60.0)
    assert dead["a.dead.test"] == 1


def test_a_dead_server_has_its_share_and_others_all_they_need(
    dead: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its readers go away before their time is over, but for eight."""
    monkeypatch.setattr(resolving, "OVERDUE_SECONDS", 0.2)
    began, ended = time.monotonic(), []

    def look_up(at: int) -> object:
        try:
            return resolving.addresses(f"h{at}.dead.test", 80, 3.0)
        finally:
            ended.append(time.monotonic() - began)

    found = together(look_up, 32)
    assert Counter(map(str, found)) == {
        "its name server does not answer": 24,
        "its name was not found in time": 8,
    }
    assert sorted(ended)[23] < 2.0
    for at in range(300):  # known to be dead: at once, and without a thread
        with pytest.raises(Slow, match="its name server does not answer"):
            resolving.addresses(f"more{at}.dead.test", 80, 3.0)
    assert len(dead) == 32
    assert resolving.addresses("h.good.test", 80, 1.0) == [(socket.AF_INET, ("127.0.0.1", 80))]


def test_many_dead_servers_leave_a_bounded_number_of_threads(
    dead: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address needs no look-up, so it is read even then."""
    monkeypatch.setattr(resolving, "AT_ONCE", 20)
    found = together(lambda at: resolving.addresses(f"dead{at}.test", 80, 0.3), 50)
    assert all(isinstance(one, Slow) for one in found)
    assert len(dead) == 20
    with web_server({"/a.jpg": b"a"}) as url:
        assert outcome(f"{url}/a.jpg", HERE) == b"a"


def test_room_that_is_free_again_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "AT_ONCE", 2)
    real = socket.getaddrinfo

    def resolve(host: str, *rest: Any) -> Any:
        time.sleep(0.02)
        return real("127.0.0.1", *rest)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    found = together(lambda at: resolving.addresses(f"h{at}.good.test", 80, 10.0), 30)
    assert found == [[(socket.AF_INET, ("127.0.0.1", 80))]] * 30


def test_what_a_resolver_says_is_told_to_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, *_: Any) -> Any:
        time.sleep(0.1)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    wants = [Want(f"http://none.test/{n}.jpg") for n in range(8)]
    monkeypatch.setattr("pipeline.storage.translate.TRIES", 1)
    said = {str(found) for _, found in read_many(wants, max_bytes=9, rules=Rules(seconds=5))}
    assert len(said) == 1
    assert "no such host" in said.pop()


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("a.b.example.com", "example.com"),
        ("EXAMPLE.com.", "example.com"),
        ("a.example.co.uk", "example.co.uk"),
        ("a.example.de", "example.de"),
        ("localhost", "localhost"),
    ],
)
def test_what_one_owner_has(host: str, domain: str) -> None:
    assert resolving._domain(host) == domain


def test_a_bucket_that_is_slow_to_find_holds_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Amazon is asked where a bucket lies; others go on meanwhile."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-a-test")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    over = threading.Event()

    def region(bucket: str, _: str) -> str:
        if bucket == "slow":
            over.wait(60)
        return "eu-west-1"

    monkeypatch.setattr(aws, "bucket_region", region)
    waiting = threading.Thread(target=aws.access, args=("slow",))
    waiting.start()
    try:
        free = next(n for n in range(99) if aws._locks.of(f"b{n}") is not aws._locks.of("slow"))
        others = threading.Thread(target=aws.access, args=(f"b{free}",))
        others.start()
        others.join(20)
        assert not others.is_alive()
        assert waiting.is_alive()
    finally:
        over.set()
        waiting.join()
