"""Check Amazon SNS's signatures: RSA over named fields, by a certificate that SNS publishes.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html

    auth = {sns = {topics = ["arn:aws:sns:…"], certificates = [{file = "sns.pem"}]}}
    auth = {sns = {topics = ["arn:aws:sns:…"], hosts = ["sns.eu-west-1.amazonaws.com"]}}

`certificates` are given by hand and fetched by nobody. With `hosts` the one that a message names
is fetched beforehand (see `_keys`), when it stands at one of these hosts, under SNS's own name.

With `options = {confirm = true}` a subscription is confirmed by opening the address that SNS sent,
when the message is signed, of a listed topic, and the address is at one of `hosts`.

Never: believes a certificate from elsewhere, a topic that is not listed, or a message of long ago.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from integrations._json import decode
from integrations._keys import KeyRing
from integrations._secrets import present, secrets, table
from integrations._values import micros
from responder.clock import SECOND
from responder.errors import BadAlert, ConfigError, Unauthorized

__all__ = ["check_sns", "check_sns_settings", "check_topic", "confirmation_url", "sns_key_url"]

_WINDOW = 300  # seconds: SNS's own retries end within two minutes; no longer than repeats are known
_URL = re.compile(r"https://([a-z0-9.-]{1,100})/SimpleNotificationService-[0-9a-f]{32}\.pem")
_HOST = re.compile(r"sns\.[a-z]{2}(?:-[a-z]{2,9}){1,3}-[0-9]\.amazonaws\.com(?:\.cn)?")
_HASHES: Mapping[Any, hashes.HashAlgorithm] = {
    "1": hashes.SHA1(),  # noqa: S303 - what a topic uses until SignatureVersion 2 is chosen
    "2": hashes.SHA256(),
}
_SIGNED: Mapping[Any, tuple[str, ...]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    **dict.fromkeys(
        ("SubscriptionConfirmation", "UnsubscribeConfirmation"),
        ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}


def check_topic(headers: Mapping[str, str], wanted: Any) -> None:
    """Refuse another topic by the header alone, before the body is read."""
    if present(headers, "x-amz-sns-topic-arn") not in _texts(wanted, "topics"):
        raise Unauthorized("x-amz-sns-topic-arn is no topic of this hook")


def sns_key_url(headers: Mapping[str, str], body: bytes, wanted: Any) -> str:
    """The address of the certificate that must be fetched first; empty when none may be."""
    if secrets(table(wanted).get("certificates")):
        return ""
    check_topic(headers, wanted)
    return _url(_message(body, wanted), wanted)


def check_sns(
    headers: Mapping[str, str], body: bytes, wanted: Any, now: int, ring: KeyRing | None
) -> None:
    """Check topic, time and signature; raises `Unauthorized`."""
    check_topic(headers, wanted)
    message = _message(body, wanted)
    window = table(wanted).get("window", _WINDOW)
    if abs(now - micros(message.get("Timestamp"))) > window * SECOND:
        raise Unauthorized(f"Timestamp is more than {window} s away from this machine's clock")
    given = secrets(table(wanted).get("certificates"))
    pems = [secret.reveal().encode() for secret in given]
    url = "" if given else _url(message, wanted)
    if url and ring is not None:
        pems = [ring.held(url)]
    if not any(_holds(message, pem, now) for pem in pems):
        raise Unauthorized("Signature does not hold for this hook")


def confirmation_url(body: bytes, wanted: Any) -> str:
    """What confirms a subscription of an allowed topic; empty for every other message.

    It is SNS's own, for this topic, at a host of the hook. Only ever for a body that was checked.
    """
    message = _message(body, wanted)
    parts = urlsplit(_plain(message.get("SubscribeURL")))
    asked = parse_qs(parts.query)
    holds = (
        message.get("Type") == "SubscriptionConfirmation"  # the other one would undo a leaving
        and parts.scheme == "https"
        and parts.netloc in _texts(wanted, "hosts")
        and asked.get("Action") == ["ConfirmSubscription"]
        and asked.get("TopicArn") == [message["TopicArn"]]
    )
    return parts.geturl() if holds else ""


def _message(body: bytes, wanted: Any) -> Mapping[str, Any]:
    """The envelope, when it is one of an allowed topic."""
    try:
        message = decode(body)
    except BadAlert:
        message = None
    if not isinstance(message, dict) or message.get("TopicArn") not in _texts(wanted, "topics"):
        raise Unauthorized("the body is no message of a topic of this hook")
    return message


def _url(message: Mapping[str, Any], wanted: Any) -> str:
    text = message.get("SigningCertURL")
    found = _URL.fullmatch(text) if isinstance(text, str) else None
    if found is None or found[1] not in _texts(wanted, "hosts"):
        raise Unauthorized("SigningCertURL is no certificate at a host of this hook")
    return found[0]


def _holds(message: Mapping[str, Any], pem: bytes, now: int) -> bool:
    """Whether the message is signed by this certificate, which is valid now."""
    algorithm = _HASHES.get(_plain(message.get("SignatureVersion")))
    signed = _signed_bytes(message)
    try:
        signature = base64.b64decode(str(message.get("Signature")), validate=True)
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
    except (binascii.Error, ValueError, TypeError):
        return False
    moment = dt.datetime.fromtimestamp(now / SECOND, dt.UTC)
    valid = certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc
    if algorithm is None or not signed or not valid or not isinstance(key, rsa.RSAPublicKey):
        return False
    try:
        key.verify(signature, signed, padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        return False
    return True


def _signed_bytes(message: Mapping[str, Any]) -> bytes:
    """The named fields that are there, each as name, line feed, value, line feed."""
    names = _SIGNED.get(_plain(message.get("Type")), ())
    pairs = [(name, message[name]) for name in names if message.get(name) is not None]
    if not all(isinstance(value, str) for _, value in pairs):
        return b""
    return "".join(f"{name}\n{value}\n" for name, value in pairs).encode("utf-8", "replace")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(wanted: Any, key: str) -> tuple[str, ...]:
    found = table(wanted).get(key)
    return tuple(text for text in found if text) if isinstance(found, list | tuple) else ()


def check_sns_settings(value: Any, where: str) -> None:
    """Check the settings when the configuration is read; raises `ConfigError`."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a table with topics, and certificates or hosts")
    for key in value:
        if key not in ("topics", "certificates", "hosts", "window"):
            raise ConfigError(f'{where}: unknown key "{key}"')
    for topic in _listed(value, "topics", where):
        if not topic.startswith("arn:"):
            raise ConfigError(f"{where}.topics: expected ARNs of topics")
    if "certificates" in value:
        for secret in secrets(value["certificates"]) or (None,):
            try:
                x509.load_pem_x509_certificate((secret.reveal() if secret else "").encode())
            except ValueError:
                raise ConfigError(f"{where}.certificates: expected certificates as PEM") from None
    if "hosts" in value or "certificates" not in value:
        for host in _listed(value, "hosts", where):
            if not _HOST.fullmatch(host):
                raise ConfigError(f"{where}.hosts: expected names like sns.eu-west-1.amazonaws.com")
    window = value.get("window", _WINDOW)
    if type(window) is not int or window <= 0:
        raise ConfigError(f"{where}.window: expected whole seconds above 0")


def _listed(value: Mapping[str, Any], key: str, where: str) -> list[str]:
    found = value.get(key)
    if not isinstance(found, list) or not found or not all(isinstance(v, str) for v in found):
        raise ConfigError(f"{where}.{key}: expected a list of texts that is not empty")
    return found
