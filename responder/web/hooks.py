"""The door for senders: a payload in, what became of it out, after it is on disk.

Never 5xx for bad input and never 429: Alertmanager gives up on 429, Falcosidekick on everything
(both measured). Only a store that cannot write makes a sender come back, with Retry-After.
"""

from __future__ import annotations

from asyncio import BaseTransport
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from responder.errors import Forbidden, NotFound
from responder.web.limits import check_hook_json, read_body, require_json
from responder.web.routing import Ask, Desk, reply

__all__ = ["PLAIN_JSON", "certified", "handshake", "receive", "take", "test"]

_NAME_MAX = 200
PLAIN_JSON = {"application/json", "application/json; charset=utf-8"}  # what nearly everybody says
_LINES = "application/x-ndjson"  # what forwarders (Vector, Fluent Bit) call one JSON value a line


async def receive(ask: Ask) -> web.Response:
    """Take one delivery. What headers alone can refuse is refused before the body is read."""
    name = _name(ask)
    request = ask.request
    headers = _headers(request)
    hook = await ask.service.hook(name)
    await ask.service.preauthorize(name, headers)
    if headers.get("content-type") not in PLAIN_JSON and (
        _media(headers) not in {*hook.media, _LINES}
    ):
        require_json(request)
    limits = ask.desk.limits
    body = await read_body(
        request,
        max(limits.hook_bytes, hook.body_max),
        limits.body_seconds,
        ask.desk.budget,
        gzip=True,
    )
    status, answer = await take(ask.desk, name, headers, body, request.remote or "")
    return reply(answer, status)


async def take(
    desk: Desk, name: str, headers: Mapping[str, str], body: bytes, address: str
) -> tuple[int, dict[str, Any]]:
    """A whole body of somebody who passed `preauthorize`; status and answer.

    Raises what the service raises, and a refusal of what no reader of JSON can bear.
    """
    check_hook_json(body, desk.limits.depth)
    return await desk.service.receive(name, headers, body, address)


async def handshake(ask: Ask) -> web.Response:
    """Answer a sender of CloudEvents that asks first whether it may deliver here.

    Yes only to an origin that the hook's `options.origins` names, and only to who holds the hook's
    credentials. https://github.com/cloudevents/spec/blob/main/cloudevents/http-webhook.md
    """
    name = _name(ask)
    headers = _headers(ask.request)
    hook = await ask.service.hook(name)
    await ask.service.preauthorize(name, headers)
    origins = hook.options.get("origins")
    origin = headers.get("webhook-request-origin", "")
    if not isinstance(origins, list) or not origin or origin not in origins:
        raise Forbidden("this hook takes no deliveries from that origin")
    answer = web.Response(headers={"WebHook-Allowed-Origin": origin, "Allow": "POST, OPTIONS"})
    if "webhook-request-rate" in headers:
        answer.headers["WebHook-Allowed-Rate"] = "*"
    return answer


async def test(ask: Ask) -> web.Response:
    """Send the sample of a hook's sender through it; starts nothing."""
    return reply(await ask.service.hook_test(ask.who, ask.part("hook")))


def _name(ask: Ask) -> str:
    name = ask.part("hook")
    if len(name) > _NAME_MAX or not name.isprintable():
        raise NotFound("there is no such hook")
    return name


def _headers(request: web.Request) -> dict[str, str]:
    """Lower-case names; a name sent twice is joined by ", ", so that no twin hides.

    The query stands among them as `query:NAME`, and the names in a client certificate that the
    server has checked as `tls:names`, one a line: no header can be called so.
    """
    joined: dict[str, str] = {}
    query: list[tuple[str, str]] = []
    if "?" in request.raw_path:
        query = [(f"query:{name}", value) for name, value in request.query.items()]
    for name, value in (*request.headers.items(), *query):
        key = name.lower()
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    if names := certified(request.transport):
        joined["tls:names"] = "\n".join(names)
    return joined


def certified(transport: BaseTransport | None) -> list[str]:
    """Common name, DNS names and URIs of the caller's certificate; none without a checked one."""
    peer = transport.get_extra_info("peercert") if transport else None
    if not peer:
        return []
    common = [v for part in peer.get("subject", ()) for k, v in part if k == "commonName"]
    others = [v for kind, v in peer.get("subjectAltName", ()) if kind in {"DNS", "URI"}]
    return [name for name in (*common, *others) if name.isprintable()]


def _media(headers: Mapping[str, str]) -> str:
    """The content type without its parameters; empty when there is none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()
