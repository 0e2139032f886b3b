"""Compare secrets in constant time, and read the headers that carry them.

Every comparison is `hmac.compare_digest` over SHA-256 digests of both sides, and always over all
valid secrets, so that neither time nor length tells how near a guess was. No text raised here
shows a credential, sent or configured.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Any

from responder.errors import Unauthorized
from responder.model import Secret

__all__ = ["matches", "present", "refuse", "secrets", "table"]


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


def refuse(header: str, challenge: str = "") -> Unauthorized:
    """The refusal of a header whose value does not hold."""
    return Unauthorized(f"{header} does not hold for this hook", challenge=challenge)


def present(headers: Mapping[str, str], name: str) -> str:
    """The header's value; raises `Unauthorized` when it is missing."""
    value = headers.get(name.lower(), "")
    if not value:
        raise Unauthorized(f"{name} is missing")
    return value


def table(wanted: Any) -> Mapping[str, Any]:
    """The scheme's settings; a malformed one is empty and so lets nobody in."""
    return wanted if isinstance(wanted, Mapping) else {}
