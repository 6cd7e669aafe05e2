"""Folder: small documents and whole files below one folder, on local disk, s3, gs or az."""

import os
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from pipeline.errors import SpecError, StoreError
from pipeline.storage.clients import aws
from pipeline.storage.clients.buckets import connect, is_bucket, odd
from pipeline.storage.clients.web import unquoted
from pipeline.storage.entry import Entry
from pipeline.storage.faults import Kind, foreign, judge
from pipeline.storage.file_ranges import (
    NEAR_IN_BUCKETS,
    NEAR_ON_DISK,
    BucketRanges,
    Ranges,
    disk_ranges,
)
from pipeline.storage.listing.local import utc
from pipeline.storage.local.beneath import UNFINISHED, Beneath, Found
from pipeline.storage.names import bucket_names
from pipeline.storage.names.uris import canonical, public, relative, scheme, split
from pipeline.storage.translate import border

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_BATCH = 1000

#: None of our documents is near this size; a larger one is not ours.
DOCUMENT_BYTES: Final = 16 * 2**20

#: An absolute path, one with an empty or a dot part, or a scheme.
_LEAVES = re.compile(r"(^|/)\.{0,2}(/|$)|^[A-Za-z][A-Za-z0-9+.-]*:/")


def leads_out(path: str) -> bool:
    """Whether a folder refuses `path`, which may be the name of a file that others made."""
    # Delta's log escapes its paths, and so are the uris that other readers get.
    return bool(_LEAVES.search(path) or _LEAVES.search(unquote(path)))


class Folder:
    """A folder by its uri; paths are relative to it, with `/` between their parts.

    Paths may come from documents that others wrote, so every method refuses a path that leads
    out of the folder, with StoreError.

    On local disk no link below the folder is followed, whoever created it and when; the
    folder itself may be a link (see `beneath`).

    Connects at first use, so it can be pickled. Writes are atomic: a reader sees the old bytes or
    the new ones (on local disk a temporary file is renamed; power loss may still lose the last
    writes). Every method raises MissingError, DeniedError or StoreError, each one clear line.
    """

    def __init__(self, uri: str) -> None:
        self.uri = canonical(uri).rstrip("/")
        self._root, key = split(self.uri)
        self._base = key.strip("/")
        if self._root != "file://" and not is_bucket(self.uri):
            known = "use a local folder, s3://, gs:// or az://"
            raise SpecError("dst", public(uri), f"cannot be written to; {known}")
        if is_bucket(self.uri) and (problem := bucket_names.problem_of(self._root)):
            raise SpecError("dst", public(uri), problem)
        if self._base and odd(self._base):
            raise SpecError(
                "dst", public(uri), "has an empty part, a dot part or a control character"
            )
        self.local = Beneath(f"/{self._base}") if self._root == "file://" else None

    def __repr__(self) -> str:
        return f"Folder({public(self.uri)!r})"

    @property
    def _store(self) -> "ObjectStore":
        return connect(self._root)

    def _key(self, path: str) -> str:
        self.refuse_outside(path)
        return f"{self._base}/{path}" if self._base and not self.local else path

    def refuse_outside(self, path: str) -> None:
        """Raises StoreError if `path` is not within this folder."""
        if leads_out(path):
            raise StoreError(f"{public(self.uri)}: {path!r} is not a path within it")

    def uri_of(self, path: str) -> str:
        return f"{self.uri}/{path}"

    def relative(self, uri: str) -> str:
        """The path of an entry's uri within this folder."""
        return relative(uri, self.uri)

    def read(self, path: str, *, at_most: int | None = None) -> bytes:
        """Raises MissingError if there is no such document, StoreError for one that is
        too large."""
        import obstore

        key = self._key(path)
        with border(self.uri_of(path)):
            if self.local:
                with self.local.open(path) as file:
                    self.refuse_large(path, os.fstat(file.fileno()).st_size, at_most)
                    return file.read()
            found = obstore.get(self._store, key)
            self.refuse_large(path, found.meta["size"], at_most)
            return found.bytes().to_bytes()

    @property
    def near(self) -> int:
        """Reading this many bytes takes as long as one more request (see `ranges`)."""
        return NEAR_ON_DISK if self.local else NEAR_IN_BUCKETS

    def ranges(self, path: str) -> AbstractContextManager[Ranges]:
        """A file to be read by ranges, open within the block."""
        key = self._key(path)
        if self.local:
            return disk_ranges(self.uri_of(path), self.local, path)
        with border(self.uri_of(path)):
            return nullcontext(BucketRanges(self.uri_of(path), self._store, key))

    def refuse_large(self, path: str, size: int, at_most: int | None) -> None:
        """Raises StoreError for a document of more bytes."""
        if at_most is not None and size > at_most:
            raise StoreError(
                f"{public(self.uri_of(path))} has {size:,} bytes, over the {at_most:,} that "
                "such a document may have: it is not ours"
            )

    def stat(self, path: str) -> Entry | None:
        """`modified` is by the store's own clock; None if there is no such document."""
        import obstore

        key = self._key(path)
        with border(self.uri_of(path)):
            if self.local:
                found = self.local.stat(path)
                return self._found(found) if found else None
            try:
                return self._entry(obstore.head(self._store, key))
            except FileNotFoundError as error:
                if judge(error).kind is Kind.NO_BUCKET:
                    raise
                return None

    def put(self, path: str, data: bytes) -> None:
        import obstore

        key = self._key(path)
        with border(self.uri_of(path)):
            if self.local:
                self.local.put(path, data)
            else:
                obstore.put(self._store, key, data)

    def create(self, path: str, data: bytes) -> bool:
        """Write unless it exists, in one atomic step: of many at once exactly one gets True."""
        import obstore

        key = self._key(path)
        with border(self.uri_of(path)):
            try:
                if self.local:
                    self.local.create(path, data)
                else:
                    obstore.put(self._store, key, data, mode="create")
            except foreign() as error:
                if judge(error).kind not in {Kind.EXISTS, Kind.CHANGED}:
                    raise
                return False
        return True

    def replace(self, path: str, data: bytes, etag: str) -> bool:
        """Write only if the document still has `etag`: of many at once exactly one gets True."""
        import obstore

        key = self._key(path)
        with border(self.uri_of(path)):
            if self.local:
                return self.local.replace(path, data, etag)
            try:
                obstore.put(self._store, key, data, mode={"e_tag": f'"{etag}"'})
            except foreign() as error:
                if judge(error).kind not in {Kind.EXISTS, Kind.CHANGED, Kind.MISSING}:
                    raise
                return False
        return True

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[Entry]:
        """Everything whose path begins with `prefix`, at any depth; only paths that
        sort `after`."""
        import obstore

        parent = prefix.rpartition("/")[0]
        if parent:
            self.refuse_outside(parent)
        below = f"{self._base}/" if self._base else ""
        with border(self.uri_of(prefix)):
            if self.local:
                found = self.local.files(prefix, after)
                yield from (self._found(f) for f in found if not UNFINISHED.search(f.path))
                return
            where = (below + parent).rstrip("/") or None
            offset = below + after if after else None
            for page in obstore.list(self._store, where, offset=offset, chunk_size=_BATCH):
                for meta in page:
                    if meta["path"].startswith(below + prefix):
                        yield self._entry(meta)

    def unfinished(self) -> Sequence[str]:
        """Files of interrupted writes on local disk, which `list` leaves out."""
        if not self.local:
            return []
        with border(self.uri):
            return sorted(f.path for f in self.local.files() if UNFINISHED.search(f.path))

    def delete(self, paths: Iterable[str]) -> None:
        """Delete documents; a missing one is no error. Empty local folders are deleted as well."""
        keys = [self._key(path) for path in paths]
        with border(self.uri):
            if self.local:
                for path in keys:
                    self.local.delete(path)
            elif scheme(self.uri) == "s3":
                self._delete_batches(keys)
            else:
                self._delete_each(keys)

    def _delete_batches(self, keys: Sequence[str]) -> None:
        import obstore

        for start in range(0, len(keys), _BATCH):
            obstore.delete(self._store, keys[start : start + _BATCH])

    def _delete_each(self, keys: Sequence[str]) -> None:
        import obstore

        for key in keys:  # gs and az refuse a whole batch if one is missing
            with suppress(FileNotFoundError):
                obstore.delete(self._store, key)

    def copy(self, source: str, target: str) -> None:
        """Copy within this folder; the bytes stay with the store. Replaces `target`."""
        import obstore

        keys = self._key(source), self._key(target)
        with border(self.uri_of(source)):
            if self.local:
                with self.local.open(source) as file:
                    self.local.put(target, file.read())
            else:
                obstore.copy(self._store, *keys)

    def ensure(self) -> None:
        """Make the local folder; for a bucket store check that the bucket answers."""
        with border(self.uri):
            if self.local:
                self.local.make()
        next(self.list(), None)

    def probe_conditional_put(self) -> None:
        """Raises StoreError if two `create` of one path both succeed: labels would not be safe."""
        path = f"_nightlabel/probe-{uuid.uuid4().hex}"
        try:
            self.create(path, b"1")  # False if its answer was lost: nobody else knows the name
            if self.create(path, b"2"):
                raise StoreError(
                    f"{public(self.uri)}: this store ignores conditional PUT (If-None-Match), "
                    "so two runs could overwrite each other; use a store that honours it"
                )
        finally:
            self.delete([path])

    @property
    def delta_url(self) -> str:
        """The argument for `deltalake.DeltaTable`: a local path, or a url with its path escaped.

        Raises SpecError for a `%`, which delta-rs 1.6 unescapes once too often.
        """
        if "%" in self._base:
            raise SpecError("dst", public(self.uri), "has a percent sign; use another name")
        if self.local:
            return self.local.top
        return f"{self._root}/{quote(self._base, safe='/=')}".rstrip("/")

    @property
    def delta_options(self) -> dict[str, str]:
        """`storage_options` for deltalake; it finds credentials in the environment itself.

        Only credentials that it does not find there (a profile's credential process, single
        sign-on) are passed. Never log the values.
        """
        if scheme(self.uri) != "s3":
            return dict(_DELTA_PATIENCE)
        with border(self.uri):
            return _DELTA_PATIENCE | _s3_delta_options(self._root.removeprefix("s3://"))

    def _found(self, found: Found) -> Entry:
        return Entry(self.uri_of(found.path), found.size, found.etag, utc(found.modified_ns))

    def _entry(self, meta: Any) -> Entry:
        path = meta["path"].removeprefix(f"{self._base}/" if self._base else "")
        return Entry(
            self.uri_of(path), meta["size"], unquoted(meta["e_tag"]), meta["last_modified"]
        )


#: The retries of `buckets.connect`; deltalake's own last three minutes, three times a commit.
_DELTA_PATIENCE = {
    "max_retries": "20",
    "retry_timeout": "30s",
    "backoff_config.init_backoff": "500ms",
    "backoff_config.max_backoff": "5s",
    "backoff_config.base": "3",
}

#: botocore's names for the credential sources that delta-rs supports as well.
_DELTA_FINDS = frozenset(
    {
        "env",
        "iam-role",
        "container-role",
        "assume-role-with-web-identity",
    }
)


def _s3_delta_options(bucket: str) -> dict[str, str]:
    access = aws.access(bucket)
    options = {"AWS_REGION": access.region}
    if access.endpoint is not None:
        options["AWS_ENDPOINT_URL"] = access.endpoint
        options["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"] = "false"
        options["AWS_ALLOW_HTTP"] = str(access.endpoint.startswith("http:")).lower()
    if access.credentials is None:
        options["AWS_SKIP_SIGNATURE"] = "true"
    elif access.credentials.method not in _DELTA_FINDS:
        frozen = access.credentials.get_frozen_credentials()
        options["AWS_ACCESS_KEY_ID"] = frozen.access_key
        options["AWS_SECRET_ACCESS_KEY"] = frozen.secret_key
        if frozen.token:
            options["AWS_SESSION_TOKEN"] = frozen.token
    return options
