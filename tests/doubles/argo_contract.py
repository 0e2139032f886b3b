"""Hold requests and answers of the Argo CD double against Argo CD's published description.

The description is Swagger 2.0, read from the shared corpus and turned into OpenAPI 3.0. It marks
no field as required and forbids none, so it is made stricter here: an object has no field that is
not described, which finds every wrong or misspelt name. Where the corpus is absent the double
works without.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from openapi_core import OpenAPI

from tests.doubles.contract import Answered, Asked, _words
from tests.doubles.corpus import corpus

HOST = "http://argocd.example"
# Only what the double serves: the whole description takes long to look through.
SERVED = (
    "/api/v1/applications/{name}",
    "/api/v1/applications/{name}/sync",
    "/api/v1/applications/{name}/syncwindows",
    "/api/v1/applications/{name}/resource",
    "/api/v1/session/userinfo",
)
_SCHEMA_KEYS = ("type", "format", "items", "enum", "default")


@cache
def description() -> OpenAPI | None:
    """Return Argo CD's description, loaded once, or None without the corpus."""
    folder = corpus()
    file = folder / "openapi" / "argocd.swagger2.json" if folder else None
    if file is None or not file.exists():
        return None
    told = json.loads(file.read_text())
    described = {
        "openapi": "3.0.3",
        "info": told["info"],
        "servers": [{"url": HOST}],
        "paths": {path: _methods(told["paths"][path]) for path in SERVED},
        "components": {"schemas": {k: _strict(v) for k, v in told["definitions"].items()}},
    }
    text = json.dumps(described).replace("#/definitions/", "#/components/schemas/")
    return OpenAPI.from_dict(json.loads(text))


def _methods(path: dict[str, Any]) -> dict[str, Any]:
    return {method: _operation(told) for method, told in path.items()}


def _operation(told: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"operationId": told["operationId"], "parameters": []}
    for one in told.get("parameters", []):
        if one["in"] == "body":
            content = {"application/json": {"schema": one["schema"]}}
            made["requestBody"] = {"required": one.get("required", False), "content": content}
        else:
            schema = {key: one[key] for key in _SCHEMA_KEYS if key in one}
            kept = {key: one[key] for key in ("name", "in", "required") if key in one}
            made["parameters"].append({**kept, "schema": schema})
    made["responses"] = {
        status: {
            "description": said["description"],
            "content": {"application/json": {"schema": said["schema"]}},
        }
        for status, said in told["responses"].items()
    }
    return made


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A definition that has the described fields and no other."""
    if schema.get("properties") and "additionalProperties" not in schema:
        return {**schema, "additionalProperties": False}
    return schema


def request_fault(asked: Asked) -> str:
    """Return what is wrong with a request, empty when it is right or cannot be checked."""
    api = description()
    if api is None:
        return ""
    return "; ".join([*_unknown(asked), *filter(None, [_words(api.iter_request_errors(asked))])])


def _unknown(asked: Asked) -> Iterator[str]:
    """Query parameters that no operation of this path describes."""
    api = description()
    assert api is not None
    known = {"name", "project", "appNamespace", "refresh", "resourceVersion", "selector", "repo"}
    known |= {"projects", "namespace", "resourceName", "version", "group", "kind"}
    yield from (f"query {key} is not described" for key, _ in asked.query if key not in known)


def answer_fault(asked: Asked, answered: Answered) -> str:
    """Return what is wrong with an answer, empty when it is right or cannot be checked."""
    api = description()
    return _words(api.iter_response_errors(asked, answered)) if api else ""
