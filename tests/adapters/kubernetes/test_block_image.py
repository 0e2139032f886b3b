"""A blocked image does not start again: not now, not after policies came and went, not later."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from integrations.kubernetes import INFOS, blocking
from responder.errors import StepFailed
from responder.model import Plan, Target, Verdict, VerdictLevel
from responder.ports import Call, Integration
from tests.adapters.kubernetes import stage
from tests.real import cluster
from tests.real.cluster import ControlPlane
from tests.real.waiting import eventually

pytestmark = pytest.mark.control_plane
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
WITHIN = 2.0  # seconds


def digest_for(text: str) -> str:
    """A digest that no other test blocks: policies are valid in the whole cluster."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@asynccontextmanager
async def responder(plane: ControlPlane, namespace: str) -> AsyncIterator[Integration]:
    """The product with the declared rights of this one action."""
    wanted = [info for info in INFOS if info.name == "kubernetes.block_image"]
    token = stage.account_for(plane, namespace, wanted)
    async with stage.product(plane, token, home=namespace) as made:
        yield made


def start(plane: ControlPlane, namespace: str, image: str, *, dry: bool = True) -> tuple[int, str]:
    """Create a pod of an image, as the administrator."""
    body = stage.template(image)
    body["metadata"] = {"generateName": "p-"}
    body["spec"]["schedulerName"] = "nobody"
    query = "?dryRun=All" if dry else ""
    status, answer = plane.request("POST", f"/api/v1/namespaces/{namespace}/pods{query}", body)
    return status, str(answer.get("message") or answer["metadata"]["name"])


async def block(made: Integration, **params: Any) -> tuple[Call, Plan, Verdict]:
    """Block an image and verify it."""
    key = params.pop("key", "run_1/block")
    request = stage.call("block_image", key=key, **params)
    plan, result = await stage.perform(made, request)
    return request, plan, await stage.action(made, "block_image").verify(request, plan, result)


async def refused_within(plane: ControlPlane, namespace: str, image: str, begin: float) -> None:
    """A real pod of the image is refused before the time is up."""
    while start(plane, namespace, image)[0] != 422:
        assert time.monotonic() - begin < WITHIN, "it was not refused in time"
    assert start(plane, namespace, image, dry=False)[0] == 422
    assert time.monotonic() - begin < WITHIN


async def test_a_new_pod_with_a_blocked_digest_is_refused_within_two_seconds(
    control_plane: ControlPlane, namespace: str
) -> None:
    """From the end of the first block, and from the beginning of every later one."""
    first, second = digest_for(namespace), digest_for(f"{namespace}/2")
    bad = f"registry.test/shop/cart@{first}"
    _, pod = start(control_plane, namespace, bad, dry=False)
    async with responder(control_plane, namespace) as made:
        request = stage.call("block_image", digest=first)
        doer = stage.action(made, "block_image")
        plan = await doer.plan(request)
        result = await stage.finish(doer, request, plan)
        await refused_within(control_plane, namespace, bad, time.monotonic())
        verdict = await doer.verify(request, plan, result)
        assert verdict.level is VerdictLevel.ENFORCED
        assert (await doer.plan(request)).hash == plan.hash

        begin = time.monotonic()
        await stage.perform(made, stage.call("block_image", key="run_2/block", digest=second))
        await refused_within(control_plane, namespace, f"a.b/c@{second}", begin)
    assert start(control_plane, namespace, stage.NEW)[0] == 201
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
    control_plane.must("PATCH", path, {"metadata": {"labels": {"still": "editable"}}})


async def test_no_side_door_starts_a_blocked_image(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Init and ephemeral containers, another repository, another spelling, a changed image."""
    digest = digest_for(namespace)
    pods = f"/api/v1/namespaces/{namespace}/pods"
    _, name = start(control_plane, namespace, stage.NEW, dry=False)
    ref = f"shop/{namespace}:1.2"
    async with responder(control_plane, namespace) as made:
        await block(made, digest=digest, image=ref)
    bad = f"elsewhere.test/copy@{digest}"
    body = stage.template(stage.NEW)
    body["metadata"] = {"generateName": "p-"}
    body["spec"]["initContainers"] = [{"name": "first", "image": bad}]
    assert control_plane.request("POST", f"{pods}?dryRun=All", body)[0] == 422
    for spelling in (ref, f"docker.io/{ref}", f"index.docker.io/{ref}"):
        assert start(control_plane, namespace, spelling)[0] == 422, spelling
    assert start(control_plane, namespace, f"shop/{namespace}:1.3")[0] == 201
    added = {"spec": {"ephemeralContainers": [{"name": "debug", "image": bad}]}}
    answer = control_plane.request("PATCH", f"{pods}/{name}/ephemeralcontainers?dryRun=All", added)
    assert (answer[0], "blocked by an open incident" in answer[1]["message"]) == (422, True)
    image = {"spec": {"containers": [{"name": "main", "image": bad}]}}
    kind = "application/strategic-merge-patch+json"
    answer = control_plane.request("PATCH", f"{pods}/{name}?dryRun=All", image, kind)
    assert (answer[0], "blocked by an open incident" in answer[1]["message"]) == (422, True)


async def test_policies_that_come_and_go_do_not_open_the_block(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Others create and delete policies with the same kind of parameters all the while."""
    first, second = digest_for(namespace), digest_for(f"{namespace}/2")
    async with responder(control_plane, namespace) as made:
        await block(made, digest=first)
        for number in range(4):
            _churn(control_plane, f"{namespace}-other-{number}", namespace)
            assert start(control_plane, namespace, f"a.b/c@{first}")[0] == 422
        begin = time.monotonic()
        await stage.perform(made, stage.call("block_image", key="run_2/block", digest=second))
        await refused_within(control_plane, namespace, f"a.b/c@{second}", begin)


def _churn(plane: ControlPlane, name: str, namespace: str) -> None:
    """A policy with ConfigMap parameters that lives for a moment."""
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["services"],
    }
    spec = {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "true"}],
    }
    where = {"name": "none", "namespace": namespace, "parameterNotFoundAction": "Allow"}
    bound = {"policyName": name, "validationActions": ["Deny"], "paramRef": where}
    for kind, body in (("ies", spec), ("ybindings", bound)):
        path = f"{ADMISSION}/validatingadmissionpolic{kind}"
        plane.must("POST", path, {"metadata": {"name": name}, "spec": body})
    time.sleep(1.2)  # the API server reads its policies once a second: let it see this one
    for kind in ("ybindings", "ies"):
        plane.must("DELETE", f"{ADMISSION}/validatingadmissionpolic{kind}/{name}")


async def test_a_restart_of_the_api_server_keeps_the_block_and_frozen_parameters_are_noticed() -> (
    None
):
    """A control plane of its own, because the second half spoils its API server."""
    with cluster.control_plane() as plane:
        namespace = plane.namespace()
        digest, later = digest_for("first"), digest_for("later")
        async with responder(plane, namespace) as made:
            request, plan, _ = await block(made, digest=digest)
            doer = stage.action(made, "block_image")
            plane.restart_api_server()
            begin = time.monotonic()
            await refused_within(plane, namespace, f"a.b/c@{digest}", begin)
            verdict = await doer.verify(request, plan, {})
            assert verdict.level is VerdictLevel.ENFORCED

            _delete_every_policy(plane)
            again = stage.call("block_image", key="run_2/block", digest=later)
            with pytest.raises(StepFailed, match="has stopped watching ConfigMaps"):
                await stage.perform(made, again)
            assert start(plane, namespace, f"a.b/c@{later}")[0] == 201  # as it said: not blocked
            plane.restart_api_server()
            _, _, verdict = await block(made, key="run_2/block", digest=later)
            assert verdict.level is VerdictLevel.ENFORCED
            assert start(plane, namespace, f"a.b/c@{digest}")[0] == 422


def _delete_every_policy(plane: ControlPlane) -> None:
    """What must never be done, keeper and all; wait until the API server has noticed."""
    for kind in ("ybindings", "ies"):
        plane.must("DELETE", f"{ADMISSION}/validatingadmissionpolic{kind}")
    time.sleep(2.5)  # policies are read once a second, and nothing tells when


async def test_a_policy_that_would_refuse_every_pod_only_warns(
    control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken expression is found by the dry runs before anything is refused."""
    whole = blocking.policies(namespace, blocking.DENY)[0]["spec"]
    broken = {**whole, "validations": [{"expression": "object.metadata.labels['x'] == 'y'"}]}
    del broken["failurePolicy"]
    monkeypatch.setattr(blocking, "_spec", lambda _home: broken)
    digest = digest_for(namespace)
    async with responder(control_plane, namespace) as made:
        with pytest.raises(StepFailed, match="would refuse every pod, so it only warns"):
            await block(made, digest=digest)
        assert start(control_plane, namespace, stage.NEW)[0] == 201
        monkeypatch.undo()
        _, _, verdict = await block(made, digest=digest)
        assert verdict.level is VerdictLevel.ENFORCED
    assert start(control_plane, namespace, stage.NEW)[0] == 201


HARM: list[tuple[str, str, Mapping[str, Any] | None, str]] = [
    ("POLICY", "PATCH", {"spec": {"validations": [{"expression": "true"}]}}, "was changed"),
    ("POLICY", "PATCH", {"spec": {"matchConditions": None}}, "was changed"),
    ("BINDING", "PATCH", {"spec": {"validationActions": ["Audit"]}}, "was changed"),
    ("BINDING", "DELETE", None, "is gone"),
    ("LIST", "PATCH", {"data": {"digests": ""}}, "has lost sha256:"),
    ("LIST", "DELETE", None, "has lost sha256:"),
]


@pytest.mark.parametrize(("what", "verb", "body", "told"), HARM, ids=lambda item: str(item)[:30])
async def test_a_spoilt_block_is_never_called_enforced(
    control_plane: ControlPlane,
    namespace: str,
    what: str,
    verb: str,
    body: Mapping[str, Any] | None,
    told: str,
) -> None:
    """Somebody opens it: verifying fails with the reason, and blocking again closes it."""
    name = f"{namespace}-blocked-images"
    places = {
        "POLICY": f"{ADMISSION}/validatingadmissionpolicies/{name}",
        "BINDING": f"{ADMISSION}/validatingadmissionpolicybindings/{name}",
        "LIST": f"/api/v1/namespaces/{namespace}/configmaps/responder-blocked-images",
    }
    async with responder(control_plane, namespace) as made:
        digest = digest_for(namespace)
        request, plan, _ = await block(made, digest=digest)
        control_plane.must(verb, places[what], body)
        with pytest.raises(StepFailed, match=told):
            await stage.action(made, "block_image").verify(request, plan, {})
        _, _, verdict = await block(made, digest=digest)
        assert verdict.level is VerdictLevel.ENFORCED


async def test_undo_takes_only_its_own_lines_off_and_deletes_no_policy(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Two incidents block one digest: it stays blocked until the second lets go."""
    digest = digest_for(namespace)
    bad = f"a.b/c@{digest}"
    async with responder(control_plane, namespace) as made:
        first = await block(made, digest=digest, key="run_1/block")
        second = await block(made, digest=digest, key="run_2/block")
        doer = stage.action(made, "block_image")
        await doer.undo(first[0], first[1], {})
        assert start(control_plane, namespace, bad)[0] == 422
        await doer.undo(second[0], second[1], {})
        await doer.undo(second[0], second[1], {})

        async def passes() -> bool:
            return start(control_plane, namespace, bad)[0] == 201

        await eventually(passes, "the end of the block")
        for name in (f"{namespace}-blocked-images", f"{namespace}-keeper"):
            path = f"{ADMISSION}/validatingadmissionpolicies/{name}"
            assert stage.read(control_plane, path)[0] == 200
        _, _, verdict = await block(made, digest=digest, key="run_3/block")
        assert verdict.level is VerdictLevel.ENFORCED


async def test_the_plan_names_the_pods_that_run_the_image_and_what_stays_open(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Image and digest are the target's when the step names none."""
    digest = digest_for(namespace)
    image = f"registry.test/shop/cart@{digest}"
    _, pod = start(control_plane, namespace, image, dry=False)
    async with responder(control_plane, namespace) as made:
        target = Target(namespace=namespace, image=image, digest=digest)
        plan = await stage.action(made, "block_image").plan(stage.call("block_image", target))
        with pytest.raises(StepFailed, match="no image to block"):
            await stage.action(made, "block_image").plan(stage.call("block_image"))
    text = "; ".join(plan.residual)
    assert f"1 pods run it now ({namespace}/{pod})" in text
    assert "a tag that leads to the same digest passes" in text
    assert plan.params["digests"] == [digest]
