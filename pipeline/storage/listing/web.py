"""Lists the folders of a web server that shows them as pages of links (Apache, nginx, Caddy)."""

from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urljoin

from pipeline.errors import ImageError, MissingError, StoreError
from pipeline.storage.clients import web
from pipeline.storage.entry import UNKNOWN_SIZE, UNKNOWN_TIME, Entry
from pipeline.storage.names.uris import public
from pipeline.storage.translate import border, with_retries

_PAGE_BYTES: Final = 16 * 2**20
#: A server may invent folders without end.
_FOLDERS: Final = 100_000


def walk(folder: str, rules: web.Rules) -> Iterator[Entry]:
    """Files at any depth below `folder`, a uri that ends in `/`; their size and time are unknown.

    Only links to a name directly below their page are followed, so no file comes twice. A folder
    that no longer exists when it is read counts as empty, except the first. Raises MissingError,
    DeniedError, StoreError, SpecError.
    """
    left, known = [folder], 1
    while left:
        page = left.pop()
        for link in _names_below(page, rules, first=known == 1):
            if not link.endswith("/"):
                yield Entry(link, UNKNOWN_SIZE, None, UNKNOWN_TIME)
            elif known < _FOLDERS:
                left.append(link)
                known += 1
            else:
                raise StoreError(f"{public(folder)}: over {_FOLDERS:,} folders; list them yourself")


def _names_below(page: str, rules: web.Rules, *, first: bool) -> list[str]:
    try:
        get = partial(web.get, page, rules, max_bytes=_PAGE_BYTES)
        with border(page):
            body = with_retries(get, at_most=rules.seconds)
    except ImageError:
        raise StoreError(f"{public(page)}: an index of over {_PAGE_BYTES >> 20} MiB") from None
    except MissingError:
        if first:
            raise
        return []
    parser = _Links(page)
    parser.feed(body.data.decode("utf-8", "replace"))
    return sorted(parser.found)


class _Links(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self._page = page
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href") if tag == "a" else None
        if target is None:
            return
        try:
            link = urljoin(self._page, target)
        except ValueError:
            return
        name = link.removeprefix(self._page)
        below = link.startswith(self._page) and name.strip("/")
        if below and not {"?", "#"} & set(name) and "/" not in name.rstrip("/"):
            self.found.add(link)
