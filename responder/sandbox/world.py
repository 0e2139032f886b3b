"""A whole rehearsal world: cluster, forge and registry with something in them, on loopback.

In it runs a shop: a Deployment `cart` whose image holds a library with a known hole. The forge can
rebuild that image on the same base with the hole closed. It listens on 127.0.0.1 only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

import aiohttp
from aiohttp import web

from responder.clock import World, iso
from responder.sandbox.access import Access, Subject
from responder.sandbox.cluster import Cluster
from responder.sandbox.effects import Effects
from responder.sandbox.faults import Faults
from responder.sandbox.forge import Forge, Manner
from responder.sandbox.images import LAYER, describe, make_image, make_layer
from responder.sandbox.kinds import kind_named
from responder.sandbox.kubelet import Pace, Pulled, pulled_elsewhere
from responder.sandbox.objects import Item
from responder.sandbox.pipeline import BASE_DIGEST, BASE_NAME, REVISION, SOURCE, split
from responder.sandbox.registry import MANIFEST, Registry
from responder.sandbox.workloads import is_active, is_ready

__all__ = ["SandboxWorld"]

NAMESPACE, APP = "shop", "cart"
POD = kind_named("Pod")


class SandboxWorld:
    """`async with SandboxWorld(world) as w:` starts it; leaving ends it and raises its failures.

    With a dump (objects as `kubectl get -o yaml` prints them, already read) the cluster holds that
    instead of the shop.
    """

    def __init__(
        self,
        world: World | None = None,
        *,
        pods: int = 3,
        pace: Pace | None = None,
        tokens: Mapping[str, Subject] | None = None,
        manner: Manner | None = None,
        dump: Sequence[Mapping[str, Any]] = (),
        ports: Sequence[int] = (0, 0, 0, 0),
    ) -> None:
        self.world = world or World()
        self.effects_tally = Effects()
        self.cluster = Cluster(
            self.world,
            access=Access(tokens),
            effects=self.effects_tally,
            pull=self._pull,
            pace=pace,
        )
        self.images = Registry(self.world, self.effects_tally)
        self.forge = Forge(self.world, manner=manner, effects=self.effects_tally)
        self.faults = Faults(self.world)
        systems = (("cluster", self.cluster.app), ("forge", self.forge.app))
        for name, app in (*systems, ("registry", self.images.app)):
            app.middlewares.append(self.faults.middleware(name))
        self.cluster.app.router.add_post("/_sandbox/faults", self._order_fault)
        self._pods, self._dump, self._ports = pods, dump, ports
        self._runners: list[web.AppRunner] = []
        self.cluster_url = self.forge_url = self.registry = ""

    @property
    def repo(self) -> str:
        """The forge's repository."""
        return self.forge.repo

    @property
    def workflow(self) -> str:
        """The workflow's file."""
        return self.forge.workflow.file

    async def __aenter__(self) -> Self:
        apps = (self.cluster.app, self.forge.app, self.images.app, self.forge.storage)
        places = [await self._serve(app, port) for app, port in zip(apps, self._ports, strict=True)]
        self.settle_in(*places)
        self.forge.session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.forge.close()
        if self.forge.session is not None:
            await self.forge.session.close()
        try:
            await self.cluster.close()
        finally:
            for runner in self._runners:
                await runner.cleanup()

    async def _order_fault(self, request: web.Request) -> web.Response:
        """Take one fault as JSON; 400 says what is wrong with it."""
        try:
            self.faults.order_json(await request.json())
        except (TypeError, ValueError) as error:
            return web.json_response({"message": str(error)}, status=400)
        return web.json_response({})

    async def _serve(self, app: web.Application, port: int) -> str:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return f"127.0.0.1:{runner.addresses[0][1]}"

    def settle_in(self, cluster: str, forge: str, registry: str, storage: str) -> None:
        """Take these addresses (host:port), put the shop in, and begin; for those who serve it."""
        self.cluster_url, self.forge_url = f"http://{cluster}", f"http://{forge}"
        self.registry = self.forge.registry = registry
        self.forge.storage_url = f"http://{storage}"
        self._seed_images()
        self._seed_cluster()
        self.cluster.start()

    def _seed_images(self) -> None:
        system = make_layer(
            {
                "etc/os-release": b"ID=sandbox\nVERSION_ID=12\n",
                "usr/lib/libshop.so.1": b"libshop 1.0.0, with a hole\n",
            }
        )
        program = make_layer({"app/cart": b"#!/bin/sh\nexec cart-server\n"})
        created = iso(self.world.clock.now())
        shell: dict[str, Any] = {"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/bin:/bin"]}
        layers = [describe(LAYER, system.data)]
        base = make_image(
            layers, [system.diff_id], labels={}, created=created, run=shell, history=[]
        )
        self._store("base/system", "12", base.manifest, base.config, system.data)
        labels = {
            BASE_NAME: f"{self.registry}/base/system:12",
            BASE_DIGEST: base.digest,
            SOURCE: f"https://github.invalid/{self.repo}",
            REVISION: "0" * 40,
        }
        app = make_image(
            [*layers, describe(LAYER, program.data)],
            [system.diff_id, program.diff_id],
            labels=labels,
            created=created,
            run={"Entrypoint": ["/app/cart"], "Env": shell["Env"]},
            history=[],
        )
        self._store(
            f"{NAMESPACE}/{APP}", "1.0", app.manifest, app.config, system.data, program.data
        )

    def _store(self, repo: str, tag: str, manifest: bytes, *blobs: bytes) -> None:
        for blob in blobs:
            self.images.put_blob(repo, blob)
        self.images.put_manifest(repo, tag, MANIFEST, manifest)

    def _seed_cluster(self) -> None:
        objects = self.cluster.objects
        if self._dump:
            self.cluster.load(self._dump)
            return
        for number in (1, 2):
            objects.create(kind_named("Node"), _node(f"n{number}"))
        for name in ("default", "kube-system", NAMESPACE):
            label = {"kubernetes.io/metadata.name": name}
            meta = {"name": name, "labels": label}
            objects.create(
                kind_named("Namespace"), {"metadata": meta, "status": {"phase": "Active"}}
            )
            account = {"metadata": {"name": "default", "namespace": name}}
            objects.create(kind_named("ServiceAccount"), account)
        image = f"{self.registry}/{NAMESPACE}/{APP}:1.0"
        objects.create(kind_named("Deployment"), _deployment(image, self._pods))
        objects.create(kind_named("Service"), _service())
        self.cluster.controllers.settle()
        for pod in objects.items(POD):
            self.cluster.kubelet.run_now(pod)
        self.cluster.controllers.settle()

    def _pull(self, image: str) -> Pulled | None:
        """What a node's pull of this image gives.

        Images of other registries are taken to be there, so that a loaded dump can be rehearsed.
        """
        host, repo, reference = split(image)
        if host != self.registry:
            return pulled_elsewhere(image)
        name = self.images.resolve(repo, reference or "latest")
        if not name:
            return None
        run = self.images.config(repo, name).get("config") or {}
        return Pulled(digest=name, crashes=run.get("Entrypoint") == ["/bin/false"])

    def pod(self, index: int = 0) -> Item:
        """The running pod of the shop with this place in the order of names."""
        pods = [
            pod
            for pod in self.cluster.objects.items(POD, NAMESPACE)
            if is_active(pod) and is_ready(pod) and pod["metadata"]["labels"].get("app") == APP
        ]
        return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))[index]

    def falco_alert(
        self,
        index: int = 0,
        *,
        rule: str = "Terminal shell in container",
        priority: str = "Critical",
    ) -> dict[str, Any]:
        """What Falco's http_output would send about that pod now.

        https://falco.org/docs/outputs/channels/
        """
        pod = self.pod(index)
        state = pod["status"]["containerStatuses"][0]
        now = self.world.clock.now()
        moment = iso(now)
        meta = pod["metadata"]
        container = state["containerID"].removeprefix("containerd://")[:12]
        repository, _, tag = state["image"].rpartition(":")
        text = f"{moment}: {priority} A shell was started in a container (pod={meta['name']})"
        return {
            "hostname": pod["spec"]["nodeName"],
            "output": text,
            "priority": priority,
            "rule": rule,
            "source": "syscall",
            "tags": ["T1059", "container", "maturity_stable", "mitre_execution", "shell"],
            "time": moment[:-1] + "000000Z",
            "output_fields": {
                "container.id": container,
                "container.image.repository": repository,
                "container.image.tag": tag,
                "container.name": state["name"],
                "evt.time": now * 1000,
                "evt.type": "execve",
                "k8s.ns.name": meta["namespace"],
                "k8s.pod.name": meta["name"],
                "k8s.pod.uid": meta["uid"],
                "proc.cmdline": "sh -c id",
                "proc.name": "sh",
                "proc.pname": "cart",
                "user.name": "root",
            },
        }

    def effects(self) -> dict[str, dict[str, int]]:
        """What callers changed so far: sort of effect -> thing -> how often."""
        return self.effects_tally.to_json()

    def addresses(self) -> str:
        """Where everything is, as one line of JSON."""
        return json.dumps(
            {
                "cluster": self.cluster_url,
                "forge": self.forge_url,
                "registry": self.registry,
                "repo": self.repo,
                "workflow": self.workflow,
                "namespace": NAMESPACE,
                "workload": f"Deployment/{APP}",
            }
        )


def _node(name: str) -> Item:
    room = {"cpu": "4", "memory": "8Gi", "pods": "2000"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"capacity": room, "allocatable": room, "conditions": [ready]},
    }


def _deployment(image: str, size: int) -> Item:
    from responder.sandbox.rules import with_defaults

    ports = [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    spec = {
        "replicas": size,
        "selector": {"matchLabels": {"app": APP}},
        "template": {
            "metadata": {"labels": {"app": APP, "tier": "backend"}},
            "spec": {"containers": [{"name": APP, "image": image, "ports": ports}]},
        },
    }
    meta = {"name": APP, "namespace": NAMESPACE, "labels": {"app": APP}}
    return with_defaults(kind_named("Deployment"), {"metadata": meta, "spec": spec})


def _service() -> Item:
    port = {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}
    return {
        "metadata": {"name": APP, "namespace": NAMESPACE},
        "spec": {"selector": {"app": APP}, "ports": [port], "type": "ClusterIP"},
        "status": {},
    }
