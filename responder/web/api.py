"""The verbs over HTTP: read the request, call the service, send what it returns.

No handler computes anything or touches a store; `routes.py` says who may call which.
"""

from __future__ import annotations

import datetime as dt
import json
import re

from aiohttp import web

from responder.clock import SECOND
from responder.errors import NotFound
from responder.web import models, sse
from responder.web.problems import Refused
from responder.web.routing import Ask, reply

__all__ = ["PAGE_MAX", "STATUSES"]

_NAME = re.compile(r"[A-Za-z0-9_.:@\[\]-]{1,160}")
_KEY = re.compile(r'"?([\x21\x23-\x7e]{1,255})"?')
PAGE_MAX = 200
STATUSES = ("open", "contained", "remediating", "resolved", "closed")


# --------------------------------------------------------------------------- reading


async def me(ask: Ask) -> web.Response:
    """Who the server takes the caller for."""
    return reply({"person": ask.who.person, "role": ask.who.role.value, "door": ask.who.door})


async def status(ask: Ask) -> web.Response:
    """Paused, degraded, draining, version and counts."""
    return reply(await ask.service.status(ask.who))


async def incidents(ask: Ask) -> web.Response:
    """One page of incidents, newest first."""
    wanted = ask.query.get("status", "")
    if wanted and wanted not in STATUSES:
        raise Refused(400, f"query status: expected one of {', '.join(STATUSES)}")
    cursor = ask.number("cursor", 0)
    page = await ask.service.incidents(
        ask.who,
        status=wanted,
        since=_moment(ask.query.get("since", "")),
        limit=ask.number("limit", 50, 1, PAGE_MAX),
        before=cursor or None,
    )
    return reply(page)


async def incident(ask: Ask) -> web.Response:
    """One incident with its runs and their steps."""
    return reply(await ask.service.incident(ask.who, await _incident(ask)))


async def timeline(ask: Ask) -> web.Response:
    """What has happened so far."""
    number = await _incident(ask)
    return reply(await ask.service.timeline(ask.who, number, after=ask.number("after", 0)))


async def events(ask: Ask) -> web.StreamResponse:
    """What happens, live."""
    return await sse.stream(ask, await _incident(ask))


async def alerts(ask: Ask) -> web.Response:
    """What was said, without the raw payloads."""
    return reply(await ask.service.alerts(ask.who, await _incident(ask)))


async def evidence(ask: Ask) -> web.Response:
    """The manifest of what was collected."""
    return reply(await ask.service.evidence(ask.who, await _incident(ask)))


async def evidence_check(ask: Ask) -> web.Response:
    """Read every artefact again and compare its hash."""
    return reply(await ask.service.evidence_verify(ask.who, await _incident(ask)))


async def evidence_file(ask: Ask) -> web.Response:
    """One artefact, as a download that no browser opens by itself."""
    sha256 = ask.part("sha256")
    data = await ask.service.evidence_bytes(ask.who, await _incident(ask), sha256)
    return web.Response(
        body=data,
        headers={
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f'attachment; filename="{sha256}"',
            "Content-Security-Policy": "default-src 'none'; sandbox",
        },
    )


async def run(ask: Ask) -> web.Response:
    """One run."""
    return reply(await ask.service.run(ask.who, _name(ask, "run")))


async def plan(ask: Ask) -> web.Response:
    """The plan of one step: JSON, diff, hash."""
    return reply(await ask.service.plan(ask.who, _name(ask, "run"), _name(ask, "step")))


async def playbooks(ask: Ask) -> web.Response:
    """The loaded playbooks."""
    return reply({"items": await ask.service.playbooks(ask.who)})


async def playbook(ask: Ask) -> web.Response:
    """One playbook."""
    return reply(await ask.service.playbook(ask.who, _name(ask, "name")))


async def audit(ask: Ask) -> web.Response:
    """Who did what, oldest first."""
    limit = ask.number("limit", 50, 1, PAGE_MAX)
    return reply(await ask.service.audit(ask.who, ask.number("after", 0), limit))


async def audit_check(ask: Ask) -> web.Response:
    """Recompute the chain of hashes."""
    return reply(await ask.service.audit_verify(ask.who))


async def explain(ask: Ask) -> web.Response:
    """Why each playbook would start, or not. Starts nothing."""
    body: models.Explain = ask.body
    payload = None if body.payload is None else json.dumps(body.payload).encode()
    return reply({"items": await ask.service.explain(ask.who, body.hook, payload, body.alert)})


async def preview(ask: Ask) -> web.Response:
    """The plans a run would make now: a run in observe mode, which changes nothing outside."""
    body: models.Preview = ask.body
    return reply(await ask.service.preview(ask.who, body.playbook, body.inputs))


# --------------------------------------------------------------------------- changing


async def note(ask: Ask) -> web.Response:
    """Add a person's line to the story."""
    return reply(await ask.service.note(ask.who, await _incident(ask), ask.body.text), 201)


async def start(ask: Ask) -> web.Response:
    """Start a playbook by hand; the same Idempotency-Key starts it once."""
    body: models.Start = ask.body
    answer = await ask.service.start(
        ask.who,
        body.playbook,
        body.inputs,
        body.reason,
        mode=body.mode,
        incident=body.incident,
        idempotency_key=_idempotency_key(ask.request),
    )
    return reply(answer, 201)


async def approve(ask: Ask) -> web.Response:
    """Say yes to exactly one plan."""
    return await _decide(ask, yes=True)


async def deny(ask: Ask) -> web.Response:
    """Say no to a plan."""
    return await _decide(ask, yes=False)


async def _decide(ask: Ask, *, yes: bool) -> web.Response:
    body: models.Decision = ask.body
    run_id, step = _name(ask, "run"), _name(ask, "step")
    return reply(await ask.service.decide(ask.who, run_id, step, yes, body.plan, body.reason))


async def cancel(ask: Ask) -> web.Response:
    """End a run; what was applied stays applied until undone."""
    return reply(await ask.service.cancel(ask.who, _name(ask, "run"), ask.body.reason))


async def undo(ask: Ask) -> web.Response:
    """Take back what a step applied."""
    run_id, step = _name(ask, "run"), _name(ask, "step")
    return reply(await ask.service.undo(ask.who, run_id, step, ask.body.reason))


async def extend(ask: Ask) -> web.Response:
    """Give a wait more time."""
    run_id, step = _name(ask, "run"), _name(ask, "step")
    body: models.Extend = ask.body
    return reply(await ask.service.extend(ask.who, run_id, step, body.seconds, body.reason))


async def pause(ask: Ask) -> web.Response:
    """Stop all new changes, everywhere."""
    return reply(await ask.service.pause(ask.who, ask.body.reason))


async def resume(ask: Ask) -> web.Response:
    """Let changes happen again."""
    return reply(await ask.service.resume(ask.who, ask.body.reason))


async def tokens(ask: Ask) -> web.Response:
    """The tokens, without their secrets."""
    return reply(await ask.service.token_list(ask.who))


async def token_create(ask: Ask) -> web.Response:
    """Make a token; the only time its secret is shown."""
    body: models.NewToken = ask.body
    return reply(await ask.service.token_create(ask.who, body.person, body.role, body.days), 201)


async def token_revoke(ask: Ask) -> web.Response:
    """End a token at once."""
    await ask.service.token_revoke(ask.who, _name(ask, "token"))
    return web.Response(status=204)


# --------------------------------------------------------------------------- parts of a request


async def _incident(ask: Ask) -> int:
    """The incident's number; `@latest` is the newest one."""
    return await ask.service.number(ask.part("n"))


def _name(ask: Ask, part: str) -> str:
    """An id or name of ours; anything else cannot exist."""
    text = ask.part(part)
    if _NAME.fullmatch(text) is None:
        raise NotFound(f"there is no such {part}")
    return text


def _moment(text: str) -> int:
    """Microseconds of an RFC 3339 time with its zone; empty is the beginning."""
    if not text:
        return 0
    refusal = Refused(400, "query since: expected a time like 2026-01-31T12:00:00Z")
    try:
        moment = dt.datetime.fromisoformat(text)
        micros = int(moment.timestamp() * SECOND)
    except (ValueError, OverflowError):
        raise refusal from None
    if moment.tzinfo is None:
        raise refusal
    return micros


def _idempotency_key(request: web.Request) -> str:
    given = request.headers.getall("Idempotency-Key", [])
    if not given:
        return ""
    found = _KEY.fullmatch(given[0]) if len(given) == 1 else None
    if found is None:
        raise Refused(400, "Idempotency-Key: expected one key of at most 255 visible characters")
    return found[1]
