"""Webhook delivery: POSTs a message to a web address that the user chose."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from pipeline.storage.clients.web import Rules, post
from pipeline.storage.faults import Answer, foreign, judge
from pipeline.storage.translate import with_retries

#: Time limit for one try. The user chose the address, so it may be in their own network.
_PATIENT: Final = Rules(allow_private=True, seconds=10.0)
_HURRIED: Final = Rules(allow_private=True, seconds=2.0)


def deliver(url: str, body: bytes, headers: Mapping[str, str], *, patient: bool) -> str | None:
    """POST `body`; returns None if it was accepted, else what went wrong.

    Redirects are not followed. Paths and queries of such addresses are secrets, so only the
    host is named.
    """
    call = partial(post, url, body, headers, _PATIENT if patient else _HURRIED)
    try:
        with_retries(call) if patient else call()
    except Answer as error:
        return f"{_host(url)} answered {error.status}"
    except foreign() as error:
        return f"{_host(url)}: {judge(error).detail}"
    return None


def _host(url: str) -> str:
    try:
        return parse_url(url).host or "no host"
    except LocationParseError:
        return "an invalid address"
