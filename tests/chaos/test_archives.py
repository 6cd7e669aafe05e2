"""A night over a zip file on S3 is killed as any other: no row lost, none twice."""

import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.chaos.processes import night
from tests.chaos.scores import SEED, Scores
from tests.integration.conftest import Archive, nightlabel
from tests.parts.archives.zips import zip_of
from tests.parts.models.tiny import archive, image_bytes
from tests.parts.servers.s3 import S3Process

pytestmark = [pytest.mark.s3, pytest.mark.chaos]

Rows = dict[str, str]


class ZippedWorld:
    """A zip file whose members are replaced and added from night to night."""

    def __init__(self, server: S3Process, scores: Scores) -> None:
        self.random, self.scores = random.Random(SEED), scores
        self.found = Archive(server, {})
        self.src = f"{self.found.src}.zip"
        self.members = archive(2000)
        self._next = 2000
        self._ever: Counter[tuple[str, str]] = Counter()
        self._put()

    @property
    def arguments(self) -> list[object]:
        return ["fingerprint", self.src, self.found.dst, "--json", "--commit-seconds", 0.5]

    def change(self, *, replaced: int, added: int) -> None:
        for name in self.random.sample(sorted(self.members), replaced):
            self.members[name] = image_bytes(1_000_000 + self._number())
        self.members |= {f"new/{self._number()}.jpg": image_bytes(self._next) for _ in range(added)}
        self._put()

    def look(self) -> Rows:
        """By member its version; no member twice, and no version that never was."""
        rows = list(self._pairs())
        doubled = len(rows) - len({name for name, _ in rows})
        self.scores.rows(lost=0, doubled=doubled)
        assert doubled == 0
        assert set(rows) <= self._ever.keys()
        return dict(rows)

    def settle(self) -> None:
        ran = nightlabel(*self.arguments)
        assert ran.code == 0, ran.err
        now = self._versions()
        lost = set(now.items()) - set(self.look().items())
        self.scores.rows(lost=len(lost), doubled=0)
        assert lost == set()
        proof = nightlabel("verify", self.src, self.found.dst, "--json")
        assert proof.code == 0, proof.out + proof.err

    def _pairs(self) -> Iterator[tuple[str, str]]:
        table = self.found.delta(["member", "etag"])
        return zip(table["member"].to_pylist(), table["etag"].to_pylist(), strict=True)

    def _versions(self) -> Rows:
        from zlib import crc32

        return {name: f"crc32-{crc32(data):08x}-{len(data)}" for name, data in self.members.items()}

    def _number(self) -> int:
        self._next += 1
        return self._next

    def _put(self) -> None:
        self.found.server.put(self.src, zip_of(self.members))
        self._ever.update(self._versions().items())


def test_killed_at_any_moment(s3: S3Process, scores: Scores) -> None:
    """Three runs in a row are killed, the fourth goes to its end; the zip is another each night."""
    world = ZippedWorld(s3, scores)
    for number in range(8):
        world.change(replaced=100, added=200)
        moment = time.monotonic() + world.random.uniform(0.5, 10.0)
        with night(world.arguments) as running:
            if running.kill_at(moment, everyone=bool(number % 2)):
                scores.count("driver over a zip killed, any moment")
            running.end(scores)
        world.look()
        if number % 4 == 3:
            world.settle()
