"""Folders of a web server, as the pages of links that it shows."""

import pytest

from pipeline.errors import DeniedError, MissingError, SpecError, StoreError
from pipeline.storage import list_pages
from pipeline.storage.listing import web as web_listing
from tests.sources.listed import source, uris
from tests.storage.servers import HERE, web_server

TOP = b"""<html><h1>Index of /in/</h1><a href="../">Parent</a> <a href="?C=N;O=D">Name</a>
<a href="b.jpg">b</a><A HREF='sub/'>sub</A><a href="/in/a%20b.jpg">a b</a><a href="b.jpg#x">b</a>
<a href="http://169.254.169.254/in/m.jpg">m</a><a href="/other/x.jpg">x</a><a href="deep/er.jpg">
<a href="http://[::1">odd</a><a>none</a><a href="gone/">gone</a><a href="./">here</a>"""


def listed(uri: str) -> list[str]:
    return [entry.uri for page in list_pages(uri, rules=HERE) for entry in page]


def test_links_right_below_their_page_are_followed() -> None:
    with web_server(
        {"/in/": TOP, "/in/sub/": b'<a href="c.png">c</a><a href="/in/">up</a>'}
    ) as url:
        assert sorted(listed(f"{url}/in/")) == [
            f"{url}/in/{name}" for name in ("a%20b.jpg", "b.jpg", "sub/c.png")
        ]
        assert listed(f"{url}/in/b") == [f"{url}/in/b.jpg"]
        assert uris(source(f"{url}/in", allow_private=True)) == [
            f"{url}/in/{name}" for name in ("a%20b.jpg", "b.jpg", "sub/c.png")
        ]


def test_what_cannot_be_listed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server({"/endless/": b'<a href="more/">'}) as url:
        with pytest.raises(MissingError):
            listed(f"{url}/nothing/")
        with pytest.raises(DeniedError):
            listed(f"{url}/hidden/")
        with pytest.raises(SpecError, match=r"^src=.*127\.0\.0\.1 is no public address"):
            source(f"{url}/in").check()
        monkeypatch.setattr(web_listing, "_PAGE_BYTES", 10)
        with pytest.raises(StoreError, match="an index of over"):
            listed(f"{url}/endless/")


def test_folders_without_end_are_not_followed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_listing, "_FOLDERS", 20)
    with (
        web_server() as url,
        pytest.raises(StoreError, match="over 20 folders"),
    ):
        listed(f"{url}/maze/")
