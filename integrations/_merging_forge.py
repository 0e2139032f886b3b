"""What a forge gives to `change.propose` and `change.merge`; it never decides whether to repeat."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Protocol

from responder.errors import StepFailed

__all__ = [
    "FILE_MAX",
    "File",
    "Order",
    "Repositories",
    "Request",
    "Standing",
    "Terms",
    "must_be",
    "text_of",
]

FILE_MAX = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The forge's own words, for plans and people."""

    request: str  # "pull request"
    kind: str  # "PullRequest"


@dataclass(frozen=True, slots=True)
class File:
    """A file as the forge has it at one commit: its text and the hash of its content."""

    text: str
    blob: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One change to be committed to a branch of its own and to be proposed."""

    repo: str
    branch: str
    target: str
    start: str  # commit that the branch begins at
    file: str
    blob: str  # what the file's content must still be
    text: str
    title: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A pull or merge request as it is now."""

    number: int
    url: str
    sha: str  # its newest commit
    target: str
    state: str  # open | merged | closed
    commit: str = ""  # what the target branch got by it
    files: int = 0  # how many files it changes; 0: not told yet


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a merge stands: done when nothing is waited for."""

    request: Request
    waiting_for: str = ""
    person: bool = False  # a person does it there: the forge will not by itself


class Repositories(Protocol):
    """One forge's repositories. Every write is sent once and may be asked for again.

    A write raises `Uncertain` when its answer was lost, and finds what it made when asked again.
    Reads raise `NotFound`, `StepRetry`, `StepFailed`.
    """

    terms: Terms
    poll: float  # seconds between two looks

    async def head(self, repo: str, branch: str) -> str:
        """The branch's newest commit; raises `NotFound`."""
        ...

    async def has(self, repo: str, branch: str) -> bool:
        """Whether there is such a branch."""
        ...

    async def file(self, repo: str, path: str, commit: str) -> File:
        """A text file at a commit; raises `NotFound`, `StepFailed` when too long or no text."""
        ...

    async def commit(self, order: Order) -> None:
        """Make the branch with its one commit; what is there already stays as it is."""
        ...

    async def request_of(self, repo: str, branch: str) -> Request | None:
        """The newest request of a branch of this very repository, whatever its state.

        A fork may have a branch of the same name, and anybody may propose from there.
        """
        ...

    async def open(self, order: Order) -> Request:
        """Open the request, or find the one there is."""
        ...

    async def look(self, repo: str, number: int) -> Request:
        """One request as it is now; raises `NotFound`."""
        ...

    async def close(self, repo: str, number: int) -> None:
        """Close it without merging."""
        ...

    async def merge(self, repo: str, number: int, sha: str, *, checks: bool) -> Standing:
        """Have this commit merged, and no other; with `checks` only after it has passed its own.

        Raises `StepRetry` while it is too early, `StepFailed` when it can never be merged.
        """
        ...

    async def follow(self, repo: str, number: int, sha: str, *, person: bool) -> Standing:
        """Look where it stands; never asks for the merge. `person` is what was told before."""
        ...

    def hint(self, repo: str, number: int) -> str:
        """What a step waits to hear of."""
        ...


def must_be(found: Request, sha: str) -> None:
    """Open or merged, and with this commit; raises `StepFailed`."""
    if found.state == "closed":
        raise StepFailed(f"it was closed by somebody: {found.url}")
    if found.sha != sha:
        raise StepFailed(f"somebody has pushed to it: {found.url}")


def text_of(what: str, content: str, size: int) -> str:
    """The text of a file that came in base64; raises `StepFailed` when too long or no text."""
    if size > FILE_MAX:
        raise StepFailed(f"{what} is longer than {FILE_MAX} bytes")
    try:
        return base64.b64decode("".join(content.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise StepFailed(f"{what} is no text") from error
