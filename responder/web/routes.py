"""The one table of routes: rights, the OpenAPI document and the route tests come from it.

A route without a role is open, or has rules of its own (a hook's credentials); the test over
this table names each of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from responder.model import Role
from responder.web import api, health, hooks, models, openapi
from responder.web.routing import Handler, Query, Route

__all__ = ["ROUTES"]

_TEXT, _BYTES = "text/plain", "application/octet-stream"
_N = "/v1/incidents/{n}"
_RUN = "/v1/runs/{run}"
_STEP = _RUN + "/steps/{step}"
_SHA = r"{sha256:[0-9a-f]{64}}"
_AFTER = {"after": Query("integer", "only entries with a greater id")}
_LIMIT = {"limit": Query("integer", f"page size, 1 to {api.PAGE_MAX}")}
_PAGE = {
    "status": Query("string", f"one of {', '.join(api.STATUSES)}"),
    "since": Query("string", "RFC 3339 time with zone"),
    **_LIMIT,
    "cursor": Query("integer", "next_cursor of the page before"),
}
_VERBOSE = {"verbose": Query("string", "one line per check")}


def _get(
    path: str,
    role: Role | None,
    handler: Handler,
    summary: str,
    query: Mapping[str, Query] | None = None,
    answer: str = "application/json",
) -> Route:
    return Route(
        method="GET",
        path=path,
        role=role,
        handler=handler,
        summary=summary,
        query=query or {},
        answer=answer,
    )


def _post(
    path: str,
    role: Role,
    handler: Handler,
    model: type[BaseModel],
    summary: str,
    status: int = 200,
) -> Route:
    return Route(
        method="POST",
        path=path,
        role=role,
        handler=handler,
        summary=summary,
        model=model,
        status=status,
    )


_V, _R, _A = Role.VIEWER, Role.RESPONDER, Role.ADMIN

ROUTES: tuple[Route, ...] = (
    # open: a probe has no token, and the document holds nothing that is not public
    _get("/livez", None, health.livez, "The process is alive", answer=_TEXT),
    _get("/readyz", None, health.readyz, "Alerts can be taken and stored", _VERBOSE, _TEXT),
    _get("/v1/openapi.json", None, openapi.document, "This document"),
    Route(
        method="POST",
        path="/v1/hooks/{hook}",
        role=None,  # the hook's own credentials, checked by its source
        handler=hooks.receive,
        summary="A sender's payload; answered after it is on disk",
        status=202,
        raw=True,
    ),
    _post(
        "/v1/hooks/{hook}/test", _R, hooks.test, models.Reason, "Send its sample; starts nothing"
    ),
    Route(
        method="OPTIONS",
        path="/v1/hooks/{hook}",
        role=None,  # as above
        handler=hooks.handshake,
        summary="Whether a sender of CloudEvents may deliver to this hook",
        raw=True,
    ),
    _get("/metrics", _V, health.metrics, "Counters in Prometheus text format", answer=_TEXT),
    _get("/v1/me", _V, api.me, "Who the server takes the caller for"),
    _get("/v1/status", _V, api.status, "Paused, degraded, draining, version, counts"),
    _get("/v1/incidents", _V, api.incidents, "Incidents, newest first", _PAGE),
    _get(_N, _V, api.incident, "One incident with its runs"),
    _get(_N + "/timeline", _V, api.timeline, "What has happened so far", _AFTER),
    _get(
        _N + "/events",
        _V,
        api.events,
        "What happens, live; resumes after Last-Event-ID",
        _AFTER,
        "text/event-stream",
    ),
    _get(_N + "/alerts", _V, api.alerts, "What was said, without the raw payloads"),
    _post(_N + "/notes", _R, api.note, models.Note, "Add a line to the story", 201),
    _get(_N + "/evidence", _V, api.evidence, "The manifest of what was collected"),
    _get(_N + "/evidence/verification", _V, api.evidence_check, "Compare every hash again"),
    # what was collected may hold secrets of the workload: more than a look at the story
    _get(f"{_N}/evidence/{_SHA}", _R, api.evidence_file, "One artefact", answer=_BYTES),
    _post("/v1/runs", _R, api.start, models.Start, "Start a playbook by hand", 201),
    _post("/v1/preview", _R, api.preview, models.Preview, "The plans a run would make now"),
    _get(_RUN, _V, api.run, "One run with its steps"),
    _get(_STEP + "/plan", _V, api.plan, "A step's plan as JSON and as a diff"),
    # who may decide is written in the playbook (`approve.by`); the service checks it
    _post(_STEP + "/approve", _R, api.approve, models.Decision, "Yes to one plan"),
    _post(_STEP + "/deny", _R, api.deny, models.Decision, "No to one plan"),
    _post(_RUN + "/cancel", _R, api.cancel, models.Reason, "End a run"),
    _post(_STEP + "/undo", _R, api.undo, models.Reason, "Take back what a step applied"),
    _post(_STEP + "/extend", _R, api.extend, models.Extend, "More time for a wait"),
    _post("/v1/pause", _R, api.pause, models.WithReason, "Stop all new changes"),
    _post("/v1/resume", _R, api.resume, models.WithReason, "Let changes happen again"),
    _get("/v1/playbooks", _V, api.playbooks, "The loaded playbooks"),
    _get("/v1/playbooks/{name}", _V, api.playbook, "One playbook"),
    _post("/v1/explain", _V, api.explain, models.Explain, "Why a playbook starts, or not"),
    _get("/v1/audit", _V, api.audit, "Who did what", {**_AFTER, **_LIMIT}),
    _get("/v1/audit/verification", _V, api.audit_check, "Recompute the chain of hashes"),
    _get("/v1/tokens", _A, api.tokens, "Tokens, without their secrets"),
    _post("/v1/tokens", _A, api.token_create, models.NewToken, "Make a token", 201),
    Route(
        method="DELETE",
        path="/v1/tokens/{token}",
        role=_A,
        handler=api.token_revoke,
        summary="End a token at once",
        status=204,
    ),
)
