"""An archive on S3 that changes from night to night, and what must be true of its labels.

Whatever was killed: at every moment each reader sees no object twice, and no row that was
true once is gone; after a night that ended well each object has one row, of its own etag.
"""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from tests.chaos.scores import Scores
from tests.integration.conftest import Archive, Ran, nightlabel
from tests.parts.models.tiny import archive, image_bytes
from tests.parts.servers.s3 import S3Server


class World:
    """Images that are replaced, added and taken away, with all that any of them ever was.

    `run` is `nightlabel` for the nights that nobody disturbs: a process each, or `here`.
    """

    def __init__(
        self,
        server: S3Server,
        model: Path,
        scores: Scores,
        *,
        size: int,
        seed: int,
        run: Callable[..., Ran] = nightlabel,
    ) -> None:
        self.random = random.Random(seed)
        self.model, self.scores = model, scores
        self._run = run
        self.found = Archive(server, {})
        self._now: dict[str, str] = {}  # uri → etag
        self._ever: defaultdict[str, set[str]] = defaultdict(set)
        self._labelled: set[str] = set()
        self._next = 0
        self._add(size)

    @property
    def arguments(self) -> list[object]:
        """Of `nightlabel`, with commits so frequent that there is much to interrupt."""
        ends = [self.found.src, self.found.dst]
        return ["label", *ends, "--model", self.model, "--json", "--commit-seconds", 0.5]

    def change(self, *, replaced: int = 20, added: int = 10, removed: int = 0) -> None:
        """Let a day go by."""
        names = self.random.sample(sorted(self._now), replaced + removed)
        self._put({uri: image_bytes(self._number()) for uri in names[:replaced]})
        for uri in names[replaced:]:
            self.found.server.delete(uri)
            del self._now[uri]
            self._labelled.discard(uri)
        self._add(added)

    def look(self) -> None:
        """What must hold at every moment, with or without a run."""
        rows = self.found.delta(["uri", "etag"])
        false = [uri for uri, etag in _pairs(rows) if etag not in self._ever[uri]]
        assert false == [], "rows of bytes that never were"
        self._count(lost=self._labelled - set(rows["uri"].to_pylist()), readers=[rows])
        self._labelled |= {uri for uri, _ in _pairs(rows)} & set(self._now)

    def settle(self, *options: object) -> None:
        """Run to the end, and hold the labels against the archive by every reader."""
        ran = self._run(*self.arguments, *options)
        assert ran.code == 0, ran.err
        self.look()
        delta = self.found.delta(["uri", "etag"])
        plain = self.found.plain(["uri", "etag"])
        for rows in (delta, plain):
            present = {pair for pair in _pairs(rows) if pair[0] in self._now}
            self._count(lost=set(self._now.items()) - present, readers=[rows])
        assert sorted(_pairs(delta)) == sorted(_pairs(plain))

    def prove(self) -> None:
        """`verify`, which believes nothing of what a run says."""
        ends = [self.found.src, self.found.dst]
        proof = self._run("verify", *ends, "--json")
        assert proof.code == 0, proof.out + proof.err

    def _count(self, *, lost: Iterable[object], readers: Iterable[pa.Table]) -> None:
        plain = self.found.plain()
        doubled = [uri for rows in (*readers, plain) for uri in _doubled(rows)]
        lost = list(lost)
        self.scores.rows(lost=len(lost), doubled=len(doubled))
        assert lost == []
        assert doubled == []

    def _add(self, count: int) -> None:
        images = archive(count, first=self._next)
        self._next += count
        self._put({f"{self.found.src}/{name}": data for name, data in images.items()})

    def _number(self) -> int:
        self._next += 1
        return 1_000_000 + self._next

    def _put(self, objects: Mapping[str, bytes]) -> None:
        self.found.server.put_many(objects.items())
        for uri, data in objects.items():
            self._now[uri] = hashlib.md5(data).hexdigest()
            self._ever[uri].add(self._now[uri])


class MeasuredWorld(World):
    """The same archive, fingerprinted."""

    @property
    def arguments(self) -> list[object]:
        ends = [self.found.src, self.found.dst]
        return ["fingerprint", *ends, "--json", "--commit-seconds", 0.5]


def _pairs(rows: pa.Table) -> list[tuple[str, str]]:
    return list(zip(rows["uri"].to_pylist(), rows["etag"].to_pylist(), strict=True))


def _doubled(rows: pa.Table) -> list[str]:
    return [uri for uri, count in Counter(rows["uri"].to_pylist()).items() if count > 1]
