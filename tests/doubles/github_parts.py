"""How more of GitHub is added to its double: a part is an own file with its own routes.

Everything that holds for the double's own operations holds for a part's too: the credential, the
check of request and answer against the published description, the faults armed by the operation's
name, the counts in ``asked``.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from aiohttp import web

if TYPE_CHECKING:
    from tests.doubles.github import GitHubDouble

__all__ = ["UNDESCRIBED", "Handler", "Part", "Route", "described_path", "problem", "repo_of"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# Operations that the description does not have: nothing to hold them against.
UNDESCRIBED = frozenset({"other", "graphql"})


@dataclass(frozen=True)
class Route:
    """One operation: ``path`` is below the API's root, such as /repos/{owner}/{repo}/pulls."""

    method: str
    path: str
    name: str  # what faults are armed by, and what `asked` counts
    handler: Handler


class Part(Protocol):
    """More operations. It is asked once, when the double starts, and may keep the double."""

    def routes(self, double: "GitHubDouble") -> Iterable[Route]:
        """Return its operations."""
        ...


def repo_of(request: web.Request) -> str:
    """Return OWNER/NAME of the path."""
    return f"{request.match_info['owner']}/{request.match_info['repo']}"


def described_path(request: web.Request, prefix: str) -> str:
    """Return the path as the description has it: a parameter with slashes is one segment."""
    path = request.path.removeprefix(prefix)
    for value in request.match_info.values():
        if "/" in value:
            path = path.replace(value, quote(value, safe=""))
    return path


def problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer that says no, as GitHub words it."""
    body: dict[str, Any] = {"message": message, "documentation_url": "https://docs.github.com/rest"}
    return web.Response(
        status=status, text=json.dumps(body), content_type="application/json", headers=headers
    )
