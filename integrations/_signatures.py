"""Check signatures over a body: HMAC-SHA256 in the forms that senders use.

Never: compares a signature with `==`, or believes a time that the signature does not cover.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Any

from integrations._secrets import matches, present, refuse, secrets, table
from responder.clock import SECOND
from responder.errors import Unauthorized
from responder.model import Secret

__all__ = ["check_hmac", "check_standard", "keys_of"]

_WINDOW = 300  # seconds a signed time may be off, both ways
_STANDARD_PREFIX = "whsec_"
_SIGNATURES_MAX = 16  # in one header


def check_hmac(headers: Mapping[str, str], body: bytes, wanted: Any, now: int) -> None:
    """HMAC-SHA256 of the body, or of `time:body` where the sender signs its time too.

    Raises `Unauthorized`. With `many` the header holds several, joined by commas: one must hold.
    GitHub: header `X-Hub-Signature-256`, prefix `sha256=`, hex.
    https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    Grafana: header `X-Grafana-Alerting-Signature`, hex, time in seconds.
    https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/
    PagerDuty: header `X-PagerDuty-Signature`, prefix `v1=`, hex, many while keys are changed over.
    https://developer.pagerduty.com/docs/verifying-webhook-signatures
    """
    wanted = table(wanted)
    name = str(wanted.get("header", ""))
    prefix = str(wanted.get("prefix", ""))
    given = present(headers, name)
    signed = _signed_bytes(headers, body, wanted, now)
    encode = _encoder(wanted.get("encoding", "hex"))
    valid = [
        Secret(encode(hmac.new(secret.reveal().encode(), signed, hashlib.sha256).digest()))
        for secret in secrets(wanted.get("secret"))
        if secret
    ]
    signatures = given.split(",", _SIGNATURES_MAX) if wanted.get("many") is True else [given]
    if not _any_holds(signatures, prefix, valid):
        raise refuse(name)


def check_standard(headers: Mapping[str, str], body: bytes, wanted: Any, now: int) -> None:
    """Standard Webhooks: HMAC-SHA256 of `id.time.body`, base64 after `v1,`, several by spaces.

    Raises `Unauthorized`. A secret that begins with `whsec_` is base64 after that, else it is
    taken as it is. https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    wanted = table(wanted)
    message = present(headers, "webhook-id")
    moment = _moment(headers, "webhook-timestamp", wanted, now)
    signed = f"{message}.{moment}.".encode("utf-8", "surrogatepass") + body
    valid = [
        Secret(_base64(hmac.new(key, signed, hashlib.sha256).digest()))
        for key in keys_of(wanted.get("secret"))
        if key
    ]
    signatures = present(headers, "webhook-signature").split(" ", _SIGNATURES_MAX)
    if not _any_holds(signatures, "v1,", valid):
        raise refuse("webhook-signature")


def keys_of(value: Any) -> list[bytes | None]:
    """The keys of Standard Webhooks' secrets; None for one that is not base64 where it must be."""
    keys: list[bytes | None] = []
    for secret in secrets(value):
        text = secret.reveal()
        if not text.startswith(_STANDARD_PREFIX):
            keys.append(text.encode("utf-8", "surrogatepass"))
            continue
        try:
            keys.append(base64.b64decode(text.removeprefix(_STANDARD_PREFIX), validate=True))
        except (binascii.Error, ValueError):
            keys.append(None)
    return keys


def _any_holds(signatures: list[str], prefix: str, valid: list[Secret]) -> bool:
    """Whether one of them holds; all are compared, so that time does not tell which."""
    held = [text.startswith(prefix) and matches(text[len(prefix) :], valid) for text in signatures]
    return any(held)


def _encoder(encoding: Any) -> Callable[[bytes], str]:
    return _base64 if encoding == "base64" else bytes.hex


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _signed_bytes(
    headers: Mapping[str, str], body: bytes, wanted: Mapping[str, Any], now: int
) -> bytes:
    name = wanted.get("timestamp_header")
    if not name:
        return body
    return _moment(headers, str(name), wanted, now).encode() + b":" + body


def _moment(headers: Mapping[str, str], name: str, wanted: Mapping[str, Any], now: int) -> str:
    """The signed time as text, when it is near enough to now; raises `Unauthorized`."""
    text = present(headers, name)
    if not (text.isascii() and text.isdigit() and len(text) <= 12):  # noqa: PLR2004 - seconds
        raise refuse(name)
    window = wanted.get("window", _WINDOW)
    if abs(now - int(text) * SECOND) > window * SECOND:
        raise Unauthorized(f"{name} is more than {window} s away from this machine's clock")
    return text
