"""A stage for the tests: workloads on a real API server, and the product as a service account."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from aiohttp import web

from integrations.kubernetes import guarding, setup
from integrations.kubernetes.paths import collection
from responder.clock import World
from responder.model import Plan, Target
from responder.ports import Action, ActionInfo, Call, Done, Integration, Kit, Pending
from tests.real.api import Api
from tests.real.cluster import ControlPlane
from tests.real.waiting import eventually, wait_until

OLD = f"registry.test/shop/cart@sha256:{'a' * 64}"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
NEW = f"registry.test/shop/cart@sha256:{'b' * 64}"
BAD = f"registry.test/shop/cart@sha256:{'c' * 64}"


class Shelf:
    """An evidence store in memory with the same promises as the real one."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.rows: list[Mapping[str, Any]] = []

    async def put(self, call: Call, name: str, data: bytes, origin: Mapping[str, Any]) -> str:
        """Keep one artefact under its hash."""
        sha = hashlib.sha256(data).hexdigest()
        self.files[name] = data
        self.rows.append({"name": name, "sha256": sha, "size": len(data), "origin": dict(origin)})
        return sha

    async def list(self, incident: int) -> Sequence[Mapping[str, Any]]:
        """Everything kept so far."""
        return self.rows


def account(plane: ControlPlane, namespace: str, actions: Sequence[Action], skip: str = "") -> str:
    """A token whose Role holds what the actions declare, less one "verb resource"."""
    return account_for(plane, namespace, [item.info for item in actions], skip=skip)


def account_for(
    plane: ControlPlane,
    namespace: str,
    infos: Sequence[ActionInfo],
    *,
    skip: str = "",
    protected: Sequence[str] = (),
    words: Sequence[str] = (),
) -> str:
    """The same for actions that are not set up yet; the guard on the account is in force.

    `words` say what steps give to parameters that the guard asks about; see `rbac.uses`.
    """
    name = f"responder-{secrets.token_hex(4)}"
    token = plane.token_for(namespace, name)
    if not skip:  # what lacks a right is refused before anything is asked of the guard
        set_guard(plane, namespace, name, infos, protected, words)
    for scope in ("namespace", "cluster"):
        found = rules(infos, scope, skip)
        _bind(plane, namespace, name, scope, found)
        if found:
            place = "" if scope == "cluster" else namespace
            known = partial(_may, plane, token, place, found[0])
            wait_until(known, "the new rights to be known", 60)
    if not skip:
        with _lent(plane, namespace, name):
            wait_until(lambda: in_force(plane, namespace, token), "the guard to be in force", 60)
    return token


def set_guard(
    plane: ControlPlane,
    namespace: str,
    account: str,
    infos: Sequence[ActionInfo],
    protected: Sequence[str] = (),
    words: Sequence[str] = (),
) -> None:
    """The admission policy for one account, for these actions with all their parameters.

    Its name and its condition hold the account's name, so tests do not disturb each other; it ends
    with the namespace (see `drop_namespace`).
    """
    scope = guarding.Scope(
        home=namespace,
        account=account,
        protected=("kube-system", *protected),
        unprotected=() if namespace in protected else (namespace,),  # here it is both
    )
    used = {word for info in infos for right in info.permissions for word in right.when}
    for item in guarding.guard(scope, guarding.need_of(scope, infos, {*used, *words})):
        plane.must("POST", collection(item["kind"]), item)


def in_force(plane: Api, namespace: str, token: str) -> bool:
    """Whether the API server asks the guard by now: it refuses whatever carries the mark."""
    body = {"metadata": {"name": "trial", "annotations": {guarding.TRIAL: "x"}}}
    path = f"/api/v1/namespaces/{namespace}/configmaps?dryRun=All"
    status, answer = plane.request("POST", path, body, token=token)
    return status == 422 and guarding.ANSWER in str(answer.get("message"))


@contextmanager
def _lent(plane: Api, namespace: str, account: str) -> Iterator[None]:
    """The right to try a write, for the length of a block: an account may have none of its own."""
    name = f"{account}-trial"
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}
    _bind(plane, namespace, name, "namespace", [rule], account)
    try:
        yield
    finally:
        plane.must("DELETE", f"{base}/rolebindings/{name}")
        plane.must("DELETE", f"{base}/roles/{name}")


def _may(plane: Api, token: str, namespace: str, rule: Mapping[str, Any]) -> bool:
    """Whether the API server has read a role and its binding by now."""
    resource, _, sub = rule["resources"][0].partition("/")
    asked = {
        "namespace": namespace,
        "group": rule["apiGroups"][0],
        "resource": resource,
        "subresource": sub,
        "verb": rule["verbs"][0],
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    body = {"spec": {"resourceAttributes": asked}}
    return bool(plane.request("POST", path, body, token=token)[1]["status"]["allowed"])


def rules(infos: Sequence[ActionInfo], scope: str, skip: str = "") -> list[dict[str, Any]]:
    """RBAC rules made of declared permissions and nothing else."""
    found = []
    for info in infos:
        for right in info.permissions:
            verbs = [verb for verb in right.verbs if f"{verb} {right.resource}" != skip]
            place = "namespace" if right.scope == "home" else right.scope
            if place == scope and verbs:
                rule = {"apiGroups": [right.group], "resources": [right.resource], "verbs": verbs}
                found.append(rule)
    return found


def _bind(
    plane: ControlPlane,
    namespace: str,
    name: str,
    scope: str,
    found: list[dict[str, Any]],
    account: str = "",
) -> None:
    group = "rbac.authorization.k8s.io"
    wide = scope == "cluster"
    base = f"/apis/{group}/v1" + ("" if wide else f"/namespaces/{namespace}")
    kind = "ClusterRole" if wide else "Role"
    plural = kind.lower() + "s"
    plane.must("POST", f"{base}/{plural}", {"metadata": {"name": name}, "rules": found})
    plane.must(
        "POST",
        f"{base}/{kind.lower()}bindings",
        {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": kind, "name": name},
            "subjects": [
                {"kind": "ServiceAccount", "name": account or name, "namespace": namespace}
            ],
        },
    )


@asynccontextmanager
async def product(
    plane: ControlPlane, token: str, shelf: Shelf | None = None, **settings: Any
) -> AsyncIterator[Integration]:
    """The integration, set up for one cluster with this token; closed at the end."""
    table = {"api": plane.api, "ca": str(plane.ca), "token": token, **settings}
    made = setup({"prod": table}, World(), Kit(evidence=shelf or Shelf()))
    try:
        yield made
    finally:
        assert made.close
        await made.close()


def action(made: Integration, name: str) -> Action:
    """The action called `kubernetes.<name>`."""
    return next(item for item in made.actions if item.info.name == f"kubernetes.{name}")


def call(
    name: str, target: Target | None = None, *, key: str = "run_1/step", **params: Any
) -> Call:
    """One step's request."""
    return Call(
        action=f"kubernetes.{name}",
        key=key,
        incident=42,
        run=key.partition("/")[0],
        step=key.partition("/")[2],
        params=params,
        target=target or Target(),
    )


async def finish(doer: Action, request: Call, plan: Plan) -> Mapping[str, Any]:
    """Apply a plan and poll until it is done."""
    return await settle(doer, request, await doer.apply(request, plan))


async def settle(doer: Action, request: Call, state: Done | Pending) -> Mapping[str, Any]:
    """Poll until it is done; the state goes through nothing but plain data."""
    found = [state]

    async def look() -> bool:
        if isinstance(found[0], Pending):
            found[0] = await doer.poll(request, found[0].state)
        return isinstance(found[0], Done)

    await eventually(look, f"the end of {request.action}", seconds=30)
    end = found[0]
    assert isinstance(end, Done)
    return end.result


async def perform(made: Integration, request: Call) -> tuple[Plan, Mapping[str, Any]]:
    """Plan and apply one step to its end."""
    doer = action(made, request.action.removeprefix("kubernetes."))
    plan = await doer.plan(request)
    return plan, await finish(doer, request, plan)


def template(image: str = OLD, **labels: str) -> dict[str, Any]:
    """A pod template with one container."""
    return {
        "metadata": {"labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": image}],
        },
    }


def bare(
    plane: ControlPlane,
    namespace: str,
    name: str = "solo",
    *,
    bound: bool = False,
    account: str = "default",
) -> dict[str, Any]:
    """A pod that nobody owns; the scheduler leaves it alone unless it is to be `bound`."""
    body = template(app=name, tier="web")
    body["metadata"]["name"] = name
    body["spec"]["schedulerName"] = "default-scheduler" if bound else "nobody"
    body["spec"]["serviceAccountName"] = account
    made: dict[str, Any] = plane.must("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    return made


def workload(
    plane: ControlPlane, namespace: str, kind: str, name: str = "cart", replicas: int = 2
) -> None:
    """A Deployment, StatefulSet, DaemonSet, ReplicaSet or Job."""
    selector = {"matchLabels": {"app": name}}
    spec: dict[str, Any] = {"selector": selector, "template": template(app=name, tier="web")}
    path = f"/apis/apps/v1/namespaces/{namespace}/{kind.lower()}s"
    if kind == "Job":
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        spec = {"template": template(app=name, tier="web")}
        spec["template"]["spec"]["restartPolicy"] = "Never"
    elif kind != "DaemonSet":
        spec["replicas"] = replicas
    if kind == "StatefulSet":
        spec["serviceName"] = name
    plane.must("POST", path, {"metadata": {"name": name}, "spec": spec})


def cron_job(plane: ControlPlane, namespace: str, name: str = "report") -> None:
    """A CronJob that has not run yet."""
    job = template(app=name)
    job["spec"]["restartPolicy"] = "Never"
    spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": job}}}
    path = f"/apis/batch/v1/namespaces/{namespace}/cronjobs"
    plane.must("POST", path, {"metadata": {"name": name}, "spec": spec})


def bind(
    plane: ControlPlane,
    namespace: str,
    name: str,
    accounts: Sequence[str],
    *,
    resource: str = "pods",
    more: Sequence[Mapping[str, str]] = (),
) -> None:
    """A Role that lets accounts of the namespace get something, and its binding."""
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rule = {"apiGroups": [""], "resources": [resource], "verbs": ["get"]}
    plane.must("POST", f"{base}/roles", {"metadata": {"name": name}, "rules": [rule]})
    who = [{"kind": "ServiceAccount", "name": one, "namespace": namespace} for one in accounts]
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    body = {"metadata": {"name": name}, "roleRef": ref, "subjects": [*who, *more]}
    plane.must("POST", f"{base}/rolebindings", body)


def token_secret(plane: ControlPlane, namespace: str, account: str) -> None:
    """An old-style token of an account, as people still make them."""
    key = "kubernetes.io/service-account.name"
    metadata = {"name": f"{account}-token", "annotations": {key: account}}
    body = {"metadata": metadata, "type": "kubernetes.io/service-account-token"}
    plane.must("POST", f"/api/v1/namespaces/{namespace}/secrets", body)


async def pods(
    plane: ControlPlane, namespace: str, count: int, *, selector: str = "app=cart"
) -> list[dict[str, Any]]:
    """The pods of a selector once so many of them are Ready."""
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"

    async def look() -> list[dict[str, Any]]:
        _, answer = await plane.arequest("GET", path)
        found = [item for item in answer["items"] if is_ready(item)]
        return found if len(found) == count else []

    return await eventually(look, f"{count} ready pods with {selector}")


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is Ready and stays."""
    conditions = pod["status"].get("conditions") or []
    going = pod["metadata"].get("deletionTimestamp")
    return not going and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def policy(plane: ControlPlane, namespace: str, name: str, spec: Mapping[str, Any]) -> None:
    """Create a NetworkPolicy of somebody else."""
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    plane.must("POST", path, {"metadata": {"name": name}, "spec": spec})


def read(plane: ControlPlane, path: str) -> tuple[int, Any]:
    """What the administrator sees at a path."""
    return plane.request("GET", path)


def plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """An object without the noise that every write leaves in its metadata."""
    noise = {"managedFields", "resourceVersion", "generation"}
    metadata = {key: value for key, value in item["metadata"].items() if key not in noise}
    return {**item, "metadata": metadata}


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A loopback server that answers everything with one handler; its URL."""
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
