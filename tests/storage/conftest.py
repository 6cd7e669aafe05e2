from collections.abc import Iterator

import pytest

from pipeline.storage import translate
from tests.storage.servers import web_server


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with web_server(
        {"/plain.jpg": b"jpeg", "/large.jpg": bytes(4096), "/bucket/new.jpg": b"new"}
    ) as url:
        yield url


@pytest.fixture
def few_tries(monkeypatch) -> None:
    monkeypatch.setattr(translate, "TRIES", 2)
