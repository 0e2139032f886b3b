"""The words of the route table: what a route declares, and what its handler is given.

A route's role is checked by the wrapper that calls its handler, so no spelling of a path can
reach a handler past its rule.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web
from pydantic import BaseModel, ValidationError

from responder.clock import World
from responder.model import Role
from responder.text import compact
from responder.web.auth import identify, require
from responder.web.limits import Budget, Limits, load_json, read_body, require_json
from responder.web.problems import Refused, problem_of

if TYPE_CHECKING:
    from responder.service import Service, Who

__all__ = ["Ask", "Desk", "Query", "Route", "bind", "reply"]


@dataclass(frozen=True, slots=True)
class Desk:
    """What every route of one server shares."""

    service: Service
    limits: Limits
    budget: Budget
    world: World


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, already admitted: its caller, its checked body and its query."""

    desk: Desk
    request: web.Request
    caller: Who | None
    body: Any
    query: Mapping[str, str]

    @property
    def service(self) -> Service:
        """The verbs."""
        return self.desk.service

    @property
    def who(self) -> Who:
        """The caller of a route that has a role."""
        if self.caller is None:
            raise LookupError("a route without a role has no caller")
        return self.caller

    def part(self, name: str) -> str:
        """One variable part of the path."""
        return self.request.match_info[name]

    def number(self, name: str, default: int, lowest: int = 0, highest: int = 1 << 62) -> int:
        """A whole number of the query; raises 400 outside the bounds."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not (text.isascii() and text.isdecimal() and lowest <= int(text[:20]) <= highest):
            raise Refused(400, f"query {name}: expected a number from {lowest} to {highest}")
        return int(text)


Handler = Callable[[Ask], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Query:
    """One query parameter: its JSON type and its meaning."""

    type: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One line of the table. `role` None means: open, or (hooks) with rules of its own."""

    method: str
    path: str
    role: Role | None
    handler: Handler
    summary: str
    model: type[BaseModel] | None = None
    query: Mapping[str, Query] = field(default_factory=dict)
    status: int = 200
    answer: str = "application/json"
    raw: bool = False  # reads its own body (hooks)


def reply(value: Any, status: int = 200) -> web.Response:
    """Plain JSON. ASCII escapes keep half characters from breaking the answer."""
    return web.Response(
        status=status,
        body=compact(value).encode(),
        content_type="application/json",
    )


def bind(route: Route, desk: Desk) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The aiohttp handler of a route: who, may they, what did they send, then the verb."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            caller = None
            if route.role is not None:
                caller = await identify(request, desk.service)
                require(caller, route.role)
            query = _query(route, request)
            body = await _body(route, request, desk)
            return await route.handler(Ask(desk, request, caller, body, query))
        except Exception as failure:
            if isinstance(failure, ConnectionError):
                raise
            return problem_of(failure, desk.world)

    return handle


def _query(route: Route, request: web.Request) -> Mapping[str, str]:
    if route.raw or not request.query_string:
        return {}
    unknown = [name for name in request.query if name not in route.query]
    if unknown or len(request.query) != len(set(request.query)):
        known = ", ".join(route.query) or "none"
        raise Refused(400, f"an unknown or repeated query parameter; this path knows: {known}")
    return dict(request.query)


async def _body(route: Route, request: web.Request, desk: Desk) -> Any:
    if route.raw or route.model is None:
        return None
    require_json(request)
    limits = desk.limits
    data = await read_body(request, limits.api_bytes, limits.body_seconds, desk.budget)
    try:
        return route.model.model_validate(load_json(data, limits.depth))
    except ValidationError as failure:
        # neither the input nor the library's links belong into an answer
        faults = [
            {"pointer": _pointer(fault["loc"]), "detail": fault["msg"]}
            for fault in failure.errors(include_input=False, include_url=False)
        ]
        raise Refused(400, "the body does not have the form this path takes", faults) from None


def _pointer(path: tuple[int | str, ...]) -> str:
    """JSON pointer (RFC 6901) of a place in the body."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)
