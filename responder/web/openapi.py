"""The OpenAPI 3.1 document, generated from the same table that the server runs on.

https://spec.openapis.org/oas/v3.1.1. It holds no example of real data and no address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from aiohttp import web

from responder.web.problems import KINDS
from responder.web.routing import Ask, Route, reply

__all__ = ["DOCUMENT", "document", "generate"]

DOCUMENT = web.AppKey("openapi", Mapping[str, Any])
_PART = re.compile(r"\{(\w+)(?::((?:[^{}]|\{[^{}]*\})+))?\}")
_PROBLEM = {
    "description": "Refused; `code` says why",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_PROBLEM_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": list(KINDS)},
        "trace_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}


async def document(ask: Ask) -> web.Response:
    """Serve the document."""
    return reply(ask.request.app[DOCUMENT])


def generate(routes: Iterable[Route]) -> Mapping[str, Any]:
    """The document for a table of routes."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {"Problem": _PROBLEM_SCHEMA}
    for route in routes:
        template = _PART.sub(r"{\1}", route.path)
        paths.setdefault(template, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "responder",
            "version": version("runtime-responder"),
            "description": "Incidents, runs, approvals and evidence. Fields are only ever added.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "x-problems": dict(KINDS),
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{route.handler.__name__}",
        "summary": route.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {
            str(route.status): _success(route),
            "default": _PROBLEM,
        },
    }
    if route.role is not None:
        operation["security"] = [{"token": []}]
        operation["x-role"] = route.role.value
    if route.raw and route.method == "POST":
        operation["requestBody"] = {"required": True, "content": {"application/json": {}}}
    elif route.model is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _schema(route, schemas)}},
        }
    return operation


def _success(route: Route) -> dict[str, Any]:
    if route.status == 204:  # noqa: PLR2004 - No Content
        return {"description": route.summary}
    return {"description": route.summary, "content": {route.answer: {}}}


def _schema(route: Route, schemas: dict[str, Any]) -> dict[str, str]:
    if route.model is None:
        raise LookupError(f"{route.path} has no model")
    schema = route.model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[route.model.__name__] = schema
    return {"$ref": f"#/components/schemas/{route.model.__name__}"}


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", **({"pattern": f"^{pattern}$"} if pattern else {})},
        }
        for name, pattern in _PART.findall(route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "schema": {"type": q.type}, "description": q.summary}
        for name, q in route.query.items()
    ]
