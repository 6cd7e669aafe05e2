"""Webhook: one message at the end of a run, signed as in https://www.standardwebhooks.com."""

import base64
import binascii
import hmac
import os
import time
from typing import Final

from pipeline.errors import SpecError
from pipeline.events.kinds import Finished
from pipeline.storage import deliver

#: Its value signs the message; "whsec_" and base64, as the standard writes it, or any text.
SECRET: Final = "NIGHTLABEL_NOTIFY_SECRET"  # noqa: S105 - where it is, not what it is

#: The minimum length in the standard: a receiver of a message could guess a shorter key.
KEY_BYTES: Final = 24

_PREFIX: Final = "whsec_"


def secret() -> bytes | None:
    """The key to sign with, None if there is none. Raises SpecError for an invalid one."""
    text = os.environ.get(SECRET)
    if not text:
        return None
    if not text.startswith(_PREFIX):
        return text.encode()
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise SpecError(SECRET, "…", f"is not base64 after {_PREFIX}") from None
    if len(key) < KEY_BYTES:
        raise SpecError(
            SECRET,
            "…",
            f"give {_PREFIX} and the base64 of at least {KEY_BYTES} bytes, since a shorter key "
            f"can be guessed: make one with `echo {_PREFIX}$(openssl rand -base64 {KEY_BYTES})`",
        )
    return key


def notify(url: str, event: Finished, key: bytes | None, *, patient: bool) -> str | None:
    """POST `event` to `url`; returns what went wrong, without the url's secrets, or None.

    With `patient` it tries five times within some 20 s, otherwise once within two seconds.
    """
    body = event.model_dump_json().encode()
    return deliver(
        url, body, _headers(event.run_id, body, key, round(time.time())), patient=patient
    )


def _headers(message: str, body: bytes, key: bytes | None, now: int) -> dict[str, str]:
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message,
        "webhook-timestamp": str(now),
    }
    if key is not None:
        signed = hmac.digest(key, f"{message}.{now}.".encode() + body, "sha256")
        headers["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
    return headers
