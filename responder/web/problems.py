"""Problem documents (RFC 9457): the one form in which this door says no.

https://www.rfc-editor.org/rfc/rfc9457. A document never holds a traceback, a body, or a secret;
an unexpected failure shows only an id under which the log has the rest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from aiohttp import web

from responder import errors
from responder.clock import World
from responder.text import cut, for_terminal

__all__ = ["KINDS", "SECURITY_HEADERS", "Refused", "problem", "problem_of"]

log = logging.getLogger(__name__)

RETRY_AFTER = 5  # seconds; a sender that listens comes back after this
_DETAIL_MAX = 2000

SECURITY_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "responder",  # without the versions that aiohttp would name
    "X-Content-Type-Options": "nosniff",
}

# code -> what it means; published in the OpenAPI document, where `type` points to
KINDS: Mapping[str, str] = {
    "bad-request": "The request cannot be understood; `errors` names each fault.",
    "unauthorized": "No credential, or one that does not hold.",
    "forbidden": "The credential holds, its role does not reach; the text says what is needed.",
    "not-found": "There is no such thing, or no such path.",
    "method-not-allowed": "The path exists, not for this method; see the Allow header.",
    "timeout": "The request did not arrive in time.",
    "conflict": "The world or the plan has moved; look again, then decide again.",
    "too-large": "The body is larger than this path takes.",
    "unsupported-media-type": "This path takes application/json, plain or (hooks) gzip.",
    "cannot-be-done": "Understood, and it cannot be done; trying again does not help.",
    "unavailable": "It could not be stored or asked for now; try again after Retry-After.",
    "internal": "A fault of this product; the log has it under `trace_id`.",
    "refused": "Refused for the reason given.",
}

_CODES: Mapping[int, str] = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    408: "timeout",
    409: "conflict",
    413: "too-large",
    415: "unsupported-media-type",
    422: "cannot-be-done",
    500: "internal",
    503: "unavailable",
}

_STATUS: Sequence[tuple[type[Exception], int]] = (
    (errors.Unauthorized, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.Uncertain, 409),
    (errors.BadAlert, 400),
    (errors.BadRequest, 400),
    (errors.ConfigError, 400),
    (errors.PlaybookError, 400),
    (errors.StepFailed, 422),
    (errors.StoreUnavailable, 503),
    (errors.StepRetry, 503),
)


@dataclass(eq=False)
class Refused(Exception):
    """The door itself says no, before any verb was called."""

    status: int
    detail: str
    faults: Sequence[Mapping[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False  # the rest of the request is not worth reading


def problem(
    status: int,
    detail: str,
    *,
    faults: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
    trace_id: str = "",
    close: bool = False,
) -> web.Response:
    """One problem document as a response; `detail` is cut and must not echo what was sent."""
    code = _CODES.get(status, "refused")
    document: dict[str, Any] = {
        "type": f"/v1/openapi.json#/x-problems/{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": cut(detail, _DETAIL_MAX),
        "code": code,
    }
    if faults:
        document["errors"] = [dict(fault) for fault in faults]
    if trace_id:
        document["trace_id"] = trace_id
    response = web.Response(
        status=status,
        body=json.dumps(document).encode(),
        content_type="application/problem+json",
        headers={**SECURITY_HEADERS, **_extra(status), **(headers or {})},
    )
    if close:
        response.force_close()
    return response


def problem_of(failure: Exception, world: World) -> web.Response:
    """The document for any failure; what nobody expected is logged and shown as an id only."""
    if isinstance(failure, Refused):
        return problem(
            failure.status,
            failure.detail,
            faults=failure.faults,
            headers=failure.headers,
            close=failure.close,
        )
    if isinstance(failure, web.HTTPException):
        return _of_router(failure)
    status = _status_of(failure)
    if status is None:
        return _unexpected(failure, world)
    headers = {}
    if isinstance(failure, errors.StepRetry):
        headers["Retry-After"] = str(max(1, round(failure.after)))
    if isinstance(failure, errors.Unauthorized) and failure.challenge:
        headers["WWW-Authenticate"] = failure.challenge
    return problem(status, str(failure), faults=_faults(failure), headers=headers)


def _status_of(failure: Exception) -> int | None:
    for kind, status in _STATUS:
        if isinstance(failure, kind):
            return status
    return None


def _faults(failure: Exception) -> list[dict[str, str]]:
    if isinstance(failure, errors.BadAlert | errors.BadRequest) and failure.pointer:
        return [{"pointer": failure.pointer, "detail": str(failure)}]
    if isinstance(failure, errors.PlaybookError):
        return [{"pointer": "", "detail": str(fault)} for fault in failure.problems]
    return []


def _of_router(failure: web.HTTPException) -> web.Response:
    """aiohttp's own refusals; 405 keeps the methods that are allowed."""
    allow = failure.headers.get("Allow")
    detail = {
        404: "nothing is served at this path; GET /v1/openapi.json lists what is",
        405: f"this path answers {allow} only",
    }.get(failure.status, failure.reason)
    return problem(failure.status, detail, headers={"Allow": allow} if allow else None)


def _unexpected(failure: Exception, world: World) -> web.Response:
    trace = world.ids.new("req", world.clock.now())
    log.error(
        "unexpected failure, shown to the caller as %s: %s: %s",
        trace,
        type(failure).__name__,
        for_terminal(str(failure)),
        exc_info=failure,
    )
    return problem(500, "a fault of this product; its log has more", trace_id=trace)


def _extra(status: int) -> dict[str, str]:
    if status == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": 'Bearer realm="responder"'}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return {"Retry-After": str(RETRY_AFTER)}
    return {}
