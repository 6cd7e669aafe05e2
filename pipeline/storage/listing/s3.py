"""One page of an S3 listing: signed by botocore, fetched and parsed here.

obstore's listing normalises or refuses some keys (`a//b`, `/a`, `dir/`) and has no page size, and
botocore's own parser costs 40 times as much as this one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

from pipeline.storage.clients import aws, web
from pipeline.storage.entry import UNKNOWN_TIME, Entry, in_utc
from pipeline.storage.faults import Damaged


@dataclass(frozen=True, slots=True)
class Page:
    entries: list[Entry]
    prefixes: list[str]  # uris, each ending in the delimiter
    token: str | None  # of the next page


def list_page(bucket: str, prefix: str, **params: Any) -> Page:
    """ListObjectsV2; `params` are its own (StartAfter, ContinuationToken, Delimiter, MaxKeys).

    Raises Answer, Damaged and what urllib3 and botocore raise.
    """
    url = aws.signed_url(bucket, "list_objects_v2", Prefix=prefix, **params)
    data = web.get(url, web.OURS).data
    try:
        root = ET.fromstring(data)  # noqa: S314 - the store's own answer; expat bounds entities
    except ET.ParseError:
        raise Damaged("the listing is not XML") from None
    space = root.tag[: root.tag.find("}") + 1]
    if root.tag != f"{space}ListBucketResult":
        # A gateway's page, or an error sent as a 200: neither means that there are no objects.
        raise Damaged("the answer is not a listing")
    encoded = root.findtext(f"{space}EncodingType") == "url"
    more = root.findtext(f"{space}IsTruncated") == "true"
    token = root.findtext(f"{space}NextContinuationToken") if more else None
    if more and not token:
        raise Damaged("the listing has more and does not say where")
    return Page(
        list(_entries(root, space, f"s3://{bucket}/", encoded)),
        [
            f"s3://{bucket}/{_key(found.findtext(f'{space}Prefix'), encoded)}"
            for found in root.iter(f"{space}CommonPrefixes")
        ],
        token,
    )


def _entries(root: ET.Element, space: str, base: str, encoded: bool) -> Iterator[Entry]:
    skip = len(space)
    for found in root.iter(f"{space}Contents"):
        field = {element.tag[skip:]: element.text for element in found}
        etag = field.get("ETag")
        yield Entry(
            base + _key(field["Key"], encoded),
            int(field["Size"] or 0),
            etag.strip('"') if etag else None,
            _time(field.get("LastModified")),
        )


def _time(text: str | None) -> datetime:
    """A time beyond the calendar counts as unknown: the etag distinguishes versions."""
    try:
        return in_utc(datetime.fromisoformat(text)) if text else UNKNOWN_TIME
    except ValueError:
        return UNKNOWN_TIME


def _key(text: str | None, encoded: bool) -> str:
    if text is None:
        return ""
    return unquote_plus(text) if encoded and ("%" in text or "+" in text) else text
