"""The sandbox's cluster: a Kubernetes API server over HTTP with its controllers and a kubelet.

Paths, parameters and answers are those of the real server for the kinds in `kinds.py`. It answers
on loopback only and forgets everything when it ends. What it does not do is refused, never faked:
server-side apply, exec, admission, unknown fields under strict validation.
https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from responder.clock import World
from responder.sandbox.access import Access, Ask, Subject
from responder.sandbox.api import Api, Place, full, parse
from responder.sandbox.background import Background
from responder.sandbox.controllers import Controllers
from responder.sandbox.effects import Effects
from responder.sandbox.failure import Refusal
from responder.sandbox.kinds import BY_KIND, BY_PATH, Kind, kind_named
from responder.sandbox.kubelet import Kubelet, Pace, Pull, pulled_elsewhere
from responder.sandbox.logs import read_log
from responder.sandbox.objects import Item, Objects
from responder.sandbox.selectors import field_test, label_test
from responder.sandbox.watching import Watch, stream

__all__ = ["Cluster"]

POD = kind_named("Pod")
_SUBS = {"Pod": {"status", "log", "eviction"}, "Deployment": {"status", "scale"}}
_SCALABLE = {"ReplicaSet", "StatefulSet"}
_BODY_MAX = (
    3 * 1024 * 1024
)  # https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_WATCH_SECONDS = 1800.0


class Cluster:
    """One cluster. `app` is served by whoever owns it; `start` and `close` bracket its life."""

    def __init__(
        self,
        world: World,
        *,
        access: Access | None = None,
        effects: Effects | None = None,
        pull: Pull | None = None,
        pace: Pace | None = None,
        kubelet: bool = True,
    ) -> None:
        self.objects = Objects(world)
        self.effects = effects or Effects()
        self._access = access or Access()
        self._work = Background()
        self._ended = asyncio.Event()
        nodes = Kubelet(self.objects, world, self._work, pull or pulled_elsewhere, pace or Pace())
        self.kubelet = nodes
        self.controllers = Controllers(self.objects, world, self._work, nodes if kubelet else None)
        self._api = Api(self.objects, self.effects)
        self.app = web.Application(client_max_size=_BODY_MAX)
        self.app.router.add_get("/_sandbox/effects", self._show_effects)
        self.app.router.add_get("/_sandbox/state", self._show_state)
        for prefix in ("api", "apis"):
            self.app.router.add_route("*", f"/{prefix}/{{path:.*}}", self._serve)
        for path in _FIXED:
            self.app.router.add_get(f"{path}{{slash:/?}}", self._serve)

    def load(self, dump: Iterable[Mapping[str, Any]]) -> None:
        """Put objects as `kubectl get -o json|yaml` printed them; lists are opened, the rest kept.

        Objects of kinds that the sandbox does not know are left out; one that has the name of an
        object that is there takes its place.
        """
        for item in dump:
            if str(item.get("kind", "")).endswith("List"):
                self.load(item.get("items") or ())
                continue
            group = str(item.get("apiVersion", "")).rpartition("/")[0]
            kind = BY_KIND.get((group, str(item.get("kind"))))
            if kind is not None:
                meta = item["metadata"]
                known = self.objects.find(kind, meta.get("namespace", ""), meta["name"])
                if known is not None:
                    self.objects.delete(kind, known)
                made = self.objects.create(kind, {"status": {}, **item})
                if kind is POD:
                    self.kubelet.adopt(made)

    def start(self) -> None:
        """Begin the controllers' work."""
        self.controllers.start()

    async def close(self) -> None:
        """End watches and controllers; raises the first failure any of them had."""
        self._ended.set()
        await self._work.close()

    async def _show_effects(self, _: web.Request) -> web.Response:
        return web.json_response(self.effects.to_json())

    async def _show_state(self, _: web.Request) -> web.Response:
        state = {
            kind.plural: [full(kind, item) for item in self.objects.items(kind)]
            for kind in BY_KIND.values()
        }
        return web.json_response({"version": self.objects.version, "objects": state})

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except Refusal as refusal:
            return web.json_response(refusal.body(), status=refusal.code, headers=refusal.headers)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        subject = self._access.subject(request.headers.get("Authorization", ""))
        fixed = _FIXED.get(request.path.rstrip("/"))
        if fixed is not None:
            return web.json_response(fixed)
        if request.path in _REVIEWS:
            return await self._review(request, subject)
        place = _place(request.path)
        verb = _verb(request, place)
        resource = f"{place.kind.plural}/{place.sub}" if place.sub else place.kind.plural
        space = place.name if place.kind.kind == "Namespace" else place.namespace
        ask = Ask(
            verb=verb, group=place.kind.group, resource=resource, namespace=space, name=place.name
        )
        self._access.demand(subject, ask)
        if verb == "get":
            return self._get(request, place)
        if verb in {"list", "watch"}:
            return await self._list(request, place)
        return await self._write(request, place)

    def _get(self, request: web.Request, place: Place) -> web.Response:
        if place.sub == "log":
            return read_log(self.objects, self.kubelet, place, request.query)
        if place.sub == "scale":
            return web.json_response(self._api.scale(place))
        item = self.objects.get(place.kind, place.namespace, place.name)
        return self._one(place.kind, item)

    def _one(self, kind: Kind, item: Item, status: int = 200) -> web.Response:
        if "kind" in item:
            return web.json_response(item, status=status)
        if "resourceVersion" not in item["metadata"]:  # a dry run's creation
            return web.json_response(full(kind, item), status=status)
        head = f'{{"kind":"{kind.kind}","apiVersion":"{kind.api_version}",'.encode()
        body = head + self.objects.encoded(kind, item)[1:]
        return web.Response(body=body, status=status, content_type="application/json")

    async def _list(self, request: web.Request, place: Place) -> web.StreamResponse:
        query = request.query
        tests = [
            label_test(query.get("labelSelector", "")),
            field_test(query.get("fieldSelector", "")),
        ]
        wanted = [test for test in tests if test is not None]
        if place.name:
            wanted.append(lambda item: item["metadata"]["name"] == place.name)
        space = place.namespace

        def pick(item: Item) -> bool:
            inside = not space or item["metadata"].get("namespace") == space
            return inside and all(test(item) for test in wanted)

        if query.get("watch") in {"1", "true"}:
            return await self._watch(request, place.kind, pick)
        kind, objects = place.kind, self.objects
        chosen = [item for item in objects.items(kind, space) if not wanted or pick(item)]
        rest = ""
        if (limit := int(query.get("limit") or 0)) or query.get("continue"):
            start = int(query.get("continue") or 0)
            if limit and len(chosen) > start + limit:
                left = len(chosen) - start - limit
                rest = f',"continue":"{start + limit}","remainingItemCount":{left}'
            chosen = chosen[start : start + limit if limit else None]
        head = (
            f'{{"kind":"{kind.kind}List","apiVersion":"{kind.api_version}",'
            f'"metadata":{{"resourceVersion":"{objects.version}"{rest}}},"items":['
        )
        body = head.encode() + b",".join(objects.encoded(kind, item) for item in chosen) + b"]}"
        return web.Response(body=body, content_type="application/json")

    async def _watch(
        self, request: web.Request, kind: Kind, pick: Callable[[Item], bool]
    ) -> web.StreamResponse:
        query = request.query
        version = query.get("resourceVersion", "")
        if version and not version.isdigit():
            text = f'resourceVersion: Invalid value: "{version}": invalid syntax'
            raise Refusal(500, "", text)
        watch = Watch(
            kind=kind,
            pick=pick,
            version=version,
            seconds=float(query.get("timeoutSeconds") or _WATCH_SECONDS),
            bookmarks=query.get("allowWatchBookmarks") in {"1", "true"},
        )
        return await stream(request, self.objects, watch, self._ended)

    async def _write(self, request: web.Request, place: Place) -> web.Response:
        raw = await request.read()
        dry = _dry_run(request)
        kind = place.kind
        if request.method == "DELETE":
            options = parse(raw, kind) if raw else {}
            for key in ("gracePeriodSeconds",):
                if key in request.query:
                    options = {**options, key: int(request.query[key])}
            if "propagationPolicy" in request.query:
                options = {**options, "propagationPolicy": request.query["propagationPolicy"]}
            dry = dry or "All" in (options.get("dryRun") or ())
            return self._one(kind, self._api.delete(place, options, dry=dry))
        body = parse(raw, kind)
        if request.method == "PATCH":
            item = self._api.patch(place, body, request.content_type, dry=dry)
            return self._one(kind, item)
        if request.method == "PUT":
            return self._one(kind, self._api.replace(place, body, dry=dry))
        if place.sub == "eviction":
            return self._one(kind, self._api.evict(place, body, dry=dry), 201)
        return self._one(kind, self._api.create(place, body, dry=dry), 201)

    async def _review(self, request: web.Request, subject: Subject) -> web.Response:
        body = parse(await request.read(), POD)
        if request.path.endswith("selfsubjectreviews"):
            info = {"username": subject.name, "groups": ["system:authenticated"]}
            return web.json_response({**body, "status": {"userInfo": info}}, status=201)
        if request.path.endswith("rulesreviews"):
            rules = self._access.rules(subject, (body.get("spec") or {}).get("namespace", ""))
            status = {"resourceRules": rules, "nonResourceRules": [], "incomplete": False}
            return web.json_response({**body, "status": status}, status=201)
        spec = (body.get("spec") or {}).get("resourceAttributes")
        if not spec:
            text = (
                '.authorization.k8s.io "" is invalid: spec.resourceAttributes: '
                "Invalid value: null: exactly one of nonResourceAttributes or "
                "resourceAttributes must be specified"
            )
            raise Refusal(422, "Invalid", text, {"group": "authorization.k8s.io"})
        sub = spec.get("subresource", "")
        ask = Ask(
            verb=spec.get("verb", ""),
            group=spec.get("group", ""),
            resource=f"{spec.get('resource', '')}/{sub}" if sub else spec.get("resource", ""),
            namespace=spec.get("namespace", ""),
            name=spec.get("name", ""),
        )
        allowed = self._access.allows(subject, ask)
        return web.json_response({**body, "status": {"allowed": allowed}}, status=201)


_FIXED: dict[str, Any] = {
    "/version": {
        "major": "1",
        "minor": "36",
        "gitVersion": "v1.36.0-sandbox",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "sandbox",
    },
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/readyz": "ok",
    "/livez": "ok",
    "/healthz": "ok",
}
_REVIEWS = {
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
    "/apis/authentication.k8s.io/v1/selfsubjectreviews",
}


def _missing() -> Refusal:
    return Refusal(404, "NotFound", "the server could not find the requested resource", {})


def _place(path: str) -> Place:
    parts = path.strip("/").split("/")
    if parts[:2] == ["api", "v1"]:
        group, version, rest = "", "v1", parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:  # noqa: PLR2004 - apis/GROUP/VERSION/…
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise _missing()
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in {"status", "finalize"}:  # noqa: PLR2004
        namespace, rest = rest[1], rest[2:]
    kind = BY_PATH.get((group, version, rest[0])) if rest else None
    if kind is None or len(rest) > 3 or (namespace and not kind.namespaced):  # noqa: PLR2004
        raise _missing()
    name, sub = [*rest[1:], "", ""][:2]
    allowed = _SUBS.get(kind.kind, {"status", "scale"} if kind.kind in _SCALABLE else {"status"})
    if (sub and sub not in allowed) or (name and kind.namespaced and not namespace):
        raise _missing()
    return Place(kind=kind, namespace=namespace, name=name, sub=sub)


def _verb(request: web.Request, place: Place) -> str:
    if request.method in {"GET", "HEAD"}:
        if request.query.get("watch") in {"1", "true"}:
            return "watch"
        return "get" if place.name else "list"
    fits = (request.method == "POST") == (not place.name or place.sub == "eviction")
    if request.method not in _VERBS or not fits:
        text = "the server does not allow this method on the requested resource"
        raise Refusal(405, "MethodNotAllowed", text, {})
    return _VERBS[request.method]


def _dry_run(request: web.Request) -> bool:
    words = request.query.getall("dryRun", [])
    if any(word != "All" for word in words):
        text = (
            'Options.meta.k8s.io "" is invalid: dryRun: Unsupported value: '
            f'{json.dumps(words)}: supported values: "All"'
        )
        raise Refusal(422, "Invalid", text, {"group": "meta.k8s.io"})
    return bool(words)
