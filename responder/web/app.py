"""Build the HTTP application from the table of routes.

`make_app` is the whole door; `serving.py` puts it on a socket with the limits that aiohttp lacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from responder.clock import World
from responder.web import openapi, sse
from responder.web.lane import Lane
from responder.web.limits import Budget, Limits
from responder.web.problems import SECURITY_HEADERS, Refused, problem, problem_of
from responder.web.routes import ROUTES
from responder.web.routing import Desk, bind
from responder.web.serving import LANE, Door, listening, serve

if TYPE_CHECKING:
    from responder.service import Service

__all__ = ["ROUTES", "Limits", "listening", "make_app", "serve"]


def make_app(
    service: Service, *, limits: Limits | None = None, world: World | None = None
) -> web.Application:
    """The application over one service; nothing in it is shared with another one."""
    limits = limits or Limits()
    desk = Desk(service, limits, Budget(limits.buffered_bytes), world or World())
    app = web.Application(
        middlewares=[_outermost(desk.world)],
        # bodies are read and limited by limits.read_body; this only stops anybody who forgets it
        client_max_size=limits.hook_bytes,
    )
    app[LANE] = Lane(desk)
    app[sse.STREAMS] = set()
    app[openapi.DOCUMENT] = openapi.generate(ROUTES)
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(sse.end_streams)
    for route in ROUTES:
        app.router.add_route(
            route.method, route.path, bind(route, desk), expect_handler=_expectation
        )
    return app


def _outermost(world: World) -> Middleware:
    """Turn the router's own refusals into problem documents, and say when a request is at work."""

    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        door = request.protocol
        if isinstance(door, Door):
            door.begins(request.content)
        try:
            return await handler(request)
        except (web.HTTPException, Refused) as failure:
            return problem_of(failure, world)
        finally:
            if isinstance(door, Door):
                door.ends()

    return outermost


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = SECURITY_HEADERS["Server"]  # aiohttp has named itself already


async def _expectation(request: web.Request) -> web.Response | None:
    """Do not call for a body before the caller is known; `limits.read_body` does, afterwards."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        return None
    return problem(417, "the only expectation known here is 100-continue", close=True)
