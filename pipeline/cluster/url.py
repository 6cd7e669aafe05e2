"""The url of a job server. This file does not import Ray, so an invalid url is refused at once."""

from typing import Final
from urllib.parse import urlsplit

from pipeline.errors import SpecError
from pipeline.storage import public, redacted

_WANTED: Final = "give the url of the dashboard of the cluster's head, such as http://head:8265"
_KINDS: Final = {
    "ray": "is an address of Ray Client, but only a job server accepts jobs",
    "auto": "is for `nightlabel label`; only a job server accepts jobs",
    "local": "is for `nightlabel label`; only a job server accepts jobs",
}


def job_server_url(address: str) -> str:
    """`http://head:8265`, also for `head:8265`. Raises SpecError for an invalid url."""
    scheme, slashes, _ = address.partition("://")
    if (kind := scheme.lower()) in _KINDS:
        raise SpecError("address", redacted(public(address)), f"{_KINDS[kind]}: {_WANTED}")
    url = address if slashes else f"http://{address}"
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise SpecError(
            "address", redacted(public(address)), f"is not a job server's url: {_WANTED}"
        )
    return url.rstrip("/")
