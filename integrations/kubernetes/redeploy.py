# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.redeploy`: give a workload an image by digest and watch the rollout to its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from integrations.kubernetes import rollout
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet, insist, reference
from integrations.kubernetes.paths import collection, named, valid_name
from integrations.kubernetes.quarantine import INCIDENT, LABEL
from integrations.kubernetes.rights import right
from responder.errors import Conflict, StepFailed
from responder.model import Blast, Change, Effect, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending

__all__ = ["INFO", "KINDS", "Redeploy", "judged", "pods_of"]

KEY = "responder.dev/redeploy-key"
FORMER = "responder.dev/former-image"
KINDS = ("Deployment", "StatefulSet", "DaemonSet", "CronJob")
INFO = ActionInfo(
    name="kubernetes.redeploy",
    summary="Roll a workload out with an image named by digest, and watch it to the end",
    effect=Effect.CHANGE,
    stage="rolled-out",
    params={
        "workload": Param(
            type="string",
            summary="Deployment/x, StatefulSet/x, DaemonSet/x or CronJob/x",
            required=True,
        ),
        "image": Param(type="image", summary="repository@sha256:…", required=True),
        "namespace": Param(type="string", summary="Namespace; the target's when left out"),
        "container": Param(type="string", summary="Container, when there are several"),
        "cluster": Param(type="string", summary="Cluster; the target's when left out"),
        "one_way": Param(
            type="bool",
            summary="the former image must not come back: there is no undo",
            default=False,
        ),
    },
    results={
        "workload": Param(type="string", summary="Kind/name that was rolled out"),
        "image": Param(type="image", summary="Image that runs now"),
        "former": Param(type="image", summary="Image that ran before"),
    },
    permissions=(
        right("Deployment", "get", "patch", why="read it, change its image"),
        right("StatefulSet", "get", "patch", why="read it, change its image"),
        right("DaemonSet", "get", "patch", why="read it, change its image"),
        right("CronJob", "get", "patch", why="read it, change its image"),
        right("Pod", "list", why="see new pods come up, or why not"),
    ),
    undoable=True,
    concern="deployer",
    timeout=900.0,
    example={"workload": "Deployment/cart", "image": "registry.example/shop/cart@sha256:…"},
)
_LOOK_AGAIN = 2.0  # seconds
_TRIES = 4


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class Redeploy:
    """One patch of one image; never touches a workload that a GitOps tool owns."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Read the workload and its pods. Raises `StepFailed` where we must not roll out."""
        api = self._api(call)
        image = rollout.pinned(str(call.params["image"]))
        kind, namespace, name = _place(call)
        await self.fleet.require(api, self.info, namespace)
        workload = await _read(api, kind, namespace, name)
        if why := rollout.refusal(workload):
            raise StepFailed(f"{rollout.label(workload)} is not rolled out: {why}")
        container = str(call.params.get("container") or "")
        container = rollout.pick_container(workload, container, image)
        pods = await pods_of(api, workload)
        plan = _design(call, api, workload, container, image, pods)
        if plan.changes and self.fleet.dry_runs(api):
            body = _patch(workload, container, image, plan.changes[0].after["annotations"])
            del body["metadata"]["resourceVersion"]  # a moved status is no news for a dry run
            await api.patch(named(kind, namespace, name), body, dry_run=True)
        return plan

    def _api(self, call: Call) -> Api:
        """The cluster that the step names, else the target's."""
        cluster = str(call.params.get("cluster") or "")
        named = replace(call.target, cluster=cluster) if cluster else call.target
        return self.fleet.api(replace(call, target=named))

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Change the image, then wait. Raises `Conflict` when somebody else changed it."""
        api = self._api(call)
        if plan.changes:
            change = plan.changes[0]
            await insist(api, lambda: _set(api, plan.data, change))
        return _pending(plan.data, "just begun")

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """See how far the rollout is. Raises `StepFailed` with the way back when it fails."""
        api = self._api(call)
        workload = await _read(api, state["kind"], state["namespace"], state["name"])
        _must_be(workload, state)
        progress = rollout.progress(workload)
        if progress.failed:
            raise StepFailed(_failure(workload, progress.failed, state))
        if progress.done:
            return Done(
                result={
                    "workload": f"{state['kind']}/{state['name']}",
                    "image": state["image"],
                    "former": state["former"],
                }
            )
        sick = rollout.sickness(await pods_of(api, workload), state["container"], state["image"])
        if sick and sick == state.get("sick"):
            # twice in a row: a single failed pull may be a registry's bad second
            raise StepFailed(_failure(workload, sick, state))
        return _pending({**state, "sick": sick}, progress.text)

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Read what every pod really runs; `residual` names pods that still run another image."""
        api = self._api(call)
        data = plan.data
        workload = await _read(api, data["kind"], data["namespace"], data["name"])
        pods = await pods_of(api, workload)
        return judged(workload, pods, data["container"], data["image"], plan.residual)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Put the former image back. Raises `Conflict` when somebody else changed it since.

        Raises `StepFailed` for a step that says that the former image must not come back.
        """
        if not plan.changes:
            return Done()
        if call.params.get("one_way"):
            raise StepFailed(
                f"{plan.data['kind']} {plan.data['name']}: its step is one_way, so "
                f"{plan.data['former']} does not come back; roll a third image out instead"
            )
        api = self._api(call)
        change = plan.changes[0]
        await insist(api, lambda: _put_back(api, plan.data, change))
        back = {**plan.data, "image": plan.data["former"], "former": plan.data["image"]}
        return _pending(back, "going back")


def _place(call: Call) -> tuple[str, str, str]:
    kind, slash, name = str(call.params["workload"]).partition("/")
    if not slash or kind not in KINDS:
        raise StepFailed(
            f"workload {call.params['workload']!r}: expected one of "
            f"{', '.join(f'{known}/name' for known in KINDS)}"
        )
    namespace = str(call.params.get("namespace") or call.target.namespace)
    if not namespace:
        raise StepFailed(f"{kind}/{name}: no namespace is given, and the target has none")
    return kind, valid_name(namespace, "namespace"), valid_name(name, kind)


async def _read(api: Api, kind: str, namespace: str, name: str) -> Json:
    workload = await api.get(named(kind, namespace, name))
    return {**workload, "kind": kind}


async def pods_of(api: Api, workload: Json) -> list[Json]:
    """The pods of a workload; a CronJob has none, its jobs run what they were started with."""
    if workload["kind"] == "CronJob":
        return []
    path = collection("Pod", workload["metadata"]["namespace"])
    return await api.items(path, labelSelector=rollout.selector_query(workload))


def _design(
    call: Call, api: Api, workload: Json, container: str, image: str, pods: list[Json]
) -> Plan:
    kind, metadata = workload["kind"], workload["metadata"]
    annotations = metadata.get("annotations") or {}
    mine = annotations.get(KEY) == call.key
    former = annotations.get(FORMER, "") if mine else rollout.image_of(workload, container)
    place = f"{metadata['namespace']}/{metadata['name']}"
    one_way = bool(call.params.get("one_way"))
    change = Change(
        verb="patch",
        ref=reference(api, kind, workload),
        before={"container": container, "image": former},
        after={
            "container": container,
            "image": image,
            "annotations": {KEY: call.key, FORMER: former, INCIDENT: str(call.incident)},
        },
        precondition={"resourceVersion": metadata["resourceVersion"]},
    )
    same = former == image
    return Plan(
        action=call.action,
        summary=f"roll {kind} {place} out with {image}" + (" (already)" if same else ""),
        changes=() if same else (change,),
        blast=Blast(
            # The workload's own strategy keeps its pods up: none is taken away, so the ceilings on
            # pods do not count them. The workload is named, and can be guarded as such.
            namespaces=(metadata["namespace"],),
            workloads=(f"{metadata['namespace']}/{kind}/{metadata['name']}",),
            labels=dict(metadata.get("labels") or {}),
        ),
        residual=_residual(workload, pods),
        undo="" if same or one_way else f"roll {kind} {place} back to {former}",
        params={"workload": f"{kind}/{metadata['name']}", "container": container, "image": image}
        | ({"one_way": True} if one_way else {}),
        data={
            "kind": kind,
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "container": container,
            "image": image,
            "former": former,
            "one_way": one_way,
        },
    )


def _residual(workload: Json, pods: list[Json]) -> tuple[str, ...]:
    found = []
    if release := rollout.helm_release(workload):
        found.append(
            f"Helm release {release} still holds the old image: its next upgrade undoes it"
        )
    found += [
        f"the rollout deletes the isolated pod {pod['metadata']['name']} and what is in it"
        for pod in pods
        if LABEL in (pod["metadata"].get("labels") or {})
    ]
    return tuple(found)


def _patch(
    workload: Json, container: str, image: str, annotations: Mapping[str, str | None]
) -> Json:
    metadata = workload["metadata"]
    containers = rollout.template_with(workload, container, image)
    return {
        "metadata": {
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "annotations": dict(annotations),
        },
        "spec": rollout.patch_of(workload, {"spec": {"containers": containers}}),
    }


async def _set(api: Api, data: Mapping[str, Any], change: Change) -> None:
    """Look, then patch; what this step did already stays done."""
    marks = change.after["annotations"]
    await _swap(api, data, expected=data["former"], wanted=data["image"], marks=marks)


async def _put_back(api: Api, data: Mapping[str, Any], change: Change) -> None:
    marks = dict.fromkeys(change.after["annotations"])
    await _swap(api, data, expected=data["image"], wanted=data["former"], marks=marks)


async def _swap(
    api: Api,
    data: Mapping[str, Any],
    *,
    expected: str,
    wanted: str,
    marks: Mapping[str, str | None],
) -> None:
    path = named(data["kind"], data["namespace"], data["name"])
    for _ in range(_TRIES):
        workload = await _read(api, data["kind"], data["namespace"], data["name"])
        found = rollout.image_of(workload, data["container"])
        annotations = workload["metadata"].get("annotations") or {}
        if found == wanted and all(annotations.get(key) == text for key, text in marks.items()):
            return
        if workload["metadata"]["uid"] != data["uid"] or found != expected:
            raise Conflict(
                f"{rollout.label(workload)} was changed by somebody: expected UID {data['uid']} "
                f"with image {expected}, got UID {workload['metadata']['uid']} with {found}"
            )
        try:
            await api.patch(path, _patch(workload, data["container"], wanted, marks))
        except Conflict:
            continue  # its status moved between look and patch
        return
    raise Conflict(f"{data['kind']} {data['name']} changes faster than it can be patched")


def _must_be(workload: Json, state: Mapping[str, Any]) -> None:
    found = rollout.image_of(workload, state["container"])
    if workload["metadata"]["uid"] != state["uid"] or found != state["image"]:
        raise StepFailed(
            f"{rollout.label(workload)} was changed while its rollout was watched: expected image "
            f"{state['image']}, got {found}"
        )


def _failure(workload: Json, why: str, state: Mapping[str, Any]) -> str:
    way = f"undo this step to go back to {state['former']}"
    if state.get("one_way"):
        way = f"{state['former']} does not come back by itself: roll a third image out"
    return f"{rollout.label(workload)}: the rollout of {state['image']} fails: {why}; {way}"


def judged(
    workload: Json, pods: list[Json], container: str, image: str, residual: tuple[str, ...] = ()
) -> Verdict:
    """What the pods of a workload really run. Raises `StepFailed` for a CronJob of another image.

    Pods that still run another image stay open; what is proven carries the given residual.
    """
    if workload["kind"] == "CronJob":
        return _next_job(workload, container, image)
    exact, by_spec, other = rollout.running(pods, container, image)
    checks = {
        "by digest": f"{len(exact)} pods report the digest",
        "by name": f"{len(by_spec)} pods run the image and report another digest or none",
    }
    if other:
        texts = tuple(f"pod {name} still runs another image" for name in sorted(other))
        return Verdict(level=VerdictLevel.RESIDUAL, residual=texts, checks=checks)
    if not exact and not by_spec:
        none = ("no pod runs: nothing was proven",)
        return Verdict(level=VerdictLevel.APPLIED, residual=none, checks=checks)
    level = VerdictLevel.APPLIED if by_spec else VerdictLevel.ENFORCED
    return Verdict(level=level, residual=residual, checks=checks)


def _next_job(workload: Json, container: str, image: str) -> Verdict:
    """What a CronJob starts next; jobs that it has started go on with what they have."""
    found = rollout.image_of(workload, container)
    if found != image:
        raise StepFailed(f"{rollout.label(workload)}: expected {image}, got {found}")
    active = [str(one.get("name")) for one in (workload.get("status") or {}).get("active") or []]
    going = tuple(f"job {name} goes on with the image it was started with" for name in active)
    return Verdict(level=VerdictLevel.APPLIED, residual=going, checks={"next job": found})


def _pending(data: Mapping[str, Any], text: str) -> Pending:
    names = ("kind", "namespace", "name", "uid", "container", "image", "former", "one_way", "sick")
    return Pending(
        state={key: data[key] for key in names if key in data},
        after=_LOOK_AGAIN,
        waiting_for=f"{data['kind']} {data['namespace']}/{data['name']}: {text}",
    )
