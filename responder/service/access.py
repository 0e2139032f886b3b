"""Who is asking: API tokens and the anonymous person of the demo.

Only the SHA-256 of a token is stored; the secret is shown once, when it is made. An unknown, an
expired and a revoked token get the same answer.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from responder.clock import SECOND, iso
from responder.errors import BadRequest, Unauthorized
from responder.model import Role
from responder.service.core import Core, Who, require
from responder.store.interface import TokenRow

__all__ = ["Access"]

_DAY = 86_400 * SECOND
_MOST_DAYS = 366
_REFUSED = "the token is not valid; make one with: responder token create"


class Access:
    """Tokens and the roles they carry."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def authenticate(self, secret: str, door: str, address: str = "") -> Who:
        """The person behind a token. Raises `Unauthorized`."""
        if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise Unauthorized(_REFUSED)
        digest = hashlib.sha256(secret.encode()).hexdigest()
        row = await self._core.store.find_token(digest)
        now = self._core.world.clock.now()
        if row is None or not hmac.compare_digest(row.hash, digest):
            raise Unauthorized(_REFUSED)
        if row.revoked is not None or row.expires <= now:
            raise Unauthorized(_REFUSED)
        return Who(person=row.person, role=Role(row.role), door=door, address=address, token=row.id)

    def anonymous(self, door: str, address: str = "") -> Who | None:
        """The person without a token: only in the demo, only on loopback."""
        if not self._core.anonymous:
            return None
        return Who(person="you", role=Role.ADMIN, door=door, address=address)

    async def token_create(self, who: Who, person: str, role: str, days: int) -> dict[str, Any]:
        """A new token; its secret is in the answer and nowhere else."""
        require(who, Role.ADMIN)
        if role not in set(Role):
            raise BadRequest(f"role: expected one of {', '.join(Role)}, got {role}", "/role")
        if not person.strip():
            raise BadRequest("person: must not be empty", "/person")
        if not 1 <= days <= _MOST_DAYS:
            raise BadRequest(f"days: expected 1 to {_MOST_DAYS}, got {days}", "/days")
        now = self._core.world.clock.now()
        secret = f"rsp_{self._core.world.ids.secret()}"
        row = TokenRow(
            id=self._core.world.ids.new("tok", now),
            person=person.strip(),
            role=role,
            hash=hashlib.sha256(secret.encode()).hexdigest(),
            created=now,
            expires=now + days * _DAY,
        )
        await self._core.store.add_token(row, self._core.audit(who, "token create", row.id))
        return {**_shown(row), "secret": secret}

    async def token_list(self, who: Who) -> dict[str, Any]:
        """All tokens, without their hashes."""
        require(who, Role.ADMIN)
        return {"items": [_shown(row) for row in await self._core.store.tokens()]}

    async def token_revoke(self, who: Who, token_id: str) -> dict[str, Any]:
        """End a token now."""
        require(who, Role.ADMIN)
        now = self._core.world.clock.now()
        entry = self._core.audit(who, "token revoke", token_id)
        await self._core.store.revoke_token(token_id, now, entry)
        return {"id": token_id, "revoked": iso(now)}


def _shown(row: TokenRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "person": row.person,
        "role": row.role,
        "created": iso(row.created),
        "expires": iso(row.expires),
        "revoked": iso(row.revoked) if row.revoked else None,
        "last_used": iso(row.last_used) if row.last_used else None,
    }
