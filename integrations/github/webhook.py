"""GitHub's webhooks: hints that something has moved, never the truth about it.

GitHub does not redeliver by itself, and deliveries come late, twice or in any order. So a hint
only makes the next look happen sooner; what is believed is what the API says then. A delivery
that was heard already (`X-GitHub-Delivery`, which a redelivery keeps, or the same signed bytes)
wakes nobody again.
https://docs.github.com/en/webhooks/using-webhooks/best-practices-for-using-webhooks

The hook's auth is GitHub's own scheme:

    auth = {hmac = {header = "X-Hub-Signature-256", prefix = "sha256=", secret = {env = "…"}}}
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus

from integrations._json import decode
from integrations._webhook import Guard
from integrations.github import protection
from integrations.github.runs import hint_of, titles
from responder.clock import SECOND, World
from responder.errors import BadAlert
from responder.model import Alert
from responder.ports import HookInfo

__all__ = ["EVENTS", "GitHubHints", "hint"]

_REMEMBERED = 4096  # deliveries kept in mind; an older one costs one look too many
_JOBS_EVERY = 15 * SECOND  # a run of many jobs may wake its step this often
_CALLBACK = re.compile(r"/actions/runs/([0-9]{1,19})/deployment_protection_rule$")


def hint(headers: Mapping[str, str], body: bytes) -> list[str]:
    """What waiting steps may listen for in an authentic delivery; other events name nothing.

    A body that cannot be read is no hint: the slow look at the API finds out anyway.
    """
    marks = EVENTS.get(headers.get("x-github-event", ""))
    if marks is None:
        return []
    try:
        data = _table(decode(body))
    except BadAlert:
        return []
    repo = _table(data.get("repository")).get("full_name")
    if not isinstance(repo, str):
        return []
    return [hint_of(repo, mark) for mark in dict.fromkeys(marks(data))]


# --------------------------------------------------------------------------- one event each


def _run(data: Mapping[str, object]) -> Iterator[int | str]:
    """https://docs.github.com/en/webhooks/webhook-events-and-payloads#workflow_run"""
    run = _table(data.get("workflow_run"))
    yield from _number(run.get("id"))
    title = run.get("display_title")
    yield from titles(title) if isinstance(title, str) else ()


def _job(data: Mapping[str, object]) -> Iterator[int | str]:
    """Only what a step can learn from: a job that waits for a person, and one that has ended.

    https://docs.github.com/en/webhooks/webhook-events-and-payloads#workflow_job
    """
    if data.get("action") in ("waiting", "completed"):
        yield from _number(_table(data.get("workflow_job")).get("run_id"))


def _deployment(data: Mapping[str, object]) -> Iterator[int | str]:
    """The deployment, and the run that makes it where one does.

    https://docs.github.com/en/webhooks/webhook-events-and-payloads#deployment_status
    """
    for number in _number(_table(data.get("deployment")).get("id")):
        yield f"deployment-{number}"
    yield from _run(data)


def _protection(data: Mapping[str, object]) -> Iterator[int | str]:
    """A run that asks us whether it may deploy; it is named by the address of the answer only.

    The address is read for its number and never called as it stands.
    https://docs.github.com/en/webhooks/webhook-events-and-payloads#deployment_protection_rule
    """
    address = data.get("deployment_callback_url")
    found = _CALLBACK.search(address) if isinstance(address, str) else None
    if found:
        yield int(found[1])
    yield from _deployment(data)


def _pull(data: Mapping[str, object]) -> Iterator[int | str]:
    """Only its end: merged or closed, by whom ever.

    https://docs.github.com/en/webhooks/webhook-events-and-payloads#pull_request
    """
    if data.get("action") == "closed":
        for number in _number(data.get("number")):
            yield f"#{number}"


EVENTS: Mapping[str, Callable[[Mapping[str, object]], Iterator[int | str]]] = {
    "workflow_run": _run,
    "workflow_job": _job,
    "deployment_status": _deployment,
    "deployment_protection_rule": _protection,
    "pull_request": _pull,
}


# --------------------------------------------------------------------------- the source


class GitHubHints:
    """The source `github`: proves who sends and passes hints on.

    It makes an alert of one event only, a deployment that waits for a verdict, and only where the
    hook says `options = {deployments = true}`.
    """

    name = "github"
    accepts_status = HTTPStatus.ACCEPTED.value

    def __init__(self, world: World) -> None:
        self._guard = Guard(world)
        self._clock = world.clock
        self._heard = _Memory()
        self._jobs = _Memory()

    def preverify(self, headers: Mapping[str, str], hook: HookInfo) -> None:
        """Whether a body of this sender may be read; raises `Unauthorized`."""
        self._guard.before(headers, hook)

    def verify(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Check the signature over the raw bytes; raises `Unauthorized`."""
        self._guard.whole(headers, body, hook)

    def parse(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[Alert]:
        """A question that was not heard yet; else nothing: a pipeline's doings are no statement."""
        asked = headers.get("x-github-event") == protection.EVENT
        if (
            not asked
            or hook.options.get("deployments") is not True
            or self._known(headers, body, hook)
        ):
            return []
        try:
            found = protection.question(_table(decode(body)))
        except BadAlert:
            return []
        return [found] if found else []

    def hints(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[str]:
        """The correlations that an authentic delivery speaks of, unless it was heard; see `hint`.

        It counts as heard only once `follow` was called: one whose hints could not be stored is
        no loss when somebody sends it again.
        """
        if self._known(headers, body, hook):
            return []
        found = hint(headers, body)
        if headers.get("x-github-event") != "workflow_job":
            return found
        now = self._clock.now()
        return [name for name in found if now - self._jobs.at(name, -_JOBS_EVERY) >= _JOBS_EVERY]

    def _known(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> bool:
        return any(mark in self._heard for mark in _marks(headers, body, hook))

    async def follow(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Remember a delivery whose hints have been passed on and stored."""
        now = self._clock.now()
        told = headers.get("x-github-event") == "workflow_job" and self.hints(headers, body, hook)
        for name in told or ():
            self._jobs.keep(name, now)
        for mark in _marks(headers, body, hook):
            self._heard.keep(mark, now)


class _Memory:
    """The newest names and when they were heard; bounded, so no sender can make it grow."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, int] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def at(self, name: str, otherwise: int) -> int:
        """When it was kept, or something else."""
        return self._names.get(name, otherwise)

    def keep(self, name: str, at: int) -> None:
        """Keep a name as the newest."""
        self._names[name] = at
        self._names.move_to_end(name)
        if len(self._names) > _REMEMBERED:
            self._names.popitem(last=False)


def _marks(headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[str]:
    """What makes a delivery the same: its id, which nobody signs, and its bytes, which are."""
    event = headers.get("x-github-event", "")
    marks = [f"{hook.name} {event} {hashlib.sha256(body).hexdigest()}"]
    if sent := headers.get("x-github-delivery"):
        marks.append(f"{hook.name} {sent[:64]}")
    return marks


def _number(value: object) -> list[int]:
    return [value] if type(value) is int else []


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
