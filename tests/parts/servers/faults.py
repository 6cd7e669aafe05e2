"""A proxy in front of a server that lets every byte pass as it came, except where a rule says not.

It keeps the Host header, so that signatures stay valid. Rules may be added and taken away at
any time; a rule's callbacks see a request at an exact moment: before the server hears of it,
or when it has acted and the client does not know yet.
"""

import asyncio
import random
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from tests.parts.servers.s3 import S3Server

_CHUNK: Final = 65_536
_LINE_LIMIT: Final = 2**20
_ENDLESS: Final = 2**62
_NO_BODY: Final = frozenset({204, 304})

#: What a rule's fields do to a request, in words.
_KINDS: Final = {
    "reset": "connection reset",
    "lose_answer": "answer lost",
    "cut_after": "body cut short",
    "bytes_per_second": "body at a crawl",
    "flip": "bytes damaged",
    "delay": "answer late",
}


@dataclass(eq=False)
class Rule:
    """What happens to requests whose method and target (path and query as sent) match.

    `method` and `path` are regular expressions: for all of the method, for any of the target.

    The first rule that matches is applied. `before` and `after` are called with
    "METHOD target" in a thread of their own, and may block.
    """

    path: str = "."
    method: str | None = None
    times: int | None = None  # how many matches it applies to; None: all
    skip: int = 0  # so many matches pass first
    chance: float = 1.0
    status: int | None = None  # answered instead of asking the server
    code: str = "SlowDown"
    delay: float = 0.0  # seconds before it is forwarded
    reset: bool = False  # the connection ends without an answer; the server hears nothing
    lose_answer: bool = False  # the server acts, the connection ends without an answer
    cut_after: int | None = None  # bytes of the answer's body
    bytes_per_second: float | None = None
    flip: int = 0  # so many bytes of the answer's body are inverted, from its middle chunk on
    before: Callable[[str], object] | None = None
    after: Callable[[str], object] | None = None

    @property
    def kind(self) -> str:
        """What it does, in a few words."""
        if self.status is not None:
            return f"{self.status} {self.code}"
        words = [words for field, words in _KINDS.items() if getattr(self, field)]
        return ", ".join(words) or "something moved meanwhile"

    def matches(self, method: str, target: str) -> bool:
        fits = self.method is None or re.fullmatch(self.method, method)
        return bool(fits and re.search(self.path, target))


@dataclass(frozen=True)
class _Head:
    raw: bytes
    line: str
    fields: dict[str, str]

    @property
    def chunked(self) -> bool:
        return self.fields.get("transfer-encoding", "").lower().endswith("chunked")

    @property
    def closes(self) -> bool:
        return "close" in self.fields.get("connection", "").lower()


class FaultProxy:
    """A running proxy: where it is, what it does, what it did."""

    def __init__(self, server: S3Server, seed: int) -> None:
        self.rules: list[Rule] = []
        self.fired: list[tuple[str, str, Rule]] = []
        self.requests = 0
        self.bytes_sent = 0  # of the bodies of answers
        self.endpoint = ""
        self._server = server
        self._upstream = int(server.endpoint.rpartition(":")[2])
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    @property
    def env(self) -> dict[str, str]:
        return self._server.env | {"AWS_ENDPOINT_URL": self.endpoint}

    def rule(self, **fields: object) -> Rule:
        """Add a rule; returns it."""
        rule = Rule(**fields)  # type: ignore[arg-type]
        self.rules.append(rule)
        return rule

    def _pick(self, method: str, target: str) -> Rule | None:
        with self._lock:
            self.requests += 1
            for rule in self.rules:
                if not rule.matches(method, target) or rule.times == 0:
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                    continue
                if self._random.random() >= rule.chance:
                    continue
                if rule.times is not None:
                    rule.times -= 1
                self.fired.append((method, target, rule))
                return rule
        return None

    async def serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """One connection of a client, from its first request to its end."""
        ends = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)
        with suppress(*ends):
            async with _Upstream(self._upstream) as upstream:
                while await self._exchange(client, answers, upstream):
                    pass
        answers.close()

    async def _exchange(
        self, client: asyncio.StreamReader, answers: asyncio.StreamWriter, upstream: "_Upstream"
    ) -> bool:
        request = await _head(client)
        method, target, _ = request.line.split(" ", 2)
        rule = self._pick(method, target) or Rule()
        await asyncio.sleep(rule.delay)
        await _call(rule.before, method, target)
        if rule.reset:
            answers.transport.abort()
            return False
        if rule.status is not None:
            return await _refuse(client, request, answers, rule, method)
        reader, writer = await upstream.connection()
        writer.write(request.raw)
        body = asyncio.ensure_future(_body(client, request, _into(writer)))
        try:
            return await self._answer(reader, answers, rule, request, f"{method} {target}") and (
                await _finished(body)
            )
        finally:
            body.cancel()

    async def _answer(
        self,
        reader: asyncio.StreamReader,
        answers: asyncio.StreamWriter,
        rule: Rule,
        request: _Head,
        name: str,
    ) -> bool:
        method, _, target = name.partition(" ")
        while True:
            answer = await _head(reader)
            status = int(answer.line.split(" ")[1])
            if status >= 200:
                break
            answers.write(answer.raw)
        await _call(rule.after, method, target)
        if rule.lose_answer:
            answers.transport.abort()
            return False
        answers.write(answer.raw)
        if method != "HEAD" and status not in _NO_BODY:
            await _body(reader, answer, self._counted(_faulty(answers, rule)), to_eof=True)
        await answers.drain()
        return not (request.closes or answer.closes)

    def _counted(self, write: "Sink") -> "Sink":
        async def counted(data: bytes) -> None:
            self.bytes_sent += len(data)
            await write(data)

        return counted


class _Upstream:
    """The connection to the server behind, made when it is first needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> "_Upstream":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._open is not None:
            self._open[1].close()

    async def connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._open is None:
            self._open = await asyncio.open_connection("127.0.0.1", self._port, limit=_LINE_LIMIT)
        return self._open


Sink = Callable[[bytes], Awaitable[None]]


def _into(writer: asyncio.StreamWriter) -> Sink:
    async def write(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    return write


def _faulty(answers: asyncio.StreamWriter, rule: Rule) -> Sink:
    """Writes an answer's body with the rule's damage done to it."""
    left, flip = rule.cut_after, rule.flip

    async def write(data: bytes) -> None:
        nonlocal left, flip
        if flip:
            start = len(data) // 2
            damaged = bytes(byte ^ 0xFF for byte in data[start : start + flip])
            data = data[:start] + damaged + data[start + len(damaged) :]
            flip -= len(damaged)
        if left is not None:
            data, left = data[:left], left - len(data)
        step = _CHUNK if rule.bytes_per_second is None else max(1, int(rule.bytes_per_second / 10))
        for at in range(0, len(data), step):
            answers.write(data[at : at + step])
            await answers.drain()
            if rule.bytes_per_second is not None:
                await asyncio.sleep(step / rule.bytes_per_second)
        if left is not None and left <= 0:
            answers.close()
            raise ConnectionResetError

    return write


async def _head(reader: asyncio.StreamReader) -> _Head:
    raw = await reader.readuntil(b"\r\n\r\n")
    line, *rest = raw.decode("latin-1").split("\r\n")
    pairs = (text.partition(":") for text in rest if text)
    return _Head(raw, line, {name.strip().lower(): value.strip() for name, _, value in pairs})


async def _body(
    reader: asyncio.StreamReader, head: _Head, write: Sink, *, to_eof: bool = False
) -> None:
    if head.chunked:
        return await _chunks(reader, write)
    length = head.fields.get("content-length")
    left = int(length) if length is not None else _ENDLESS if to_eof else 0
    while left > 0 and (data := await reader.read(min(left, _CHUNK))):
        left -= len(data)
        await write(data)
    return None


async def _chunks(reader: asyncio.StreamReader, write: Sink) -> None:
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        await write(line)
        if not size:
            break
        await write(await reader.readexactly(size + 2))
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        await write(line)
    await write(line)


async def _finished(body: "asyncio.Future[None]") -> bool:
    await body
    return True


async def _call(callback: Callable[[str], object] | None, method: str, target: str) -> None:
    if callback is not None:
        await asyncio.to_thread(callback, f"{method} {target}")


async def _refuse(
    client: asyncio.StreamReader,
    request: _Head,
    answers: asyncio.StreamWriter,
    rule: Rule,
    method: str,
) -> bool:
    if request.fields.get("expect", "").lower() != "100-continue":
        await _body(client, request, _nowhere)
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<Error><Code>{rule.code}</Code><Message>injected</Message></Error>"
    ).encode()
    head = (
        f"HTTP/1.1 {rule.status} Injected\r\nContent-Type: application/xml\r\n"
        f"Connection: close\r\nContent-Length: {len(document)}\r\n\r\n"
    ).encode()
    answers.write(head + (b"" if method == "HEAD" else document))
    await answers.drain()
    return False


async def _nowhere(_: bytes) -> None:
    pass


@contextmanager
def faulty(server: S3Server, *, seed: int = 0) -> Iterator[FaultProxy]:
    """A proxy before `server` on a free loopback port, until the block ends."""
    proxy = FaultProxy(server, seed)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="faults", daemon=True)
    thread.start()
    listening = asyncio.run_coroutine_threadsafe(
        asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=_LINE_LIMIT), loop
    ).result()
    proxy.endpoint = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(_end(listening), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(listening: asyncio.Server) -> None:
    listening.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
