"""Hold requests and answers of the GitLab double against GitLab's description and own schemas.

Both are read from the shared corpus. The description is good for requests and weak for answers
(every field may be missing, some types are wrong), so answers are held against the schemas of
GitLab's own tests where there is one.
Where the corpus is absent the double works without.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_core import OpenAPI

from tests.doubles.contract import Answered, Asked, _words
from tests.doubles.corpus import corpus

# operation of the double -> schema of one item, and whether the answer is a list of them
ANSWERS = {
    "create": ("pipeline", False),
    "trigger": ("pipeline", False),
    "list": ("pipeline", True),
    "pipeline": ("pipeline", False),
    "jobs": ("job", True),
    "bridges": ("bridge", True),
    "open": ("merge_request", False),
    "requests": ("merge_request", True),
    "change": ("merge_request", False),
    "merge": ("merge_request", False),
    "request": ("merge_request", False),
    "deployments": ("deployment", True),
    "deploy": ("deployment", False),
    "deployment": ("deployment", False),
    "deployed": ("deployment", False),
}


@cache
def description() -> OpenAPI | None:
    """Return GitLab's description, loaded once, or None without the corpus."""
    folder = corpus()
    file = folder / "openapi" / "gitlab-cicd-subset.openapi3.json" if folder else None
    if file is None or not file.exists():
        return None
    described = json.loads(file.read_text())
    # The path's own parameter is described a second time as a query parameter that nobody sends.
    for path, methods in described["paths"].items():
        for told in methods.values():
            if "{artifact_path}" in path and isinstance(told, dict):
                named = told.get("parameters", [])
                told["parameters"] = [
                    one for one in named if (one["name"], one["in"]) != ("artifact_path", "query")
                ]
    # A branch has a name (https://docs.gitlab.com/api/branches/), the description says a number.
    for told in described["paths"]["/api/v4/projects/{id}/repository/branches/{branch}"].values():
        for one in told["parameters"]:
            if one["name"] == "branch":
                one["schema"] = {"type": "string"}
    # Creating and updating a file need neither a previous path nor a file mode: the description
    # demands every field of an action, GitLab only those of the verb
    # (https://docs.gitlab.com/api/commits/#create-a-commit-with-multiple-files-and-actions).
    commit = described["components"]["schemas"].get("postApiV4ProjectsIdRepositoryCommits")
    if commit:
        commit["properties"]["actions"]["items"]["required"] = ["action", "file_path"]
    return OpenAPI.from_dict(described)


@cache
def schemas() -> dict[str, Any] | None:
    """Return the schemas of GitLab's own tests, or None without the corpus."""
    folder = corpus()
    file = folder / "openapi" / "gitlab-response-schemas.json" if folder else None
    return json.loads(file.read_text()) if file is not None and file.exists() else None


def request_fault(asked: Asked) -> str:
    """Return what is wrong with a request, empty when it is right or cannot be checked."""
    api = description()
    return _words(api.iter_request_errors(asked)) if api else ""


def answer_fault(name: str, asked: Asked, answered: Answered) -> str:
    """Return what is wrong with an answer, empty when it is right or cannot be checked.

    Where GitLab's tests have a schema it alone counts: the description has wrong types there.
    """
    api, known = description(), schemas()
    if name not in ANSWERS:
        return _words(api.iter_response_errors(asked, answered)) if api else ""
    if known is None:
        return ""
    schema, many = ANSWERS[name]
    value = json.loads(answered.data or b"null")
    return "; ".join(fault for item in (value if many else [value]) for fault in _of(schema, item))


def _of(schema: str, item: Any) -> Iterator[str]:
    """What is wrong with one item; a trigger job is a job with what it started beside."""
    if schema == "bridge":
        item = dict(item)
        below = item.pop("downstream_pipeline")
        yield from _of("pipeline", below) if below is not None else ()
        schema = "job"
    wanted: dict[str, Any] = {**(schemas() or {}), "$ref": f"#/$defs/{schema}"}
    for error in Draft202012Validator(wanted).iter_errors(item):
        yield f"{'/'.join(map(str, error.absolute_path))}: {error.message[:160]}"
