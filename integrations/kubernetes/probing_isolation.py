"""Try an isolated pod with packets: connections to it, and from inside it.

A probe pod on the pod's own node and one on another node open new connections to the pod's ports.
A container added to the pod (it shares the pod's network and nothing else) opens one to a canary
of ours. Both probe pods must reach the canary at the same time: an answer of "denied" from somebody
who reaches nobody proves nothing. Never from the node or from a pod on its network, which no policy
keeps out (https://kubernetes.io/docs/concepts/services-networking/network-policies/).

What it changes: the added container stays in the pod's spec for ever, as an ended one; its process
runs for some seconds in the pod's network namespace, and nowhere else. Only TCP is tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.paths import collection, named
from integrations.kubernetes.probing import Bench, Broken
from integrations.kubernetes.probing_flows import Socket, read_sockets
from integrations.kubernetes.probing_pods import Task, addresses_of, ephemeral, pod, stuck
from integrations.kubernetes.probing_scripts import DIAL, INSIDE, SERVE
from integrations.kubernetes.together import together
from responder.errors import Conflict, NotFound, ResponderError, StepFailed

__all__ = ["DENIED", "Packets", "another_node", "examine", "read_told"]

DENIED = frozenset({"timeout", "rejected"})
_PORT = 7000  # the canary's
_PORTS = 4  # of the pod, at most so many are tried
_WATCH = 3  # seconds between two looks at the pod's connections
_ROUNDS = 3  # looks that a plug-in which cuts gets to do so
_MOST_INSIDE = 8  # containers that we ever add to one pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Packets:
    """What was tried and what came of it. `fault`: the probe does not work, so nothing is known."""

    fault: str = ""
    ingress: Mapping[str, str] = field(default_factory=dict)  # "from node a to port 80" -> word
    egress: str = ""  # word; empty: not tried
    why_no_egress: str = ""
    sockets: tuple[Socket, ...] | None = None  # the pod's connections; None: could not be listed
    notes: tuple[str, ...] = ()
    untried: tuple[str, ...] = ()  # what should have been tried and was not

    @property
    def passed(self) -> tuple[str, ...]:
        """New connections that got through, an answer of "refused" included: packets passed."""
        found = [f"{way}: {word}" for way, word in self.ingress.items() if _passes(word)]
        if _passes(self.egress):
            found.append(f"from inside the pod to a canary: {self.egress}")
        return tuple(found)

    @property
    def unclear(self) -> tuple[str, ...]:
        """Tries whose answer says nothing."""
        tries = {**self.ingress, "from inside the pod to a canary": self.egress}
        return tuple(
            f"{way}: {word}"
            for way, word in tries.items()
            if word and word not in DENIED and not _passes(word)
        )


def _passes(word: str) -> bool:
    return word in {"open", "refused"}


async def examine(api: Api, mark: str, target: Json, *, cuts: bool) -> Packets:
    """Try it. Never raises for a probe that fails: `fault` says why nothing is known.

    Where the network plug-in is known to cut, open connections get a few seconds to stop.
    """
    seconds = api.connection.settings.probe.seconds
    try:
        async with asyncio.timeout(seconds), Bench(api, mark).open() as bench:
            return await _examine(api, bench, target, _ROUNDS if cuts else 1)
    except Broken as error:
        return Packets(fault=str(error))
    except TimeoutError:
        return Packets(fault=f"the probe did not end within {seconds:g} s")
    except ResponderError as error:
        return Packets(fault=f"the probe failed: {error}")


async def _examine(api: Api, bench: Bench, target: Json, rounds: int) -> Packets:
    settings = api.connection.settings.probe
    address, *others = addresses_of(target) or ("",)
    near = str(target["spec"].get("nodeName") or "")
    if not address or not near:
        return Packets(fault="the pod has no address")
    seconds = int(settings.seconds) + 5
    insist = max(3, int(settings.seconds) // 2)
    canary = pod(
        bench.mark, "canary", settings.image, [Task("serve", SERVE, (str(_PORT),))],
        seconds=seconds, node=near,
    )  # fmt: skip
    begin: list[Coroutine[Any, Any, Any]] = [another_node(api, near), bench.start([canary])]
    (far, note), _ = await together(begin)
    canary_ip = await bench.address("canary")
    nodes = {"near": near, **({"far": far} if far else {})}
    tasks = _dials(canary_ip, address, _ports(target), insist)
    bodies = [
        pod(bench.mark, role, settings.image, tasks, seconds=seconds, node=node)
        for role, node in nodes.items()
    ]
    await bench.start(bodies)
    inside = _Inside(api, bench, target, canary_ip, insist, rounds)
    looks: list[Coroutine[Any, Any, Any]] = [inside.look(), *map(bench.told, nodes)]
    within, *words = await together(looks)
    told = dict(zip(nodes.values(), words, strict=True))
    untried = tuple(f"address {one} of the pod was not tried" for one in others)
    return replace(_joined(within, told, note), untried=untried)


def _dials(canary: str, address: str, ports: tuple[int, ...], insist: int) -> list[Task]:
    control = Task("control", DIAL, (canary, str(_PORT), "open", str(insist)))
    tries = [
        Task(f"port-{port}", DIAL, (address, str(port), "denied", str(insist))) for port in ports
    ]
    return [control, *tries]


def _ports(target: Json) -> tuple[int, ...]:
    """Ports that the pod declares. One that nobody listens on will do: an answer is an answer."""
    found = [
        int(port["containerPort"])
        for container in target["spec"]["containers"]
        for port in container.get("ports") or []
        if port.get("protocol", "TCP") == "TCP"
    ]
    return tuple(dict.fromkeys(found))[:_PORTS] or (80,)


def _joined(within: Packets, told: Mapping[str, Mapping[str, str]], note: str) -> Packets:
    """All answers together; without a control that reached the canary they are worth nothing."""
    for node, words in told.items():
        if words["control"] != "open":
            text = f"a probe pod on node {node} did not reach the canary ({words['control']})"
            return Packets(fault=f"{text}: nothing is proven by what it cannot reach")
    ingress = {
        f"from node {node} to {name.replace('-', ' ')}": word
        for node, words in told.items()
        for name, word in words.items()
        if name != "control"
    }
    return replace(within, ingress=ingress, notes=(*within.notes, note))


async def another_node(api: Api, near: str) -> tuple[str, str]:
    """A Ready node other than this one that takes pods, and what is to be said about it."""
    try:
        nodes = await api.items(collection("Node"), cached=True)
    except (StepFailed, NotFound) as error:
        return "", f"from its own node only: the others cannot be listed ({error})"
    for node in nodes:
        spec, status = node.get("spec") or {}, node.get("status") or {}
        ready = any(
            c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or []
        )
        if node["metadata"]["name"] != near and ready and not spec.get("unschedulable"):
            return str(
                node["metadata"]["name"]
            ), f"from its own node and {node['metadata']['name']}"
    return "", "from its own node only: there is no other one that takes pods"


@dataclass(frozen=True, slots=True)
class _Inside:
    """A look from inside the pod's network namespace."""

    api: Api
    bench: Bench
    target: Json
    canary: str
    insist: int
    rounds: int

    async def look(self) -> Packets:
        """Egress and open connections, or why they are not known."""
        if self.api.connection.settings.probe.inside == "off":
            return Packets(why_no_egress="switched off (probe.inside)")
        try:
            name, note = await self._added()
            return replace(read_told(await self._told(name)), notes=(note,))
        except (Broken, ResponderError) as error:
            return Packets(why_no_egress=str(error))

    @property
    def _path(self) -> str:
        metadata = self.target["metadata"]
        return named("Pod", metadata["namespace"], metadata["name"])

    async def _added(self) -> tuple[str, str]:
        """Add the container and return its name; the last one's when there are enough of them."""
        image = self.api.connection.settings.probe.image
        args = (self.canary, str(_PORT), "denied", str(self.insist), str(_WATCH), str(self.rounds))
        for _ in range(4):
            now = await self.api.get(self._path)
            there = now["spec"].get("ephemeralContainers") or []
            ours = [one for one in there if one["name"].startswith(f"{_PREFIX}-")]
            if len(ours) >= _MOST_INSIDE:
                return str(ours[-1]["name"]), f"from inside: the last of {len(ours)} looks counts"
            name = f"{_PREFIX}-{self.bench.mark[:8]}-{len(ours)}"
            made = ephemeral(name, image, Task(name, INSIDE, args))
            metadata = {
                "uid": self.target["metadata"]["uid"],
                "resourceVersion": now["metadata"]["resourceVersion"],
            }
            body: dict[str, Any] = {
                "metadata": metadata,
                "spec": {"ephemeralContainers": [*there, made]},
            }
            try:
                await self.api.patch(f"{self._path}/ephemeralcontainers", body)
            except Conflict:
                continue
            return name, ""
        raise Broken("the pod changes faster than a container can be added")

    async def _told(self, name: str) -> str:
        while True:
            now = await self.api.get(self._path)
            found = (now.get("status") or {}).get("ephemeralContainerStatuses") or []
            mine = [one for one in found if one["name"] == name]
            for one in mine:
                if ended := (one.get("state") or {}).get("terminated"):
                    return str(ended.get("message") or "")
            if why := stuck(mine):
                raise Broken(f"the container inside the pod: {why}")
            await self.bench.pause()


_PREFIX = "responder-probe"


def read_told(text: str) -> Packets:
    """What the container inside the pod told at its end."""
    lines = text.splitlines()
    words = [line.split(" ", 1)[1] for line in lines if line.startswith("word ")]
    if not words:
        return Packets(why_no_egress="the container inside the pod told nothing")
    try:
        return Packets(egress=words[0], sockets=read_sockets(lines))
    except ValueError:  # a line that was cut in two: what cannot be read was not seen
        return Packets(egress=words[0])
