"""What GitHub's refusals mean, read without I/O; no body of an answer gets into a text."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import requests
from urllib3.exceptions import NewConnectionError

from integrations._calling import Fault, FaultKind, retry_after
from responder.text import for_terminal, veiled

__all__ = ["NO_TOKEN", "USUAL_RIGHT", "fault_below", "fault_of"]

USUAL_RIGHT = "it needs actions: write"
# What the place of an App's tokens says when there will be none.
NO_TOKEN = frozenset({401, 403, 404, 422})
_ANSWERS: Mapping[int, tuple[FaultKind, str]] = {
    401: (FaultKind.FINAL, "the credential does not hold"),
    403: (FaultKind.FINAL, f"the credential has no right to do this; {USUAL_RIGHT}"),
    404: (FaultKind.NOT_FOUND, "not there, or not visible to this credential"),
    405: (FaultKind.CONFLICT, "not possible now"),
    409: (FaultKind.CONFLICT, "another state than expected"),
    410: (FaultKind.NOT_FOUND, "gone"),
}


def fault_of(
    status: int, headers: Mapping[str, str], data: object, *, limited: bool, now: int
) -> Fault:
    """What an answer means; `limited` when its words speak of a rate limit.

    A limit without any header has no `after`: how long that is, the forge's brake decides.
    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    after, text = retry_after(headers, now), f"HTTP {status}"
    limited = limited or after is not None
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status == HTTPStatus.FORBIDDEN and limited):
        return Fault(FaultKind.REFUSED, f"{text}, rate limit", after)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Fault(FaultKind.AMBIGUOUS, text, after)
    kind, words = _ANSWERS.get(status, (FaultKind.FINAL, ""))
    if status in {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.UNPROCESSABLE_ENTITY}:
        words = _message(data)
    return Fault(kind, f"{text}{', ' if words else ''}{words}")


def _message(data: object) -> str:
    """GitHub's own sentence on a refused request; a known-safe field, shortened and defused."""
    message = data.get("message") if isinstance(data, dict) else None
    return for_terminal(veiled(message), 200) if isinstance(message, str) else "refused as invalid"


def fault_below(error: Exception) -> Fault:
    """What a failure without an answer means."""
    if isinstance(error, requests.exceptions.ConnectTimeout) or _never_connected(error):
        return Fault(FaultKind.REFUSED, "cannot connect")
    if isinstance(error, requests.exceptions.RequestException | OSError):
        return Fault(FaultKind.AMBIGUOUS, f"connection failed ({type(error).__name__})")
    if isinstance(error, AssertionError):
        return Fault(
            FaultKind.FINAL,
            "the answer names another host than base_url; set base_url to the server's own name",
        )
    if isinstance(error, RuntimeError):
        return Fault(FaultKind.FINAL, "redirected to another server; correct base_url")
    return Fault(FaultKind.FINAL, f"unexpected {type(error).__name__}")


def _never_connected(error: BaseException) -> bool:
    """Whether no byte was sent: refused, no route, unknown name."""
    if not isinstance(error, requests.exceptions.ConnectionError):
        return False
    reasons = [getattr(item, "reason", item) for item in error.args]
    return any(isinstance(reason, NewConnectionError) for reason in reasons)
