"""Check who sent a webhook: static headers before the body is read, signatures after.

`hook.auth` is one of, or several of these together (then all must hold):

    {"bearer": SECRETS}
    {"basic": {"username": "falco", "password": SECRETS}}   a refusal invites to send it (SNS waits
                                                            for that)
    {"header": {"name": "X-Token", "value": SECRETS}}
    {"query": {"name": "token", "value": SECRETS}}          in the address, for senders that can set
                                                            no header (Falco, Tracee, Quay)
    {"proxy": {"header": "X-Client-Subject", "subjects": ["CN=falco"],
               "proof_header": "X-Proxy-Proof", "proof": SECRETS}}
                                                            a client certificate that a proxy has
                                                            checked; the proof is the proxy's own
    {"certificate": {"names": ["falco"]}}                   one that the server itself has checked
                                                            (server.tls.client_ca)
    {"hmac": {"header": "X-Signature", "secret": SECRETS, "prefix": "sha256=",
              "encoding": "hex" | "base64", "many": True,
              "timestamp_header": "X-Timestamp", "window": 300}}
    {"standard": {"secret": SECRETS, "window": 300}}        Standard Webhooks (GitLab and others)
    {"sns": {"topics": [ARN], "certificates": SECRETS or "hosts": [HOST]}}   see `_sns`
    {"oidc": {"issuer": …, "audience": …, "email": …, "keys_url": URL or "keys": SECRETS}}
                                                            see `_oidc`
    {"routing_key": SECRETS}     PagerDuty's own place, in the body; only that source knows it
    {"none": True}               whoever can reach the door is believed

SECRETS is a `Secret` or a list of them: the old and the new one are both valid while a sender is
being changed over. A missing, empty or unknown scheme refuses everybody. A query's values come
among the headers under `query:NAME`, a certificate's names under `tls:names`, which no header can
be called.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from integrations._keys import KeyRing
from integrations._oidc import check_oidc, check_oidc_settings, oidc_key_url
from integrations._secrets import matches, present, refuse, secrets, table
from integrations._signatures import check_hmac, check_standard, keys_of
from integrations._sns import (
    check_sns,
    check_sns_settings,
    check_topic,
    confirmation_url,
    sns_key_url,
)
from responder.clock import World
from responder.errors import ConfigError, Unauthorized
from responder.model import Secret
from responder.ports import HookInfo
from responder.text import suggestion

__all__ = ["Guard", "check_auth", "check_body", "check_headers", "matches", "needs_body", "secrets"]

_WINDOW = 300  # seconds a signed time may be off, both ways
# scheme -> the only source that checks it; with any other source it would let everybody in
OWN: Mapping[str, str] = {"routing_key": "pagerduty"}
_SIGNED = {"hmac": check_hmac, "standard": check_standard}
_PUBLIC = {"sns": check_sns_settings, "oidc": check_oidc_settings}  # signed with a private key
_BODY_SCHEMES = frozenset({*_SIGNED, *OWN, "sns"})
_SCHEMES = (
    frozenset({"bearer", "basic", "header", "query", "proxy", "certificate", "oidc", "none"})
    | _BODY_SCHEMES
)
_KEYS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {  # scheme -> (required, optional)
    "basic": (frozenset({"username", "password"}), frozenset()),
    "header": (frozenset({"name", "value"}), frozenset()),
    "query": (frozenset({"name", "value"}), frozenset()),
    "proxy": (frozenset({"header", "subjects", "proof_header", "proof"}), frozenset()),
    "hmac": (
        frozenset({"header", "secret"}),
        frozenset({"prefix", "encoding", "many", "timestamp_header", "window"}),
    ),
    "standard": (frozenset({"secret"}), frozenset({"window"})),
}
_SECRET_KEYS = {
    "basic": "password",
    "header": "value",
    "query": "value",
    "proxy": "proof",
    "hmac": "secret",
    "standard": "secret",
}


@dataclass(frozen=True, slots=True)
class Guard:
    """The two moments of one check, with the clock that signed times are held against."""

    world: World
    ring: KeyRing | None = None  # public keys that were fetched; without it none can be

    async def prepare(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Fetch the public keys that `whole` will need; the only I/O of a hook's check.

        Raises `Unauthorized` for an address that is not allowed, `StoreUnavailable` when keys
        cannot be had now.
        """
        if self.ring is None or _PUBLIC.keys().isdisjoint(hook.auth):
            return
        self.before(headers, hook)
        if "sns" in hook.auth and (url := sns_key_url(headers, body, hook.auth["sns"])):
            await self.ring.refresh(url)
        if "oidc" in hook.auth and (url := oidc_key_url(hook.auth["oidc"])):
            await self.ring.refresh(url)

    async def follow(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Confirm a subscription, where the hook allows it; checks everything once more.

        Raises `StoreUnavailable` when the address cannot be opened now: SNS then asks again.
        """
        if self.ring is None or "sns" not in hook.auth or hook.options.get("confirm") is not True:
            return
        self.whole(headers, body, hook)
        if url := confirmation_url(body, hook.auth["sns"]):
            await self.ring.open(url)

    def before(self, headers: Mapping[str, str], hook: HookInfo) -> None:
        """Everything that can be known without the body; raises `Unauthorized`."""
        check_headers(headers, hook.auth)
        if "oidc" in hook.auth and not oidc_key_url(hook.auth["oidc"]):
            check_oidc(headers, hook.auth["oidc"], self.world.clock.now(), None)
        for scheme in OWN.keys() & hook.auth.keys():
            if hook.source != OWN[scheme]:
                raise Unauthorized(f"only {OWN[scheme]} can check {scheme}, so nobody is accepted")

    def whole(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Headers and body; raises `Unauthorized`."""
        self.before(headers, hook)
        now = self.world.clock.now()
        check_body(headers, body, hook.auth, now=now)
        if "sns" in hook.auth:
            check_sns(headers, body, hook.auth["sns"], now, self.ring)
        if "oidc" in hook.auth:
            check_oidc(headers, hook.auth["oidc"], now, self.ring)


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
    """Check the signatures that `auth` asks for; raises `Unauthorized`. `now` is in µs."""
    for scheme, check in _SIGNED.items():
        if scheme in auth:
            check(headers, body, auth[scheme], now)


# --------------------------------------------------------------------------- static headers

_CHALLENGE = 'Basic realm="responder", charset="UTF-8"'


def _credentials(headers: Mapping[str, str], scheme: str) -> str:
    """What follows the scheme's name and one space (RFC 9110: the name in any case)."""
    word, _, rest = present(headers, "Authorization").partition(" ")
    if word.lower() != scheme:
        raise Unauthorized(f"Authorization has another scheme, expected {scheme}")
    return rest


def _check_bearer(headers: Mapping[str, str], wanted: Any) -> None:
    if not matches(_credentials(headers, "bearer"), secrets(wanted)):
        raise refuse("Authorization")


def _check_basic(headers: Mapping[str, str], wanted: Any) -> None:
    """Name and password; a refusal says that basic is wanted, which makes some senders send it."""
    try:
        pair = base64.b64decode(_credentials(headers, "basic"), validate=True).decode()
    except Unauthorized as failure:
        raise Unauthorized(str(failure), challenge=_CHALLENGE) from None
    except (binascii.Error, ValueError):
        raise refuse("Authorization", _CHALLENGE) from None
    username, _, password = pair.partition(":")
    user_holds = matches(username, (Secret(str(table(wanted).get("username", ""))),))
    password_holds = matches(password, secrets(table(wanted).get("password")))
    if not (user_holds and password_holds):
        raise refuse("Authorization", _CHALLENGE)


def _check_header(headers: Mapping[str, str], wanted: Any) -> None:
    name = str(table(wanted).get("name", ""))
    if not matches(present(headers, name), secrets(table(wanted).get("value"))):
        raise refuse(name)


def _check_query(headers: Mapping[str, str], wanted: Any) -> None:
    name = f"query:{table(wanted).get('name', '')}"
    if not matches(present(headers, name), secrets(table(wanted).get("value"))):
        raise refuse(name)


def _check_proxy(headers: Mapping[str, str], wanted: Any) -> None:
    """The subject of a certificate, believed only beside the proxy's own secret.

    Without the proof anybody who reaches this server past the proxy could write the header.
    """
    wanted = table(wanted)
    proof = str(wanted.get("proof_header", ""))
    proved = matches(present(headers, proof), secrets(wanted.get("proof")))
    name = str(wanted.get("header", ""))
    subjects = [Secret(str(subject)) for subject in _listed(wanted.get("subjects"))]
    named = matches(present(headers, name), subjects)
    if not (proved and named):
        raise refuse(name)


def _check_certificate(headers: Mapping[str, str], wanted: Any) -> None:
    """One of the names in the certificate is one of those that the hook wants."""
    known = [Secret(str(name)) for name in _listed(table(wanted).get("names"))]
    given = present(headers, "tls:names").split("\n")
    if not any(matches(name, known) for name in given):
        raise refuse("the client certificate")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _check_signed(headers: Mapping[str, str], wanted: Any) -> None:
    present(headers, str(table(wanted).get("header", "")))


def _check_token_sent(headers: Mapping[str, str], _wanted: Any) -> None:
    _credentials(headers, "bearer")


def _check_standard_sent(headers: Mapping[str, str], _wanted: Any) -> None:
    present(headers, "webhook-signature")


def _check_none(_headers: Mapping[str, str], wanted: Any) -> None:
    if wanted is not True:
        raise Unauthorized("this hook has no auth configured, so it accepts nobody")


_HEADER_CHECKS: Mapping[str, Callable[[Mapping[str, str], Any], None]] = {
    "bearer": _check_bearer,
    "basic": _check_basic,
    "header": _check_header,
    "query": _check_query,
    "proxy": _check_proxy,
    "certificate": _check_certificate,
    "hmac": _check_signed,
    "standard": _check_standard_sent,
    "sns": check_topic,
    "oidc": _check_token_sent,
    **dict.fromkeys(OWN, lambda _headers, _wanted: None),
    "none": _check_none,
}


# --------------------------------------------------------------------------- configuration


def check_auth(auth: Mapping[str, Any], where: str, source: str = "") -> None:
    """Check one hook's `auth` when the configuration is read; raises `ConfigError`.

    `where` names the place, such as `[hooks.falco-prod] auth`.
    """
    if not auth:
        raise ConfigError(f"{where}: expected one of {', '.join(sorted(_SCHEMES))}, got nothing")
    for scheme, value in auth.items():
        if scheme not in _SCHEMES:
            raise ConfigError(f'{where}: unknown kind "{scheme}"; {suggestion(scheme, _SCHEMES)}')
        if source and OWN.get(scheme, source) != source:
            raise ConfigError(f"{where}: {scheme} is for hooks of source {OWN[scheme]} only")
        if scheme == "none":
            _check_none_setting(auth, where)
        elif scheme == "certificate":
            names = value.get("names") if isinstance(value, Mapping) and len(value) == 1 else None
            _check_texts(names, f"{where}.certificate.names")
        elif scheme in _PUBLIC:
            _PUBLIC[scheme](value, f"{where}.{scheme}")
        elif scheme in _KEYS:
            _check_settings(value, scheme, f"{where}.{scheme}")
        else:
            _check_secrets(value, f"{where}.{scheme}")


def _check_none_setting(auth: Mapping[str, Any], where: str) -> None:
    if auth["none"] is not True or len(auth) > 1:
        raise ConfigError(f"{where}: none stands alone and is true, or is left out")


def _check_settings(value: Any, scheme: str, where: str) -> None:
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
    for key in ("username", "name", "header", "proof_header"):
        if key in required and not (isinstance(value[key], str) and value[key]):
            raise ConfigError(f"{where}.{key}: expected a text that is not empty")
    if value.get("encoding", "hex") not in {"hex", "base64"}:
        raise ConfigError(f"{where}.encoding: expected hex or base64")
    if scheme == "proxy":
        _check_texts(value["subjects"], f"{where}.subjects")
    if scheme == "standard" and None in keys_of(value["secret"]):
        raise ConfigError(f"{where}.secret: what follows whsec_ is not base64")
    if type(value.get("many", False)) is not bool:
        raise ConfigError(f"{where}.many: expected true or false")
    window = value.get("window", _WINDOW)
    if type(window) is not int or window <= 0:
        raise ConfigError(f"{where}.window: expected whole seconds above 0")


def _check_texts(value: Any, where: str) -> None:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
        raise ConfigError(f"{where}: expected a list of texts that are not empty")


def _check_secrets(value: Any, where: str) -> None:
    found = secrets(value)
    listed = len(value) if isinstance(value, list | tuple) else 1
    if not found or len(found) != listed or not all(found):
        raise ConfigError(f"{where}: expected a secret that is not empty, or a list of such")
