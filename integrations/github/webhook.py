"""GitHub's `workflow_run` webhooks: a hint that a run has moved, never the truth about it.

GitHub does not redeliver by itself, and deliveries come late, twice or in any order. So a hint
only makes the next look happen sooner; what is believed is what the API says then.
https://docs.github.com/en/webhooks/webhook-events-and-payloads#workflow_run

The hook's auth is GitHub's own scheme:

    auth = {hmac = {header = "X-Hub-Signature-256", prefix = "sha256=", secret = {env = "…"}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from integrations._json import decode
from integrations._webhook import Guard
from integrations.github.runs import hint_of, titles
from responder.clock import World
from responder.errors import BadAlert
from responder.model import Alert
from responder.ports import HookInfo

__all__ = ["GitHubHints", "hint"]


def hint(headers: Mapping[str, str], body: bytes) -> list[str]:
    """What waiting steps may listen for in an authentic delivery; other events name nothing.

    A body that cannot be read is no hint: the slow look at the API finds out anyway.
    """
    if headers.get("x-github-event") != "workflow_run":
        return []
    try:
        value = decode(body)
    except BadAlert:
        return []
    run = _table(_table(value).get("workflow_run"))
    repo = _table(_table(value).get("repository")).get("full_name")
    if not isinstance(repo, str):
        return []
    marks: list[int | str] = []
    if isinstance(run_id := run.get("id"), int):
        marks.append(run_id)
    title = run.get("display_title")
    marks += titles(title) if isinstance(title, str) else []
    return [hint_of(repo, mark) for mark in marks]


class GitHubHints:
    """The source `github`: proves who sends and passes hints on. It never makes an alert."""

    name = "github"
    accepts_status = HTTPStatus.ACCEPTED.value

    def __init__(self, world: World) -> None:
        self._guard = Guard(world)

    def preverify(self, headers: Mapping[str, str], hook: HookInfo) -> None:
        """Whether a body of this sender may be read; raises `Unauthorized`."""
        self._guard.before(headers, hook)

    def verify(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Check the signature over the raw bytes; raises `Unauthorized`."""
        self._guard.whole(headers, body, hook)

    def parse(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[Alert]:  # noqa: ARG002
        """No alerts: what a pipeline does is no detector's statement."""
        return []

    def hints(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[str]:  # noqa: ARG002
        """The correlations that an authentic delivery speaks of; see `hint`."""
        return hint(headers, body)


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
