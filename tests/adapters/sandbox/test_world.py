"""The rehearsal world as a whole: what is in it, what it counts, how it fails on order."""

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from responder.clock import World
from responder.sandbox.access import Rule, Subject
from responder.sandbox.faults import Fault
from responder.sandbox.images import describe, make_image, make_layer
from responder.sandbox.kinds import kind_named
from responder.sandbox.kubelet import Pace
from responder.sandbox.objects import HISTORY
from responder.sandbox.registry import MANIFEST
from responder.sandbox.world import SandboxWorld
from tests.adapters.sandbox.client import APPS, MERGE, NETWORKING, STRATEGIC, Client, refused
from tests.adapters.sandbox.process import fetch, sandbox_process

FAST = Pace(start=0.01, stop=0.01, pull_again=0.02, crash_again=0.02)
DISPATCH = "/repos/acme/shop/actions/workflows/rebuild.yml/dispatches"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Give a session that ends with the test."""
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
async def world() -> AsyncIterator[SandboxWorld]:
    """Give a quick sandbox."""
    async with SandboxWorld(pace=FAST) as made:
        yield made


@pytest.fixture
def api(world: SandboxWorld, session: aiohttp.ClientSession) -> Client:
    """Give a client of its cluster, in the shop's namespace."""
    return Client(session, world.cluster_url, "shop")


async def test_the_shop_runs_from_the_first_moment(world: SandboxWorld, api: Client) -> None:
    """Pods are Ready with container ids and the digest that the registry has, behind a service."""
    pods = await api.pods("app=cart")
    assert len(pods) == 3
    found = await api.must("GET", api.path("deployments", "cart", APPS))
    assert found["status"]["availableReplicas"] == 3
    name = world.images.resolve("shop/cart", "1.0")
    for pod in pods:
        (state,) = pod["status"]["containerStatuses"]
        assert state["ready"]
        assert state["imageID"] == f"{world.registry}/shop/cart@{name}"
        assert len(state["containerID"]) == len("containerd://") + 64
    assert len({pod["status"]["podIP"] for pod in pods}) == 3
    log = await api.must("GET", api.path("pods", pods[0]["metadata"]["name"]) + "/log?tailLines=1")
    assert "cart started" in log


async def test_the_alert_speaks_of_a_pod_that_lives(world: SandboxWorld, api: Client) -> None:
    """Name, namespace and container id of the Falco payload belong together now."""
    alert = world.falco_alert(1)
    fields = alert["output_fields"]
    pod = await api.must("GET", api.path("pods", fields["k8s.pod.name"]))
    running = pod["status"]["containerStatuses"][0]["containerID"]
    assert running.startswith(f"containerd://{fields['container.id']}")
    assert alert["hostname"] == pod["spec"]["nodeName"]
    assert set(alert) == {
        "hostname", "output", "output_fields", "priority", "rule", "source", "tags", "time",
    }  # fmt: skip


async def test_only_effects_of_callers_count_and_each_once(
    world: SandboxWorld, api: Client
) -> None:
    """Dry runs, refusals, repeats without a change and the controllers' work do not count."""
    assert world.effects() == {}
    name = world.pod()["metadata"]["name"]
    label = {"metadata": {"labels": {"app": None, "held": "1"}}}
    where = api.path("pods", name)
    await api.must("PATCH", where + "?dryRun=All", label)
    await api.must("PATCH", where, label)
    await api.must("PATCH", where, label)
    policy = {"metadata": {"name": "q"}, "spec": {"podSelector": {}}}
    path = api.path("networkpolicies", api=NETWORKING)
    await api.must("POST", path + "?dryRun=All", policy)
    await api.must("POST", path, policy)
    refused(await api.send("POST", path, policy), 409, "AlreadyExists")
    await api.until("replaced", lambda: _running(api, "app=cart", 3))
    await api.must("DELETE", where)
    assert world.effects() == {
        "networkpolicies_created": {"shop/q": 1},
        "pods_deleted": {f"shop/{name}": 1},
        "relabels": {f"shop/{name}": 1},
    }


def _image(repo: str, world: SandboxWorld, entry: str) -> str:
    layer = make_layer({"x": entry.encode()})
    image = make_image(
        [describe("application/vnd.oci.image.layer.v1.tar+gzip", layer.data)],
        [layer.diff_id],
        labels={},
        created="2026-01-01T00:00:00Z",
        run={"Entrypoint": [entry]},
        history=[],
    )
    for data in (layer.data, image.config):
        world.images.put_blob(repo, data)
    return world.images.put_manifest(repo, "", MANIFEST, image.manifest)


def _new_image(image: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "cart", "image": image}]}}}}


async def test_a_digest_the_registry_lacks_stops_the_rollout_and_old_pods_stay(
    world: SandboxWorld, api: Client
) -> None:
    """ErrImagePull, then a missed deadline; the way back to the old template heals it."""
    where = api.path("deployments", "cart", APPS)
    old = (await api.must("GET", where))["spec"]["template"]
    image = f"{world.registry}/shop/cart@sha256:" + "0" * 64
    deadline = {"spec": {"progressDeadlineSeconds": 1}}
    await api.must("PATCH", where, deadline)
    await api.must("PATCH", where, _new_image(image), STRATEGIC)

    async def late() -> bool:
        found = (await api.must("GET", where))["status"]["conditions"]
        return {"ProgressDeadlineExceeded"} <= {condition["reason"] for condition in found}

    await api.until("the deadline has passed", late)

    async def backing_off() -> bool:
        states = [pod["status"]["containerStatuses"][0]["state"] for pod in await api.pods()]
        reasons = {state.get("waiting", {}).get("reason", "runs") for state in states}
        return reasons == {"runs", "ImagePullBackOff"}

    await api.until("the pull is given up for a while", backing_off)
    assert (await api.must("GET", where))["status"]["availableReplicas"] == 3
    await api.must("PATCH", where, [{"op": "replace", "path": "/spec/template", "value": old}],
                   "application/json-patch+json")  # fmt: skip
    await api.until("healed", lambda: _healed(api, where))


async def _healed(api: Client, where: str) -> bool:
    found = await api.must("GET", where)
    reasons = {condition["reason"] for condition in found["status"]["conditions"]}
    return "NewReplicaSetAvailable" in reasons and found["status"]["replicas"] == 3


async def test_a_program_that_ends_at_once_crashes_again_and_again(
    world: SandboxWorld, api: Client
) -> None:
    """The image's entry point decides; restarts are counted and the previous log is kept."""
    name = _image("shop/bad", world, "/bin/false")
    image = f"{world.registry}/shop/bad@{name}"
    spec = {"containers": [{"name": "c", "image": image}]}
    await api.must("POST", api.path("pods"), {"metadata": {"name": "bad"}, "spec": spec})

    async def crashed() -> Any:
        pod = await api.must("GET", api.path("pods", "bad"))
        (state,) = pod["status"].get("containerStatuses") or [{"restartCount": 0}]
        return state if state["restartCount"] >= 2 else None

    state = await api.until("restarted twice", crashed)
    assert state["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert state["lastState"]["terminated"]["exitCode"] == 1
    assert "exit 1" in await api.must("GET", api.path("pods", "bad") + "/log?previous=true")
    events = "?fieldSelector=involvedObject.name%3Dbad,reason%3DBackOff"
    assert (await api.must("GET", api.path("events") + events))["items"]


async def test_an_old_watch_is_told_that_history_is_gone(world: SandboxWorld, api: Client) -> None:
    """A version older than what is kept is answered with an ERROR event of code 410."""
    objects, kind = world.cluster.objects, kind_named("ConfigMap")
    item = objects.create(kind, {"metadata": {"name": "c", "namespace": "shop"}})
    for number in range(HISTORY + 1):
        item = objects.update(kind, {**item, "data": {"n": str(number)}})
    async with api.watching(api.path("configmaps"), "5") as events:
        event = await anext(events)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_tokens_have_only_the_rights_of_their_rules(session: aiohttp.ClientSession) -> None:
    """401 for nobody known, 403 for what no rule grants, and reviews say the same."""
    rule = Rule(resources=("pods",), verbs=("get", "list"), namespaces=("shop",))
    tokens = {"boss": Subject(name="boss"), "low": Subject(name="low", rules=(rule,))}
    async with SandboxWorld(tokens=tokens) as world:

        async def ask(token: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            if method == "PATCH":
                headers["Content-Type"] = MERGE
            url, data = world.cluster_url + path, json.dumps(body) if body else None
            async with session.request(method, url, headers=headers, data=data) as answer:
                return answer.status, await answer.json()

        pods = "/api/v1/namespaces/shop/pods"
        name = world.pod()["metadata"]["name"]
        assert (await ask("boss", "GET", pods))[0] == 200
        assert (await ask("low", "GET", f"{pods}/{name}"))[0] == 200
        refused(await ask("wrong", "GET", pods), 401, "Unauthorized")
        body = refused(await ask("", "GET", pods), 403, "Forbidden")
        assert 'User "system:anonymous" cannot list resource "pods"' in body["message"]
        patch = {"metadata": {"labels": {"a": "1"}}}
        refused(await ask("low", "PATCH", f"{pods}/{name}", patch), 403, "Forbidden")
        refused(await ask("low", "GET", f"{pods}/{name}/log"), 403, "Forbidden")
        refused(await ask("low", "GET", "/api/v1/namespaces/default/pods"), 403, "Forbidden")
        refused(await ask("low", "GET", "/api/v1/pods"), 403, "Forbidden")
        root = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        for verb, allowed in (("get", True), ("patch", False)):
            asked = {"namespace": "shop", "verb": verb, "resource": "pods"}
            _, got = await ask("low", "POST", root, {"spec": {"resourceAttributes": asked}})
            assert got["status"]["allowed"] is allowed
        assert world.effects() == {}


@pytest.mark.parametrize(
    ("fault", "seen", "acted"),
    [
        (Fault(kind="refuse", status=429, retry_after="3"), "429", 0),
        (Fault(kind="fail-after", status=502), "502", 1),
        (Fault(kind="reset-before"), "reset", 0),
        (Fault(kind="reset-after"), "reset", 1),
        (Fault(kind="slow", seconds=0.05), "204", 1),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
async def test_a_fault_on_order_hits_once_and_the_effect_is_what_it_says(
    world: SandboxWorld, session: aiohttp.ClientSession, fault: Fault, seen: str, acted: int
) -> None:
    """Refused requests did nothing; those that failed afterwards did act; the next goes well."""
    world.faults.order(fault)
    inputs = {"image": f"{world.registry}/shop/cart", "correlation_id": "c"}
    body = {"ref": "main", "inputs": inputs}

    async def dispatch() -> str:
        try:
            async with session.post(world.forge_url + DISPATCH, json=body) as answer:
                return str(answer.status)
        except aiohttp.ClientConnectionError:
            return "reset"

    assert await dispatch() == seen
    assert world.effects().get("dispatches", {}).get("c", 0) == acted
    assert await dispatch() == "204"
    assert world.effects()["dispatches"]["c"] == acted + 1


async def test_a_dump_is_loaded_as_it_was(world: SandboxWorld, api: Client) -> None:
    """Objects of `kubectl get -o json` keep UID, owners and status; unknown kinds are left out."""
    pods = [world.pod(index) for index in range(2)]
    dump = json.loads(json.dumps({"kind": "List", "apiVersion": "v1", "items": [
        {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "copy"}},
        *({**pod, "kind": "Pod", "apiVersion": "v1",
           "metadata": {**pod["metadata"], "namespace": "copy"}} for pod in pods),
        {"kind": "Gadget", "apiVersion": "example.invalid/v1", "metadata": {"name": "g"}},
    ]}))  # fmt: skip
    async with SandboxWorld(dump=[dump]) as other:
        for pod in pods:
            name = pod["metadata"]["name"]
            found = other.cluster.objects.get(kind_named("Pod"), "copy", name)
            assert found["metadata"]["uid"] == pod["metadata"]["uid"]
            assert found["status"] == pod["status"]


async def test_a_thousand_pods_start_quickly_and_two_hundred_requests_a_second_are_cheap(
    session: aiohttp.ClientSession,
) -> None:
    """Ready in half a second of CPU; 200 relabels and reads take well under a second of it."""
    begun = time.process_time()
    async with SandboxWorld(pods=1000, pace=FAST) as world:
        assert time.process_time() - begun < 1.0
        api = Client(session, world.cluster_url, "shop")
        names = [pod["metadata"]["name"] for pod in (await api.pods("app=cart"))[:100]]
        begun = time.process_time()
        for name in names:
            await api.must("GET", api.path("pods", name))
            await api.must("PATCH", api.path("pods", name), {"metadata": {"labels": {"q": "1"}}})
        assert time.process_time() - begun < 2.0
        assert sum(world.effects()["relabels"].values()) == 100


async def test_a_process_of_its_own_tells_its_addresses_and_effects(tmp_path: Path) -> None:
    """`python -m responder.sandbox` serves, takes faults by HTTP, counts, and ends on SIGTERM."""
    loop = asyncio.get_running_loop()
    with sandbox_process(tmp_path, "--pods", "2") as found:
        async with aiohttp.ClientSession() as session:
            api = Client(session, found["cluster"], found["namespace"])
            assert len(await api.pods()) == 2
            order = {"kind": "refuse", "system": "cluster", "status": 500}
            await api.must("POST", "/_sandbox/faults", order)
            assert (await api.send("GET", api.path("pods")))[0] == 500
            assert (await api.send("POST", "/_sandbox/faults", {"kind": "odd"}))[0] == 400
            name = (await api.pods())[0]["metadata"]["name"]
            await api.must("DELETE", api.path("pods", name))
        effects = await loop.run_in_executor(None, fetch, found["cluster"] + "/_sandbox/effects")
        assert effects == {"pods_deleted": {f"shop/{name}": 1}}


async def test_the_same_seed_gives_the_same_names() -> None:
    """Names and UIDs come from the world's chance and from nothing else."""

    async def names(seed: int) -> list[tuple[str, str]]:
        async with SandboxWorld(World(rng=random.Random(seed))) as world:
            pods = [world.pod(index)["metadata"] for index in range(3)]
            return [(meta["name"].rpartition("-")[2], meta["uid"]) for meta in pods]

    first = await names(7)
    assert await names(7) == first
    assert await names(8) != first


async def test_workloads_of_a_dump_stay_until_they_are_touched(
    session: aiohttp.ClientSession,
) -> None:
    """Other hashes, image names and revisions than ours restart nothing; a relabel is answered."""
    sets = {
        "kind": "StatefulSet",
        "apiVersion": "apps/v1",
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "db"}},
            "template": {
                "metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "db", "image": "db:1"}]},
            },
        },
    }
    async with SandboxWorld(pace=FAST) as first:
        api = Client(session, first.cluster_url, "shop")
        await api.must("POST", api.path("statefulsets", api=APPS), sets)
        await api.until("db-0 runs", lambda: _running(api, "app=db", 1))
        state = await api.must("GET", "/_sandbox/state")
        code = first.pod()["metadata"]["labels"]["pod-template-hash"]
    text = json.dumps([item for items in state["objects"].values() for item in items])
    text = text.replace(code, "7bcc45d4c")
    text = re.sub(r'"db-[bcdfghjklmnpqrstvwxz2456789]{10}"', '"db-5f4d8c7b9d"', text)
    text = text.replace(
        '"image": "db:1", "imageID"', '"image": "docker.io/library/db:1", "imageID"'
    )
    dump = json.loads(text)
    async with SandboxWorld(pace=FAST, dump=dump) as other:
        api = Client(session, other.cluster_url, "shop")
        before = {pod["metadata"]["uid"]: pod["status"] for pod in await api.pods()}
        await api.must(
            "PATCH", api.path("deployments", "cart", APPS), {"metadata": {"labels": {"x": "1"}}}
        )
        await api.must(
            "PATCH", api.path("statefulsets", "db", APPS), {"metadata": {"labels": {"x": "1"}}}
        )
        await asyncio.sleep(0.2)
        assert {pod["metadata"]["uid"]: pod["status"] for pod in await api.pods()} == before
        assert len((await api.must("GET", api.path("replicasets", api=APPS)))["items"]) == 1
        name = (await api.pods("app=cart"))[0]["metadata"]["name"]
        await api.must("PATCH", api.path("pods", name), {"metadata": {"labels": {"app": None}}})
        await api.until("replaced", lambda: _running(api, "app=cart", 3))
        new_image = {
            "spec": {"template": {"spec": {"containers": [{"name": "db", "image": "db:2"}]}}}
        }
        await api.must("PATCH", api.path("statefulsets", "db", APPS), new_image, STRATEGIC)

        async def renewed() -> bool:
            pod = await api.must("GET", api.path("pods", "db-0"))
            return bool(pod["spec"]["containers"][0]["image"] == "db:2")

        await api.until("renewed", renewed)


async def _running(api: Client, selector: str, wanted: int) -> bool:
    found = [pod for pod in await api.pods(selector) if pod["status"]["phase"] == "Running"]
    return len(found) == wanted
