# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.snapshot`: keep what the API server knows of a pod, before anything changes.

Reads only. What cannot be read is a gap in the manifest, never a reason to stop: in an incident
half of the evidence is worth more than none. Secret objects are never read; managed fields and
the last applied configuration go out, and values of environment variables and arguments that sound
secret, and the credentials in URLs, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet
from integrations.kubernetes.identity import statuses
from integrations.kubernetes.owners import chain
from integrations.kubernetes.paths import collection, named
from integrations.kubernetes.policy import selects, service_selects
from integrations.kubernetes.rights import right
from integrations.kubernetes.together import together
from responder.clock import iso
from responder.errors import ResponderError, StepFailed
from responder.model import Effect, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, EvidenceSink, Param, Pending

__all__ = ["INFO", "Snapshot", "clean"]

INFO = ActionInfo(
    name="kubernetes.snapshot",
    summary="Keep a pod's objects, owners, events, policies, services, node and logs as evidence",
    effect=Effect.READ,
    stage="evidenced",
    params={
        "pod": Param(type="kubernetes.pod", summary="namespace/name, or a name", required=True)
    },
    results={
        "files": Param(type="int", summary="Number of files kept"),
        "manifest": Param(type="string", summary="SHA-256 of manifest.json"),
        "gaps": Param(type="list", summary="What could not be read, and why"),
    },
    permissions=(
        right("Pod", "get", why="the pod itself"),
        right("Pod", "get", sub="log", why="logs, current and previous"),
        right("ReplicaSet", "get", why="owner"),
        right("ReplicationController", "get", why="owner"),
        right("Deployment", "get", why="owner"),
        right("StatefulSet", "get", why="owner"),
        right("DaemonSet", "get", why="owner"),
        right("Job", "get", why="owner"),
        right("CronJob", "get", why="owner"),
        right("Event", "list", why="what happened to the pod"),
        right("NetworkPolicy", "list", why="what it may talk to"),
        right("Service", "list", why="who talks to it"),
        right("EndpointSlice", "list", why="who talks to it"),
        right("PodDisruptionBudget", "list", why="what protects it"),
        right("Node", "get", why="where it runs"),
    ),
    concern="collector",
    timeout=60.0,
    example={"pod": "shop/cart-7f9c"},
)
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SOUNDS_SECRET = re.compile(
    r"passw|pwd|secret|token|credential|(api|access)[_-]?key|private|auth", re.IGNORECASE
)
_IN_TEXT = re.compile(  # user and password of a URL, and `--password=…` among arguments
    rf"(?P<keep>://)(?:[^\s@/:]*:[^\s@]+|[^\s@/]+)(?=@)"
    rf"|(?P<flag>(?<!\S)--?[\w-]*(?:{_SOUNDS_SECRET.pattern})[\w-]*=)\S+",
    re.IGNORECASE,
)
_REDACTED = "*** (redacted)"


_Work = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class _Bundle:
    """The files of one snapshot while it is made."""

    sink: EvidenceSink
    call: Call
    folder: str
    now: Callable[[], int]
    files: list[Json] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    async def keep(self, name: str, data: bytes, origin: Mapping[str, Any]) -> str:
        """Store one file and note it for the manifest."""
        origin = {**origin, "at": iso(self.now())}
        sha = await self.sink.put(self.call, f"{self.folder}/{name}", data, origin)
        entry = {"name": name, "sha256": sha, "size": len(data), "origin": origin}
        self.files.append(entry)
        return sha

    async def json(self, name: str, path: str, item: Json) -> None:
        """Store one object, cleaned, with the version it had."""
        version = (item.get("metadata") or {}).get("resourceVersion", "")
        await self.keep(name, _text(clean(item)), {"path": path, "resourceVersion": version})

    async def attempt(self, what: str, work: _Work) -> None:
        """Do one part; its failure is a gap."""
        try:
            await work()
        except ResponderError as error:
            self.gaps.append(f"{what}: {error}")


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class Snapshot:
    """Collects files into the evidence store; touches nothing in the cluster."""

    fleet: Fleet
    sink: EvidenceSink
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """An empty plan: nothing will change. Raises `NotFound`, and `StepFailed` for a twin."""
        api = self.fleet.api(call)
        namespace, name = self.fleet.place(call)
        pod = await api.get(named("Pod", namespace, name))
        self.fleet.confirm(call, pod)
        return Plan(
            action=call.action,
            summary=f"keep evidence of pod {namespace}/{name}",
            params={"pod": f"{namespace}/{name}", "uid": pod["metadata"]["uid"]},
        )

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Collect. Raises only when the pod itself cannot be read or nothing can be stored.

        A restart after the manifest was stored collects nothing twice: one step, one manifest.
        """
        if kept := await self._kept(call):
            return kept
        api = self.fleet.api(call)
        namespace, name = self.fleet.place(call)
        path = named("Pod", namespace, name)
        pod = await api.get(path)
        uid = pod["metadata"]["uid"]
        if uid != plan.params["uid"]:
            raise StepFailed(f"pod {namespace}/{name} is another one now: UID {uid}")
        clock = api.connection.world.clock
        bundle = _Bundle(self.sink, call, f"{namespace}_{name}_{uid[:8]}", clock.now)
        await bundle.json("pod.json", path, pod)
        await together(
            bundle.attempt(what, work) for what, work in self._parts(api, bundle, pod).items()
        )
        manifest = _manifest(bundle, api.cluster, pod)
        counted = {"files": len(bundle.files) + 1, "gaps": sorted(bundle.gaps)}
        origin = {"path": "", "step": call.key, **counted}
        sha = await bundle.keep("manifest.json", manifest, origin)
        return Done(result={**counted, "manifest": sha})

    async def _kept(self, call: Call) -> Done | None:
        """What this very step had collected before a restart, if its manifest was stored."""
        for item in await self.sink.list(call.incident):
            origin = item["origin"]
            if origin.get("step") == call.key:
                result = {key: origin[key] for key in ("files", "gaps")}
                return Done(result={**result, "manifest": item["sha256"]})
        return None

    def _parts(self, api: Api, bundle: _Bundle, pod: Json) -> dict[str, _Work]:
        """Everything that is kept besides the pod, each part by its name for a person."""
        parts: dict[str, _Work] = {
            "rights": partial(self._lacking, api, bundle, pod["metadata"]["namespace"]),
            "owners": partial(_owners, api, bundle, pod),
            "events": partial(_events, api, bundle, pod),
            "node": partial(_node, api, bundle, pod),
        }
        for kind in _NEIGHBOURS:
            parts[f"objects {kind}"] = partial(_neighbours, api, bundle, pod, kind)
        for status in statuses(pod):
            name = str(status["name"])
            if status.get("containerID"):
                parts[f"log of {name}"] = partial(_log, api, bundle, pod, name, previous=False)
            if status.get("restartCount") or (status.get("lastState") or {}).get("terminated"):
                what = f"previous log of {name}"
                parts[what] = partial(_log, api, bundle, pod, name, previous=True)
        return parts

    async def _lacking(self, api: Api, bundle: _Bundle, namespace: str) -> None:
        """A right that is missing is a gap, even where this pod did not need it."""
        lacking = await self.fleet.rights[api.cluster].missing(api, self.info, namespace)
        bundle.gaps += [f"our account may not {text}" for text in lacking]

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: collecting ends with applying."""
        return Done()

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Look for the manifest in the store; gaps make it `residual`."""
        stored = {item["sha256"] for item in await self.sink.list(call.incident)}
        if result["manifest"] not in stored:
            raise StepFailed(f"manifest {result['manifest']} is not in the evidence store")
        gaps = tuple(f"not kept: {gap}" for gap in result["gaps"])
        return Verdict(
            level=VerdictLevel.RESIDUAL if gaps else VerdictLevel.ENFORCED,
            residual=gaps,
            checks={"manifest": f"{result['files']} files, SHA-256 {result['manifest']}"},
        )

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Nothing was changed, so there is nothing to take back."""
        return Done()


def clean(item: Any) -> Any:
    """An object without noise and without what may be secret."""
    if isinstance(item, list):
        return [clean(part) for part in item]
    if isinstance(item, str):
        return _IN_TEXT.sub(rf"\g<keep>\g<flag>{_REDACTED}", item)
    if not isinstance(item, dict):
        return item
    found = {key: clean(value) for key, value in item.items() if key != "managedFields"}
    annotations = found.get("annotations")
    if isinstance(annotations, dict) and _LAST_APPLIED in annotations:
        found["annotations"] = {**annotations, _LAST_APPLIED: _REDACTED}
    if set(found) == {"name", "value"} and _SOUNDS_SECRET.search(str(found["name"])):
        found["value"] = _REDACTED
    return found


_Picker = Callable[[Json, Mapping[str, str]], bool]


def _any(_item: Json, _labels: Mapping[str, str]) -> bool:
    return True


def _budget_selects(budget: Json, labels: Mapping[str, str]) -> bool:
    return selects((budget.get("spec") or {}).get("selector"), labels)


_NEIGHBOURS: Mapping[str, tuple[str, _Picker]] = {
    "NetworkPolicy": ("networkpolicies.json", _any),
    "Service": ("services.json", service_selects),
    "PodDisruptionBudget": ("poddisruptionbudgets.json", _budget_selects),
    "EndpointSlice": ("endpointslices.json", _any),
}


async def _neighbours(api: Api, bundle: _Bundle, pod: Json, kind: str) -> None:
    name, picks = _NEIGHBOURS[kind]
    labels = pod["metadata"].get("labels") or {}
    path = collection(kind, pod["metadata"]["namespace"])
    found = [item for item in await api.items(path) if picks(item, labels)]
    if kind == "EndpointSlice":
        found = [item for item in found if _points_at(item, pod["metadata"]["uid"])]
    await bundle.keep(name, _text(clean(found)), {"path": path})


def _points_at(piece: Json, uid: str) -> bool:
    ends = piece.get("endpoints") or []
    return any((end.get("targetRef") or {}).get("uid") == uid for end in ends)


async def _owners(api: Api, bundle: _Bundle, pod: Json) -> None:
    namespace = pod["metadata"]["namespace"]
    for owner in await chain(api, pod, whole=True):
        kind, name = owner["kind"], owner["metadata"]["name"]
        await bundle.json(f"owner-{kind}-{name}.json", named(kind, namespace, name), owner)


async def _events(api: Api, bundle: _Bundle, pod: Json) -> None:
    path = collection("Event", pod["metadata"]["namespace"])
    uid = pod["metadata"]["uid"]
    found = await api.items(path, fieldSelector=f"involvedObject.uid={uid}")
    await bundle.keep("events.json", _text(clean(found)), {"path": path})


async def _node(api: Api, bundle: _Bundle, pod: Json) -> None:
    name = (pod.get("spec") or {}).get("nodeName")
    if name:
        path = named("Node", "", name)
        await bundle.json("node.json", path, await api.get(path))


async def _log(api: Api, bundle: _Bundle, pod: Json, container: str, *, previous: bool) -> None:
    metadata = pod["metadata"]
    path = f"{named('Pod', metadata['namespace'], metadata['name'])}/log"
    most = api.connection.settings.log_bytes
    query = {"container": container, "timestamps": "true", "limitBytes": str(most)}
    if previous:
        query["previous"] = "true"
    data = await api.text(path, most, **query)
    name = f"log-{container}.previous.txt" if previous else f"log-{container}.txt"
    await bundle.keep(name, data, {"path": path, "container": container, "previous": previous})
    if len(data) >= most:
        bundle.gaps.append(f"{name}: only its first {most} bytes")


def _manifest(bundle: _Bundle, cluster: str, pod: Json) -> bytes:
    metadata = pod["metadata"]
    whole = {
        "pod": f"{metadata['namespace']}/{metadata['name']}",
        "uid": metadata["uid"],
        "cluster": cluster,
        "incident": bundle.call.incident,
        "step": bundle.call.key,
        "files": sorted(bundle.files, key=lambda entry: str(entry["name"])),
        "gaps": sorted(bundle.gaps),
        "redacted": "managedFields, last applied configuration, secret-sounding variables",
    }
    return _text(whole)


def _text(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()
