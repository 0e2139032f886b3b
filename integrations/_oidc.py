"""Check OIDC tokens, as Google Pub/Sub signs its pushes: a JWT in `Authorization: Bearer`.

https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions

    auth = {oidc = {issuer = "https://accounts.google.com", audience = "…", email = "…",
                    keys_url = "https://www.googleapis.com/oauth2/v3/certs"}}

Instead of `keys_url`, `keys = {file = "jwks.json"}` gives a JSON Web Key Set by hand. Keys behind
`keys_url` are fetched outside of the check (see `_keys`); the address is the configuration's.

Never: believes an algorithm or a key that the token itself brings, or reads any clock but ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jwt

from integrations._keys import KeyRing
from integrations._secrets import matches, present, secrets, table
from responder.clock import SECOND
from responder.errors import ConfigError, Unauthorized
from responder.model import Secret

__all__ = ["check_oidc", "check_oidc_settings", "oidc_key_url"]

_ALGORITHMS = ["RS256"]  # what Google signs with, and nothing else
_LEEWAY = 60  # seconds that two clocks may differ
_TOKEN_MAX = 8192
_CLAIMS = ["aud", "email", "exp", "iat", "iss"]
_REFUSAL = "the token in Authorization does not hold for this hook"
# The times are held against our own clock, below.
_OPTIONS: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "require": _CLAIMS}


def oidc_key_url(wanted: Any) -> str:
    """The address of the keys that must be fetched first; empty when they are given by hand."""
    wanted = table(wanted)
    return "" if secrets(wanted.get("keys")) else str(wanted.get("keys_url", ""))


def check_oidc(headers: Mapping[str, str], wanted: Any, now: int, ring: KeyRing | None) -> None:
    """Check signature, issuer, audience, e-mail and times; raises `Unauthorized`."""
    scheme, _, token = present(headers, "Authorization").partition(" ")
    if scheme.lower() != "bearer" or len(token) > _TOKEN_MAX:
        raise Unauthorized("Authorization has another scheme, expected bearer")
    wanted = table(wanted)
    if not (wanted.get("audience") and wanted.get("issuer") and wanted.get("email")):
        raise Unauthorized("this hook's oidc is not whole, so it accepts nobody")
    claims = next(_valid(token, wanted, ring), None)
    if claims is None:
        raise Unauthorized(_REFUSAL)
    email = claims.get("email")
    named = isinstance(email, str) and matches(email, [Secret(str(wanted.get("email")))])
    if not named or claims.get("email_verified") is not True:
        raise Unauthorized(_REFUSAL)
    _check_times(claims, now // SECOND)


def _valid(token: str, wanted: Mapping[str, Any], ring: KeyRing | None) -> Iterator[Any]:
    """The claims, once for each key that signed them."""
    for key in _keys(token, wanted, ring):
        try:
            yield jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                audience=str(wanted.get("audience")),
                issuer=str(wanted.get("issuer")),
                options=_OPTIONS,
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            continue


def _keys(token: str, wanted: Mapping[str, Any], ring: KeyRing | None) -> list[Any]:
    """Our keys that have the id which the token names."""
    texts = [secret.reveal() for secret in secrets(wanted.get("keys"))]
    if not texts and ring is not None:
        texts = [ring.held(oidc_key_url(wanted)).decode("utf-8", "replace")]
    try:
        named = jwt.get_unverified_header(token).get("kid")
        sets = [jwt.PyJWKSet.from_json(text) for text in texts if text]
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
        return []
    return [one.key for found in sets for one in found.keys if one.key_id == named]


def _check_times(claims: Mapping[str, Any], now: int) -> None:
    until, since = claims.get("exp"), claims.get("iat")
    before = claims.get("nbf", since)
    if type(until) is not int or type(since) is not int or type(before) is not int:
        raise Unauthorized(_REFUSAL)
    if until + _LEEWAY <= now:
        raise Unauthorized("the token in Authorization has expired")
    if max(since, before) - _LEEWAY > now:
        raise Unauthorized("the token in Authorization is of the future")


def check_oidc_settings(value: Any, where: str) -> None:
    """Check the settings when the configuration is read; raises `ConfigError`."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a table with issuer, audience, email and keys_url")
    for key in value:
        if key not in ("issuer", "audience", "email", "keys", "keys_url"):
            raise ConfigError(f'{where}: unknown key "{key}"')
    for key in ("issuer", "audience", "email"):
        if not isinstance(value.get(key), str) or not value[key]:
            raise ConfigError(f"{where}.{key}: expected a text that is not empty")
    if "keys" not in value:
        if not str(value.get("keys_url", "")).startswith("https://"):
            raise ConfigError(f"{where}: expected keys, or a keys_url that begins with https://")
        return
    for secret in secrets(value["keys"]) or (None,):
        try:
            jwt.PyJWKSet.from_json(secret.reveal() if secret else "")
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
            raise ConfigError(f"{where}.keys: expected a JSON Web Key Set") from None
