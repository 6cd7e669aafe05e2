"""Archive source: the images in one container: `photos.zip` on disk, in a bucket or on the web."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

from pipeline.errors import ImageError, SpecError, StoreError
from pipeline.sources.base import Page, Shard, Since, rules_of, since_of
from pipeline.sources.members import EVERYTHING, Choice, Opened, open_container, pages_of
from pipeline.spec import LabelSpec
from pipeline.storage import STRICT, Rules, Unread, canonical, identity, public, recorded

#: A large container is listed in pieces of this many members.
MEMBERS_A_SHARD: Final = 250_000
#: How many pages `check` searches for a first image.
_CHECK_PAGES: Final = 10

Version = tuple[str | None, int | None, int | None]


@dataclass(frozen=True, slots=True)
class MemberRange(Shard):
    """The members from `start` to before `stop` in the listing of one version of the container."""

    start: int = 0
    stop: int = EVERYTHING.stop
    version: Version | None = None


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """`src` is canonical, and may hold a signature."""

    src: str
    choice: Choice
    limit: int | None = None
    rules: Rules = STRICT
    since: Since | None = None

    @property
    def scope(self) -> dict[str, Any]:
        chosen = self.choice
        return {
            "kind": "archive",
            "src": recorded(self.src),
            "include": list(chosen.include),
            "exclude": list(chosen.exclude),
            "limit": self.limit,
            **({} if chosen.default_excludes else {"default_excludes": False}),
            **({"modified_since": self.since.text} if self.since else {}),
        }

    def check(self, dst: str | None = None) -> None:
        """A damaged container is not refused here: its row will say so."""
        del dst
        opened = self._open()
        try:
            looked = list(islice(pages_of(opened, self.choice), _CHECK_PAGES))
        except Unread as problem:
            raise problem.whole from None
        if not any(page.refs.num_rows for page in looked) and len(looked) < _CHECK_PAGES:
            raise SpecError("src", public(self.src), self._nothing(looked))

    def _nothing(self, looked: list[Page]) -> str:
        left_out = sum(page.excluded for page in looked)
        by_default = sum(sum(page.left_out.values()) for page in looked)
        if left_out and self.choice.include:
            return f"no image: --include leaves out all {left_out:,} members"
        if left_out:
            return f"no image among {left_out:,} members; name them with --include"
        if by_default:
            return f"all {by_default:,} are left out by default; --no-default-excludes takes them"
        return "an empty archive"

    def shards(self) -> Iterator[Shard]:
        opened = self._open()
        count = 0
        if self.limit is None:
            try:
                count = opened.kind.count(opened.file)
            except ImageError:
                count = 0  # the listing itself reports it
            except Unread as problem:
                raise problem.whole from None
        if count <= MEMBERS_A_SHARD:
            yield MemberRange("members")
            return
        starts = range(0, count, MEMBERS_A_SHARD)
        for start, stop in zip(starts, chain(starts[1:], [EVERYTHING.stop]), strict=True):
            yield MemberRange(f"members-{start}", start, stop, _version(opened))

    def refs(self, shard: Shard) -> Iterator[Page]:
        assert isinstance(shard, MemberRange)  # noqa: S101 - a shard of this source
        opened = self._open()
        if shard.version not in (None, _version(opened)):
            raise StoreError(f"{public(self.src)} was replaced while it was listed; run again")
        left = self.limit
        try:
            for page in pages_of(opened, self.choice, range(shard.start, shard.stop)):
                kept = page.as_new_as(self.since)
                if left is not None:
                    kept = kept._replace(refs=kept.refs.slice(0, left))
                    left -= kept.refs.num_rows
                yield kept
                if left == 0:
                    return
        except Unread as problem:
            raise problem.whole from None

    def contains(self, uri: str, member: str | None = None) -> bool | None:
        if uri not in {recorded(self.src), identity(self.src)}:
            return False
        inside = member is None or self.choice.verdicts()(member) is True
        return None if inside and (self.limit is not None or self.since) else inside

    def _open(self) -> Opened:
        try:
            return open_container(self.src, self.rules)
        except Unread as problem:
            raise problem.whole from None


def _version(opened: Opened) -> Version:
    want = opened.file.want
    return want.etag, want.size, want.modified_us


def open_archive(spec: LabelSpec) -> ArchiveSource:
    """The source for `spec.src`, a container."""
    return ArchiveSource(
        canonical(spec.src),
        Choice(spec.include, spec.exclude, spec.default_excludes),
        spec.limit,
        rules_of(spec),
        since_of(spec),
    )
