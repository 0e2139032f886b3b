"""Refusals of the sandbox's API server, in the words and numbers of the real one.

Every body is a `Status` object; texts were compared with a real API server by the contract suite.
https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#status-v1-meta
"""

from __future__ import annotations

from typing import Any

from responder.errors import ResponderError
from responder.sandbox.kinds import Kind

__all__ = [
    "Refusal",
    "already_exists",
    "bad_request",
    "conflict",
    "forbidden",
    "gone",
    "invalid",
    "not_found",
    "patch_refused",
    "precondition",
    "too_many",
]


class Refusal(ResponderError):
    """A request that the API server answers with a `Status` of failure."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message
        self.details, self.headers = details, headers or {}

    def body(self) -> dict[str, Any]:
        """The `Status` object."""
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        return body


def _details(kind: Kind, name: str, word: str = "") -> dict[str, Any]:
    details: dict[str, Any] = {"kind": word or kind.plural}
    if name:
        details["name"] = name
    if kind.group:
        details["group"] = kind.group
    return details


def not_found(kind: Kind, name: str) -> Refusal:
    """There is no such object."""
    return Refusal(404, "NotFound", f'{kind.resource} "{name}" not found', _details(kind, name))


def already_exists(kind: Kind, name: str) -> Refusal:
    """The name is taken."""
    text = f'{kind.resource} "{name}" already exists'
    return Refusal(409, "AlreadyExists", text, _details(kind, name))


def conflict(kind: Kind, name: str) -> Refusal:
    """The caller wrote against an old resourceVersion."""
    text = (
        f'Operation cannot be fulfilled on {kind.resource} "{name}": the object has been '
        "modified; please apply your changes to the latest version and try again"
    )
    return Refusal(409, "Conflict", text, _details(kind, name))


def precondition(kind: Kind, name: str, what: str, wanted: str, got: str) -> Refusal:
    """A precondition of a deletion does not hold."""
    tail = {
        "UID": "The object might have been deleted and then recreated",
        "ResourceVersion": "The object might have been modified",
    }[what]
    text = (
        f'Operation cannot be fulfilled on {kind.long_kind} "{name}": the {what} in the '
        f"precondition ({wanted}) does not match the {what} in record ({got}). {tail}"
    )
    return Refusal(409, "Conflict", text, _details(kind, name, kind.kind))


def invalid(kind: Kind, name: str, field: str, reason: str, text: str) -> Refusal:
    """A field holds what it may not."""
    details = _details(kind, name, kind.kind)
    details["causes"] = [{"reason": reason, "message": text, "field": field}]
    message = f'{kind.long_kind} "{name}" is invalid: {field}: {text}'
    return Refusal(422, "Invalid", message, details)


def patch_refused() -> Refusal:
    """A JSON patch that does not apply; the real server says no more than this."""
    text = "the server rejected our request due to an error in our request"
    return Refusal(422, "Invalid", text, {})


def bad_request(text: str) -> Refusal:
    """The request itself makes no sense."""
    return Refusal(400, "BadRequest", text)


def gone(text: str) -> Refusal:
    """A watch asked for history that is no longer kept."""
    return Refusal(410, "Expired", text)


def forbidden(text: str, details: dict[str, Any]) -> Refusal:
    """The caller is known and may not do this."""
    return Refusal(403, "Forbidden", text, details)


def too_many(text: str, cause: str) -> Refusal:
    """A disruption budget forbids the eviction now."""
    details = {"causes": [{"reason": "DisruptionBudget", "message": cause}]}
    return Refusal(429, "TooManyRequests", text, details)
