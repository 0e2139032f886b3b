"""A plain client of one API server, and bodies to send: what the contract is checked with."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPS, POLICY = "/apis/apps/v1", "/apis/policy/v1"
NETWORKING = "/apis/networking.k8s.io/v1"
PATIENCE = 20.0

Answer = tuple[int, Any]


@dataclass(frozen=True)
class Client:
    """Plain HTTP and JSON to one API server, for one namespace."""

    session: aiohttp.ClientSession
    base: str
    namespace: str
    trust: ssl.SSLContext | bool = True

    def path(self, plural: str, name: str = "", api: str = "/api/v1") -> str:
        """The path of objects or of one object in this check's namespace."""
        tail = f"/{name}" if name else ""
        return f"{api}/namespaces/{self.namespace}/{plural}{tail}"

    async def send(self, method: str, path: str, body: Any = None, kind: str = "") -> Answer:
        """One request; never raises for a status."""
        kind = kind or (MERGE if method == "PATCH" else "application/json")
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": kind} if data is not None else {}
        url = self.base + path
        async with self.session.request(
            method, url, data=data, headers=headers, ssl=self.trust
        ) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json"
            return answer.status, json.loads(text) if is_json else text

    async def must(self, method: str, path: str, body: Any = None, kind: str = "") -> Any:
        """One request that has to succeed."""
        status, answer = await self.send(method, path, body, kind)
        assert status < 300, f"{method} {path}: {status} {answer}"
        return answer

    async def pods(self, selector: str = "") -> list[dict[str, Any]]:
        """Pods of the namespace that are not ending."""
        query = f"?labelSelector={selector}" if selector else ""
        found = (await self.must("GET", self.path("pods") + query))["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    async def until(self, what: str, test: Callable[[], Awaitable[Any]]) -> Any:
        """Ask again until it holds; AssertionError after a while."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        while not (got := await test()):
            assert loop.time() < end, f"never came true: {what}"
            await asyncio.sleep(0.03)
        return got

    @asynccontextmanager
    async def watching(self, path: str, version: str) -> AsyncIterator[AsyncIterator[Any]]:
        """Events of a watch of two seconds; it is read to its end, so that nothing stays open."""
        url = f"{self.base}{path}{'&' if '?' in path else '?'}watch=1&timeoutSeconds=2"
        url += f"&resourceVersion={version}"
        async with self.session.get(url, ssl=self.trust) as answer:
            assert answer.status == 200

            async def lines() -> AsyncIterator[Any]:
                async for line in answer.content:
                    yield json.loads(line)

            yield lines()
            await answer.read()


def pod_body(name: str, image: str = "example.invalid/probe:1", **labels: str) -> dict[str, Any]:
    """A pod with one container."""
    spec = {"containers": [{"name": "c", "image": image}], "terminationGracePeriodSeconds": 0}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def deployment_body(name: str, size: int, image: str = "example.invalid/probe:1") -> dict[str, Any]:
    """A Deployment of pods that carry `app: NAME`."""
    spec = pod_body("x", image)["spec"]
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": size,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    }


def refused(answer: Answer, code: int, reason: str) -> dict[str, Any]:
    """The Status body of a refusal, after holding it to its number and reason."""
    status, body = answer
    assert status == code, (status, body)
    assert body["kind"] == "Status"
    assert body["status"] == "Failure"
    assert body["code"] == code
    assert body.get("reason", "") == reason, body
    return dict(body)
