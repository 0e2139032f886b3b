"""What a cluster's network plug-in does with NetworkPolicy, found by trying it, never by its name.

Two pods of ours in our home namespace hold a connection; then one is denied everything. New
connections still pass: nothing enforces. They do not, and the held one goes on: open connections
live on. It stops: they are cut. Tried once, and again when a DaemonSet or the nodes' versions have
changed, or after a while; the answer is kept in a ConfigMap, so a restart does not lose it.

Never in the way of a containment: what is known is read without waiting, and trying is work of its
own beside everything else. A try that does not work changes nothing that is known.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes.client import Api, Connection, Json
from integrations.kubernetes.enforcement_class import Class
from integrations.kubernetes.paths import collection, named
from integrations.kubernetes.probing import Bench, Broken
from integrations.kubernetes.probing_pods import MARK, Task, mark_of, pod
from integrations.kubernetes.probing_scripts import CLASS, SERVE
from integrations.kubernetes.together import together
from responder.clock import SECOND, iso
from responder.errors import Conflict, NotFound, ResponderError, StepFailed

__all__ = ["CONFIG", "Enforcement", "Known"]

CONFIG = "responder-enforcement"
_PORT = 7000
_LOOK = 600.0  # seconds between two looks whether something has changed
_RETRY = 300.0  # seconds after a try that did not work
_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Known:
    """The class, when it was tried, and a print of what it was tried on."""

    kind: Class = Class.UNKNOWN
    at: int = 0
    on: str = ""
    fault: str = ""  # why the last try did not work

    @property
    def text(self) -> str:
        """One line for a person."""
        said = {
            Class.CUTS: "NetworkPolicy is enforced, and open connections are cut",
            Class.SURVIVES: "NetworkPolicy is enforced for new connections; open ones live on",
            Class.NONE: "this cluster enforces no NetworkPolicy: nothing can be isolated with it",
            Class.UNKNOWN: "whether NetworkPolicy is enforced is not known",
        }[self.kind]
        when = f" (tried {iso(self.at)})" if self.at else ""
        return f"{said}{when}" + (
            f"; the last try did not work: {self.fault}" if self.fault else ""
        )


class Enforcement:
    """What is known of one cluster, and the work of finding it out."""

    def __init__(self, link: Connection) -> None:
        self._link = link
        self._known: Known | None = None  # None: the ConfigMap has not been read
        self._task: asyncio.Task[None] | None = None
        self._next = 0.0
        self._one = asyncio.Lock()  # two tries at once would clear each other's pods away

    @property
    def known(self) -> Known:
        """What is known now; never waits."""
        return self._known or Known()

    async def told(self) -> str:
        """For `doctor`: what is known, tried or read, and by whom the rest is found out."""
        self._known = self._known or await self._stored()
        if self._known.kind is Class.UNKNOWN:
            return f"{self.known.text}; kubernetes.probe_network or the next proof tries it"
        return self.known.text

    def kick(self, *, only_read: bool = False) -> None:
        """See to it, beside everything else, that what is known is read and up to date."""
        settings = self._link.settings.probe
        due = self._known is None or (
            not only_read and self._link.world.clock.monotonic() >= self._next
        )
        if settings.on and due and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._refresh(only_read=only_read))

    async def close(self) -> None:
        """Stop trying; the pods of a broken-off try are deleted first."""
        if self._task and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _refresh(self, *, only_read: bool) -> None:
        try:
            if only_read:
                self._known = self._known or await self._stored()
            else:
                await self.refresh()
        except ResponderError:
            self._next = self._link.world.clock.monotonic() + _RETRY

    async def refresh(self, *, again: bool = False) -> Known:
        """Try when it is time to, or `again` in any case. Raises what reading raises."""
        clock = self._link.world.clock
        async with self._one:
            self._next = clock.monotonic() + _LOOK
            known = self._known = self._known or await self._stored()
            on = await self._print()
            age = (clock.now() - known.at) / SECOND
            old = age > self._link.settings.probe.renew * _HOUR
            if again or known.kind is Class.UNKNOWN or known.on != on or old:
                self._known = await self._tried(known, on)
            return self.known

    async def _tried(self, before: Known, on: str) -> Known:
        clock = self._link.world.clock
        try:
            kind = await _try(self._link.api())
        except (Broken, TimeoutError, ResponderError) as error:
            self._next = clock.monotonic() + _RETRY
            return Known(before.kind, before.at, before.on, str(error) or "it took too long")
        found = Known(kind, clock.now(), on)
        await self._store(found)
        return found

    async def _print(self) -> str:
        """A print of what the answer hangs on: the nodes' versions, and all DaemonSets' images."""
        api = self._link.api()
        nodes, sets = await together(
            [_listed(api, "Node"), _listed(api, "DaemonSet")],
        )
        versions = sorted(
            {
                json.dumps([info.get(key) for key in ("kubeletVersion", "kernelVersion")])
                for node in nodes
                if (info := (node.get("status") or {}).get("nodeInfo") or {})
            }
        )
        images = sorted(
            [
                item["metadata"]["namespace"],
                item["metadata"]["name"],
                *[one["image"] for one in item["spec"]["template"]["spec"]["containers"]],
            ]
            for item in sets
        )
        text = json.dumps([versions, images])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    async def _stored(self) -> Known:
        api = self._link.api()
        try:
            found = await api.get(named("ConfigMap", api.connection.settings.home, CONFIG))
        except (NotFound, StepFailed):
            return Known()
        return _read(found.get("data") or {})

    async def _store(self, found: Known) -> None:
        """Keep it; without the right to, it is tried again after the next restart."""
        api = self._link.api()
        home = api.connection.settings.home
        data = {"class": found.kind.value, "at": str(found.at), "on": found.on, "text": found.text}
        body: Json = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CONFIG, "labels": {"app.kubernetes.io/managed-by": "responder"}},
            "data": data,
        }
        try:
            await api.create(collection("ConfigMap", home), body)
        except Conflict:
            await api.patch(named("ConfigMap", home, CONFIG), {"data": data})
        except (NotFound, StepFailed):
            return


def _read(data: Mapping[str, Any]) -> Known:
    try:
        return Known(Class(data["class"]), int(data["at"]), str(data["on"]))
    except (KeyError, ValueError):
        return Known()


async def _listed(api: Api, kind: str) -> list[Json]:
    """All objects of a kind; without the right none, so their changes go unseen."""
    try:
        return await api.items(collection(kind), cached=True)
    except (NotFound, StepFailed):
        return []


async def _try(api: Api) -> Class:
    """Try it. Raises `Broken` when the probe itself does not work, `TimeoutError` in the end."""
    settings = api.connection.settings.probe
    seconds = int(2 * settings.settle + 60)
    mark = mark_of("enforcement")
    async with asyncio.timeout(seconds), Bench(api, mark).open() as bench:
        serve = Task("serve", SERVE, (str(_PORT),))
        server = pod(mark, "server", settings.image, [serve], seconds=seconds)
        await bench.start([server])
        address = await bench.address("server")
        args = (address, str(_PORT), str(int(settings.settle)))
        watch = Task("watch", CLASS, args, ready_file="/tmp/holds")  # noqa: S108 - in its volume
        await bench.start([pod(mark, "client", settings.image, [watch], seconds=seconds)])
        if await bench.ready("client"):
            await _deny(api, await bench.uid("server"), server)
        word = (await bench.told("client"))["watch"]
        if word not in set(Class):
            raise Broken(f"the two probe pods did not get on: {word}")
        return Class(word)


async def _deny(api: Api, uid: str, server: Json) -> None:
    """Deny the server everything, until it is gone: its policy goes with it."""
    metadata = server["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": uid}
    body: Json = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": metadata["name"],
            "labels": {MARK: metadata["labels"][MARK]},
            "ownerReferences": [owner],
        },
        "spec": {
            "podSelector": {"matchLabels": dict(metadata["labels"])},
            "policyTypes": ["Ingress", "Egress"],
        },
    }
    path = named("NetworkPolicy", api.connection.settings.home, metadata["name"])
    try:
        await api.create(path.rpartition("/")[0], body)
    except Conflict:  # one that a crash has left: its owner is gone, and it soon will be
        found = await api.get(path)
        await api.delete(path, found["metadata"]["uid"])
        await api.create(path.rpartition("/")[0], body)
    except (StepFailed, NotFound) as error:
        raise Broken(f"the policy to try was refused: {error}") from error
