"""Check who sent a webhook: static headers before the body is read, signatures after.

Every comparison of a secret is `hmac.compare_digest` over SHA-256 digests of both sides, and
always over all valid secrets, so that neither time nor length tells how near a guess was. No
text raised here shows a credential, sent or configured.

`hook.auth` is one of, or several of these together (then all must hold):

    {"bearer": SECRETS}
    {"basic": {"username": "falco", "password": SECRETS}}
    {"header": {"name": "X-Token", "value": SECRETS}}
    {"hmac": {"header": "X-Signature", "secret": SECRETS, "prefix": "sha256=",
              "encoding": "hex" | "base64", "timestamp_header": "X-Timestamp", "window": 300}}
    {"routing_key": SECRETS}     PagerDuty's own place, in the body; only that source knows it
    {"none": True}               whoever can reach the door is believed

SECRETS is a `Secret` or a list of them: the old and the new one are both valid while a sender is
being changed over. A missing, empty or unknown scheme refuses everybody.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from responder.clock import SECOND, World
from responder.errors import ConfigError, Unauthorized
from responder.model import Secret
from responder.ports import HookInfo
from responder.text import suggestion

__all__ = ["Guard", "check_auth", "check_body", "check_headers", "matches", "needs_body", "secrets"]

_WINDOW = 300  # seconds a signed time may be off, both ways
_BODY_SCHEMES = frozenset({"hmac", "routing_key"})
_SCHEMES = frozenset({"bearer", "basic", "header", "none"}) | _BODY_SCHEMES
_KEYS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {  # scheme -> (required, optional)
    "basic": (frozenset({"username", "password"}), frozenset()),
    "header": (frozenset({"name", "value"}), frozenset()),
    "hmac": (
        frozenset({"header", "secret"}),
        frozenset({"prefix", "encoding", "timestamp_header", "window"}),
    ),
}
_SECRET_KEYS = {"basic": "password", "header": "value", "hmac": "secret"}


@dataclass(frozen=True, slots=True)
class Guard:
    """The two moments of one check, with the clock that signed times are held against."""

    world: World

    def before(self, headers: Mapping[str, str], hook: HookInfo) -> None:
        """Everything that can be known without the body; raises `Unauthorized`."""
        check_headers(headers, hook.auth)

    def whole(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Headers and body; raises `Unauthorized`."""
        check_headers(headers, hook.auth)
        check_body(headers, body, hook.auth, now=self.world.clock.now())


def needs_body(auth: Mapping[str, Any]) -> bool:
    """Whether the sender is only known once the body has been read."""
    return not _BODY_SCHEMES.isdisjoint(auth)


def check_headers(headers: Mapping[str, str], auth: Mapping[str, Any]) -> None:
    """Check the schemes that need no body; raises `Unauthorized`.

    For a signature it asks only that one was sent, so that a stranger's body is never read.
    `headers` has lower-case names; a header sent twice arrives joined by ", ", equals no secret
    and is therefore refused.
    """
    if not auth:
        raise Unauthorized("this hook has no auth configured, so it accepts nobody")
    for scheme, wanted in auth.items():
        check = _HEADER_CHECKS.get(scheme)
        if check is None:
            raise Unauthorized("this hook has an unknown kind of auth, so it accepts nobody")
        check(headers, wanted)


def check_body(
    headers: Mapping[str, str], body: bytes, auth: Mapping[str, Any], *, now: int
) -> None:
    """Check the signature when `auth` asks for one; raises `Unauthorized`. `now` is in µs."""
    if "hmac" in auth:
        _check_hmac(headers, body, auth["hmac"], now)


def matches(given: str, wanted: Iterable[Secret]) -> bool:
    """Whether `given` is one of the secrets; empty texts and empty secrets never match."""
    seen = hashlib.sha256(given.encode("utf-8", "surrogatepass")).digest()
    found = False
    for secret in wanted:
        known = hashlib.sha256(secret.reveal().encode("utf-8", "surrogatepass")).digest()
        found |= hmac.compare_digest(seen, known)
    return found and bool(given.strip(" \t\r\n\x00"))


def secrets(value: Any) -> tuple[Secret, ...]:
    """The secrets in a `Secret` or a list of them; anything else is none at all."""
    listed = value if isinstance(value, list | tuple) else (value,)
    return tuple(item for item in listed if isinstance(item, Secret))


# --------------------------------------------------------------------------- static headers


def _refuse(header: str) -> Unauthorized:
    return Unauthorized(f"{header} does not hold for this hook")


def _present(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name.lower(), "")
    if not value:
        raise Unauthorized(f"{name} is missing")
    return value


def _credentials(headers: Mapping[str, str], scheme: str) -> str:
    """What follows the scheme's name and one space (RFC 9110: the name in any case)."""
    word, _, rest = _present(headers, "Authorization").partition(" ")
    if word.lower() != scheme:
        raise Unauthorized(f"Authorization has another scheme, expected {scheme}")
    return rest


def _table(wanted: Any) -> Mapping[str, Any]:
    """The scheme's settings; a malformed one is empty and so lets nobody in."""
    return wanted if isinstance(wanted, Mapping) else {}


def _check_bearer(headers: Mapping[str, str], wanted: Any) -> None:
    if not matches(_credentials(headers, "bearer"), secrets(wanted)):
        raise _refuse("Authorization")


def _check_basic(headers: Mapping[str, str], wanted: Any) -> None:
    try:
        pair = base64.b64decode(_credentials(headers, "basic"), validate=True).decode()
    except (binascii.Error, ValueError):
        raise _refuse("Authorization") from None
    username, _, password = pair.partition(":")
    user_holds = matches(username, (Secret(str(_table(wanted).get("username", ""))),))
    password_holds = matches(password, secrets(_table(wanted).get("password")))
    if not (user_holds and password_holds):
        raise _refuse("Authorization")


def _check_header(headers: Mapping[str, str], wanted: Any) -> None:
    name = str(_table(wanted).get("name", ""))
    if not matches(_present(headers, name), secrets(_table(wanted).get("value"))):
        raise _refuse(name)


def _check_signed(headers: Mapping[str, str], wanted: Any) -> None:
    _present(headers, str(_table(wanted).get("header", "")))


def _check_none(_headers: Mapping[str, str], wanted: Any) -> None:
    if wanted is not True:
        raise Unauthorized("this hook has no auth configured, so it accepts nobody")


_HEADER_CHECKS: Mapping[str, Callable[[Mapping[str, str], Any], None]] = {
    "bearer": _check_bearer,
    "basic": _check_basic,
    "header": _check_header,
    "hmac": _check_signed,
    "routing_key": lambda _headers, _wanted: None,
    "none": _check_none,
}


# --------------------------------------------------------------------------- signatures


def _check_hmac(headers: Mapping[str, str], body: bytes, wanted: Any, now: int) -> None:
    """HMAC-SHA256 of the body, or of `time:body` where the sender signs its time too.

    GitHub: header `X-Hub-Signature-256`, prefix `sha256=`, hex.
    https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    Grafana: header `X-Grafana-Alerting-Signature`, hex, time in seconds.
    https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/
    """
    name = str(_table(wanted).get("header", ""))
    given = _present(headers, name)
    prefix = str(_table(wanted).get("prefix", ""))
    if not given.startswith(prefix):
        raise _refuse(name)
    signed = _signed_bytes(headers, body, wanted, now)
    encode = _encoder(_table(wanted).get("encoding", "hex"))
    valid = [
        Secret(encode(hmac.new(secret.reveal().encode(), signed, hashlib.sha256).digest()))
        for secret in secrets(_table(wanted).get("secret"))
        if secret
    ]
    if not matches(given[len(prefix) :], valid):
        raise _refuse(name)


def _encoder(encoding: Any) -> Callable[[bytes], str]:
    return _base64 if encoding == "base64" else bytes.hex


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _signed_bytes(headers: Mapping[str, str], body: bytes, wanted: Any, now: int) -> bytes:
    name = _table(wanted).get("timestamp_header")
    if not name:
        return body
    text = _present(headers, str(name))
    if not (text.isascii() and text.isdigit() and len(text) <= 12):  # noqa: PLR2004 - seconds
        raise _refuse(str(name))
    window = _table(wanted).get("window", _WINDOW)
    if abs(now - int(text) * SECOND) > window * SECOND:
        raise Unauthorized(f"{name} is more than {window} s away from this machine's clock")
    return text.encode() + b":" + body


# --------------------------------------------------------------------------- configuration


def check_auth(auth: Mapping[str, Any], where: str) -> None:
    """Check one hook's `auth` when the configuration is read; raises `ConfigError`.

    `where` names the place, such as `[hooks.falco-prod] auth`.
    """
    if not auth:
        raise ConfigError(f"{where}: expected one of {', '.join(sorted(_SCHEMES))}, got nothing")
    for scheme, value in auth.items():
        if scheme not in _SCHEMES:
            raise ConfigError(f'{where}: unknown kind "{scheme}"; {suggestion(scheme, _SCHEMES)}')
        if scheme == "none":
            _check_none_setting(auth, where)
        elif scheme in _KEYS:
            _check_table(value, scheme, f"{where}.{scheme}")
        else:
            _check_secrets(value, f"{where}.{scheme}")


def _check_none_setting(auth: Mapping[str, Any], where: str) -> None:
    if auth["none"] is not True or len(auth) > 1:
        raise ConfigError(f"{where}: none stands alone and is true, or is left out")


def _check_table(value: Any, scheme: str, where: str) -> None:
    required, optional = _KEYS[scheme]
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a table with {', '.join(sorted(required))}")
    for key in value:
        if key not in required | optional:
            raise ConfigError(
                f'{where}: unknown key "{key}"; {suggestion(key, required | optional)}'
            )
    for key in sorted(required - set(value)):
        raise ConfigError(f"{where}: {key} is missing")
    _check_secrets(value[_SECRET_KEYS[scheme]], f"{where}.{_SECRET_KEYS[scheme]}")
    for key in ("username", "name", "header"):
        if key in required and not (isinstance(value[key], str) and value[key]):
            raise ConfigError(f"{where}.{key}: expected a text that is not empty")
    if value.get("encoding", "hex") not in {"hex", "base64"}:
        raise ConfigError(f"{where}.encoding: expected hex or base64")
    window = value.get("window", _WINDOW)
    if type(window) is not int or window <= 0:
        raise ConfigError(f"{where}.window: expected whole seconds above 0")


def _check_secrets(value: Any, where: str) -> None:
    found = secrets(value)
    listed = len(value) if isinstance(value, list | tuple) else 1
    if not found or len(found) != listed or not all(found):
        raise ConfigError(f"{where}: expected a secret that is not empty, or a list of such")
