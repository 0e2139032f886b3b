"""Who is asking: a bearer token, or (demo on loopback only) nobody in particular.

The service knows the tokens; this file only reads the header, strictly. It never compares a
secret, never writes one down, and never believes a forwarding header about the address.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from aiohttp import web

from responder.errors import Forbidden, Unauthorized
from responder.model import Role

if TYPE_CHECKING:
    from responder.service import Service, Who

__all__ = ["bearer", "identify", "require"]

_BEARER = re.compile(r"bearer ([A-Za-z0-9._~+/=-]{1,512})", re.IGNORECASE)
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "[::1]", "::1"}
_SAME_SITE = {None, "same-origin", "none"}


async def identify(request: web.Request, service: Service) -> Who:
    """The person behind the request; raises `Unauthorized`."""
    door = "cli" if request.headers.get("User-Agent", "").startswith("responder-cli/") else "api"
    address = request.remote or ""
    secret = bearer(request)
    if secret is not None:
        return await service.authenticate(secret, door, address)
    if _from_this_machine(request):
        who = service.anonymous(door, address)
        if who is not None:
            return who
    raise Unauthorized("no token: send Authorization: Bearer …, made by `responder token create`")


def bearer(request: web.Request) -> str | None:
    """The token, or None when no credential was sent; raises `Unauthorized` for a malformed one."""
    given = request.headers.getall("Authorization", [])
    if not given:
        return None
    found = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
    if found is None:
        raise Unauthorized("expected exactly one Authorization header of the form: Bearer TOKEN")
    return found[1]


def require(who: Who, role: Role) -> None:
    """Raise `Forbidden` unless the person's role includes the route's."""
    if not who.role.includes(role):
        raise Forbidden(f"{who.person} has the role {who.role.value}; this needs {role.value}")


def _from_this_machine(request: web.Request) -> bool:
    """Whether peer, Host and browser all say loopback.

    A page of a foreign site, or one whose name was rebound to 127.0.0.1, also reaches this port
    from a loopback address; its Host or Sec-Fetch-Site header gives it away.
    """
    try:
        loopback = ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        return False
    host = re.sub(r":\d+$", "", request.headers.get("Host", ""))
    site = request.headers.get("Sec-Fetch-Site")
    return loopback and host.lower() in _LOOPBACK_NAMES and site in _SAME_SITE
