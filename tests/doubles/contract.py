"""Hold requests and answers of a double against the vendor's OpenAPI description.

The description is read from the shared corpus. Where that is absent the double still works and
says ``checked = False``, so that a test can tell the difference.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters
from werkzeug.datastructures import Headers, ImmutableMultiDict

from tests.doubles.corpus import corpus

DESCRIBED_HOST = "https://api.github.com"


@dataclass
class Asked:
    """A request in the form that openapi-core takes."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes | None
    host_url: str = DESCRIBED_HOST
    parameters: RequestParameters = field(init=False)

    def __post_init__(self) -> None:
        """Join the parts that every check reads."""
        self.method = self.method.lower()
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(self.query),
            header=Headers(dict(self.headers)),
            cookie=ImmutableMultiDict(),
        )

    @property
    def content_type(self) -> str:
        """The media type without its parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0]


@dataclass
class Answered:
    """An answer in the form that openapi-core takes."""

    status_code: int
    data: bytes | None
    headers: Mapping[str, str]

    @property
    def content_type(self) -> str:
        """The media type without its parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0]


@cache
def description() -> OpenAPI | None:
    """Return GitHub's description, loaded once, or None without the corpus."""
    folder = corpus()
    file = folder / "openapi" / "github-cicd-subset.openapi3.json" if folder else None
    if file is None or not file.exists():
        return None
    described = json.loads(file.read_text())
    # Its `created` is a search range such as ">=2026-01-01T00:00:00Z", as its own words say; the
    # format "date-time" beside them would refuse every range.
    described["components"]["parameters"]["created"]["schema"].pop("format", None)
    # A job or check that runs has the conclusion null: marked nullable, the enum lacks it.
    job = described["components"]["schemas"]["job"]["properties"]["conclusion"]
    job["enum"] = [*job["enum"], None]
    check = described["components"]["schemas"]["check-run"]["properties"]["conclusion"]
    check["enum"] = [*check["enum"], None]
    return OpenAPI.from_dict(described)


def request_fault(asked: Asked) -> str:
    """Return what is wrong with a request, empty when it is right or cannot be checked."""
    api = description()
    if api is None:
        return ""
    return _words(api.iter_request_errors(asked))


def answer_fault(asked: Asked, answered: Answered) -> str:
    """Return what is wrong with an answer, empty when it is right or cannot be checked."""
    api = description()
    if api is None:
        return ""
    return _words(api.iter_response_errors(asked, answered))


def _words(errors: Any) -> str:
    found = []
    for error in errors:
        inner = getattr(error.__cause__, "schema_errors", None) or getattr(
            error, "schema_errors", None
        )
        if inner:
            found += [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:160]}" for e in inner]
        else:
            found.append(f"{type(error).__name__}: {str(error.__cause__ or error)[:160]}")
    return "; ".join(found)


def path_of(url: str) -> str:
    """Return the path of a URL as the description writes it."""
    return urlsplit(url).path
