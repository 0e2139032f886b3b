"""GitLab's webhooks: hints that something has moved, never the truth about it.

Deliveries come late, twice or in any order, so what is believed is what the API says then. A hook
that answers 4xx four times in a row is switched off for good, so every authentic delivery is
accepted, whatever its event (https://docs.gitlab.com/user/project/integrations/webhooks/).

The hook's auth is GitLab's secret token, compared in constant time:

    auth = {header = {name = "X-Gitlab-Token", value = {env = "…"}}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus

from integrations._forge import titles
from integrations._json import decode
from integrations._webhook import Guard
from integrations.gitlab.states import hint_of
from responder.clock import World
from responder.errors import BadAlert
from responder.model import Alert
from responder.ports import HookInfo

__all__ = ["GitLabHints", "hint"]


def hint(body: bytes) -> list[str]:
    """What waiting steps may listen for in an authentic delivery; other events name nothing.

    A body that cannot be read is no hint: the slow look at the API finds out anyway.
    """
    try:
        value = decode(body)
    except BadAlert:
        return []
    data = _table(value)
    if not isinstance(repo := _table(data.get("project")).get("path_with_namespace"), str):
        return []
    found = [hint_of(repo, mark) for mark in _marks(data)]
    above = _table(data.get("source_pipeline"))  # who started this pipeline waits for it too
    place = _table(above.get("project")).get("path_with_namespace")
    if isinstance(place, str) and isinstance(number := above.get("pipeline_id"), int):
        found.append(hint_of(place, number))
    return found


def _marks(data: Mapping[str, object]) -> Iterator[int | str]:
    """Pipelines by number and by correlation id, merge requests as `!7`."""
    about = _table(data.get("object_attributes"))
    match data.get("object_kind"):
        case "pipeline":
            yield from _number(about.get("id"))
            yield from _named(about.get("name"))
            variables = about.get("variables")
            for one in variables if isinstance(variables, list) else ():
                yield from _named(_table(one).get("value"))
        case "build":
            yield from _number(data.get("pipeline_id"))
            yield from _named(_table(data.get("commit")).get("name"))
        case "merge_request":
            yield from (f"!{number}" for number in _number(about.get("iid")))
        case "deployment":
            yield from (f"deployment-{one}" for one in _number(data.get("deployment_id")))


def _number(value: object) -> list[int]:
    return [value] if isinstance(value, int) else []


def _named(value: object) -> list[str]:
    return titles(value) if isinstance(value, str) else []


class GitLabHints:
    """The source `gitlab`: proves who sends and passes hints on. It never makes an alert."""

    name = "gitlab"
    accepts_status = HTTPStatus.ACCEPTED.value

    def __init__(self, world: World) -> None:
        self._guard = Guard(world)

    def preverify(self, headers: Mapping[str, str], hook: HookInfo) -> None:
        """Whether a body of this sender may be read; raises `Unauthorized`."""
        self._guard.before(headers, hook)

    def verify(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Check the secret token; raises `Unauthorized`."""
        self._guard.whole(headers, body, hook)

    def parse(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[Alert]:  # noqa: ARG002
        """No alerts: what a pipeline does is no detector's statement."""
        return []

    def hints(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[str]:  # noqa: ARG002
        """The correlations that an authentic delivery speaks of; see `hint`."""
        return hint(body)


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
