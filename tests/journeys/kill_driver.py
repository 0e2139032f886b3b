"""Drives one journey against servers that die: sends the alert, says yes, and reads the end.

What drives is as patient as a real sender and a real person: an alert is sent again until it was
acknowledged, a yes is given again until nothing waits for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import select
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from responder.store.sqlite import SqliteStore
from responder.wiring.sandboxed import HOOK

__all__ = ["Child", "Death", "Forging", "Journey", "Nursery", "Story", "nursery", "own_forge"]

Forging = Callable[[Mapping[str, str]], contextlib.AbstractAsyncContextManager[dict[str, Any]]]
"""Serves a forge for one journey, beside a sandbox at these addresses; what a server is told."""

_LONGEST = 60.0  # seconds until a journey must have ended, restarts and a busy machine included
_PAUSE = 0.04


@dataclass(frozen=True, slots=True)
class Death:
    """Where a server's life ends: at a moment, or some seconds after it."""

    target: str
    delay: float = 0.0


@dataclass(slots=True)
class Child:
    """A process that another one has forked, watched by a descriptor: no id is ever mistaken."""

    pid: int
    watch: int | None = None

    def __post_init__(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.watch = os.pidfd_open(self.pid)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.watch is not None and not select.select([self.watch], [], [], 0)[0]

    async def end(self, how: int) -> None:
        """Send this signal and wait for the end."""
        if self.alive and self.watch is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.watch, how)
        async with asyncio.timeout(10):
            while self.alive:
                await asyncio.sleep(0.005)
        if self.watch is not None:
            os.close(self.watch)
            self.watch = None


class Nursery:
    """The program in `killable.py`: it forks servers and sandboxes."""

    def __init__(self, program: asyncio.subprocess.Process) -> None:
        self._program = program
        self._turn = asyncio.Lock()

    async def fork(self, order: dict[str, Any]) -> Child:
        """A new process that does what the order says."""
        assert self._program.stdin
        assert self._program.stdout
        async with self._turn:
            self._program.stdin.write(json.dumps(order).encode() + b"\n")
            return Child(int(await self._program.stdout.readline()))


@contextlib.asynccontextmanager
async def nursery(*words: str) -> AsyncIterator[Nursery]:
    """Start it with these arguments; leaving the block ends it with every process it has forked."""
    pipe = asyncio.subprocess.PIPE
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.journeys.killable", *words, stdin=pipe, stdout=pipe
    )
    try:
        yield Nursery(program)
    finally:
        assert program.stdin
        program.stdin.close()
        await program.wait()


@dataclass(slots=True, kw_only=True)
class Story:
    """How one journey went: the moments each life passed, and what the end looks like."""

    lives: list[list[str]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)
    kills: int = 0
    sent: int = 0  # times the alert was posted


@contextlib.asynccontextmanager
async def own_forge(_: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
    """The sandbox's own forge: nothing more to serve or to tell."""
    yield {}


class Journey:
    """One alert from the first post to the end of its run, over as many lives as it takes."""

    def __init__(
        self, nursery: Nursery, folder: Path, playbooks: Path, forging: Forging = own_forge
    ) -> None:
        self._nursery = nursery
        self._forging = forging
        self._told: dict[str, Any] = {}
        self._folder = folder
        self._playbooks = playbooks
        self._story = Story()
        self._addresses: dict[str, str] = {}
        self._server: Child | None = None
        self._url = ""
        self._acknowledged = False
        folder.mkdir(parents=True)

    async def travel(self, *deaths: Death) -> Story:
        """Go through it; the server dies once for each of `deaths` that it reaches."""
        sandbox = await self._start_sandbox()
        try:
            async with (
                self._forging(self._addresses) as self._told,
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as client,
            ):
                alert = await _alert(client, self._addresses)
                async with asyncio.timeout(_LONGEST):
                    await self._live(client, alert, [*deaths, Death("")])
            self._note_life()
        except TimeoutError:
            self._story.end["did not end"] = self.said()
        finally:
            if self._server:
                await self._server.end(signal.SIGKILL)
            await sandbox.end(signal.SIGTERM)
        self._story.end["store"] = await _checked(self._folder / "responder.db")
        self._story.end["sandbox said"] = self._read("sandbox.log")
        return self._story

    def said(self) -> str:
        """What both processes complained about, and the last moments, for a failure's text."""
        last = "\n".join("\n".join(life[-3:]) for life in self._story.lives)
        return f"{last}\n{self._read('server.log')[-3000:]}\n{self._read('sandbox.log')[-1000:]}"

    def _read(self, name: str) -> str:
        file = self._folder / name
        return file.read_text() if file.exists() else ""

    # ------------------------------------------------------------------ processes

    async def _start_sandbox(self) -> Child:
        file = self._folder / "sandbox.json"
        log = str(self._folder / "sandbox.log")
        order = {"do": "sandbox", "port_file": str(file), "log": log}
        child = await self._nursery.fork(order)
        while not file.exists():
            assert child.alive, self._read("sandbox.log")
            await asyncio.sleep(0.01)
        self._addresses = json.loads(file.read_text())
        return child

    async def _start_server(self, death: Death) -> None:
        """A new life; returns when it listens or has died."""
        file = self._folder / "server.json"
        file.unlink(missing_ok=True)
        order = {
            "do": "serve",
            "addresses": self._addresses,
            "folder": str(self._folder),
            "playbooks": str(self._playbooks),
            "port_file": str(file),
            "log": str(self._folder / "server.log"),
            "notes": str(self._folder / "notes"),
            "target": death.target,
            "delay": death.delay,
            **self._told,
        }
        self._server = await self._nursery.fork(order)
        while not file.exists() and self._server.alive:
            await asyncio.sleep(0.01)
        self._url = json.loads(file.read_text()) if file.exists() else ""

    def _note_life(self) -> bool:
        """Keep what the life has passed; whether it was killed where it should be."""
        notes = self._folder / "notes"
        passed = notes.read_text().splitlines() if notes.exists() else []
        notes.unlink(missing_ok=True)
        killed = "killed" in passed
        self._story.lives.append([one for one in passed if one != "killed"])
        return killed

    # ------------------------------------------------------------------ the journey

    async def _live(
        self, client: aiohttp.ClientSession, alert: dict[str, Any], deaths: list[Death]
    ) -> None:
        for death in deaths:
            await self._start_server(death)
            if self._url and await self._to_the_end(client, alert):
                return
            assert self._server
            await self._server.end(0)
            assert self._note_life(), f"the server ended by itself\n{self.said()}"
            self._story.kills += 1
        raise AssertionError(f"the last life was to stay\n{self.said()}")

    async def _to_the_end(self, client: aiohttp.ClientSession, alert: dict[str, Any]) -> bool:
        """Whether the run ended and the end was read; False when the server died first."""
        assert self._server
        while self._server.alive:
            with contextlib.suppress(aiohttp.ClientError):  # it dies: the next look says so
                if not self._acknowledged:
                    await self._send(client, alert)
                if await self._look(client):
                    self._story.end = await _seen(client, self._url, self._addresses, alert)
                    return True
            await asyncio.sleep(_PAUSE)
        return False

    async def _send(self, client: aiohttp.ClientSession, alert: dict[str, Any]) -> None:
        self._story.sent += 1
        async with client.post(f"{self._url}/v1/hooks/{HOOK}", json=alert) as answer:
            assert answer.status in {200, 202}, await answer.text()
        self._acknowledged = True

    async def _look(self, client: aiohttp.ClientSession) -> bool:
        """Say yes to whatever waits; whether everything has ended."""
        incident = await _get(client, f"{self._url}/v1/incidents/1")
        runs = incident["runs"]
        for run in runs:
            for step in run["steps"]:
                if step["status"] == "waiting-approval":
                    await self._approve(client, run["id"], step)
        return all(run["outcome"] for run in runs)

    async def _approve(self, client: aiohttp.ClientSession, run: str, step: dict[str, Any]) -> None:
        url = f"{self._url}/v1/runs/{run}/steps/{step['id']}/approve"
        body = {"plan": step["plan_hash"], "reason": "reviewed"}
        async with client.post(url, json=body) as answer:
            # 409: an earlier yes was heard before its answer was lost
            assert answer.status in {200, 409}, await answer.text()


# --------------------------------------------------------------------------- looking


async def _get(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.get(url) as answer:
        assert answer.status == 200, f"{url}: {answer.status} {await answer.text()}"
        return await answer.json()


async def _alert(client: aiohttp.ClientSession, addresses: dict[str, str]) -> dict[str, Any]:
    """What Falco's http_output says about a pod that runs (https://falco.org/docs/outputs/)."""
    url = f"{addresses['cluster']}/api/v1/namespaces/{addresses['namespace']}/pods"
    pods = (await _get(client, url))["items"]
    pod = min(pods, key=lambda pod: str(pod["metadata"]["name"]))
    meta, state = pod["metadata"], pod["status"]["containerStatuses"][0]
    repository, _, tag = state["image"].rpartition(":")
    return {
        "hostname": pod["spec"]["nodeName"],
        "output": f"Critical A shell was started in a container (pod={meta['name']})",
        "priority": "Critical",
        "rule": "Terminal shell in container",
        "source": "syscall",
        "tags": ["T1059", "container"],
        "time": meta["creationTimestamp"][:-1] + ".000000000Z",
        "output_fields": {
            "container.id": state["containerID"].removeprefix("containerd://")[:12],
            "container.image.repository": repository,
            "container.image.tag": tag,
            "container.name": state["name"],
            "k8s.ns.name": meta["namespace"],
            "k8s.pod.name": meta["name"],
            "k8s.pod.uid": meta["uid"],
            "proc.name": "sh",
            "user.name": "root",
        },
    }


async def _seen(
    client: aiohttp.ClientSession, url: str, addresses: dict[str, str], alert: dict[str, Any]
) -> dict[str, Any]:
    """The end as every door shows it, without the names and times that differ by nature."""
    incidents = (await _get(client, f"{url}/v1/incidents"))["items"]
    incident = await _get(client, f"{url}/v1/incidents/1")
    alerts = (await _get(client, f"{url}/v1/incidents/1/alerts"))["items"]
    kept = (await _get(client, f"{url}/v1/incidents/1/evidence"))["items"]
    audit = (await _get(client, f"{url}/v1/audit"))["items"]
    audit_sound = await _get(client, f"{url}/v1/audit/verification")
    kept_sound = await _get(client, f"{url}/v1/incidents/1/evidence/verification")
    fields = alert["output_fields"]

    def plain(text: str) -> str:
        for name, word in ((fields["k8s.pod.name"], "POD"), (fields["k8s.pod.uid"][:8], "UID")):
            text = text.replace(name, word)
        text = re.sub(r"cart-[a-z0-9]{6,}", "SET", text)
        return re.sub(r"sha256:[0-9a-f]{64}", "DIGEST", re.sub(r"rr-[0-9a-f]+", "STEP", text))

    effects = await _get(client, f"{addresses['cluster']}/_sandbox/effects")
    return {
        "incidents": len(incidents),
        "status": incident["status"],
        "stages": list(incident["stages"]),
        "authentic alerts": sum(not one["duplicate_of"] for one in alerts),
        "runs": [(run["status"], run["outcome"], run["reason"]) for run in incident["runs"]],
        "steps": [
            (step["id"], step["status"], step["verdict"])
            for run in incident["runs"]
            for step in run["steps"]
        ],
        "evidence": sorted(plain(one["name"]) for one in kept),
        "audit": dict(sorted(Counter(_line(one) for one in audit).items())),
        "sound": (audit_sound["ok"], kept_sound["ok"]),
        "effects": {
            sort: {plain(thing): count for thing, count in things.items()}
            for sort, things in effects.items()
        },
        "cluster": await _cluster(client, addresses, fields["k8s.pod.name"], effects),
    }


def _line(entry: dict[str, Any]) -> str:
    return f"{entry['person']} {entry['verb']} {entry['object'].rpartition('/')[2]}"


async def _cluster(
    client: aiohttp.ClientSession,
    addresses: dict[str, str],
    pod: str,
    effects: dict[str, dict[str, int]],
) -> dict[str, Any]:
    """What the cluster holds now: pods on the pushed digest, the isolated pod, policies."""
    objects = (await _get(client, f"{addresses['cluster']}/_sandbox/state"))["objects"]
    pushed = next(iter(effects["pushes"]))
    digest = pushed.rpartition("@")[2]
    pods = [one for one in objects["pods"] if "deletionTimestamp" not in one["metadata"]]
    return {
        "isolated pod": [one for one in pods if one["metadata"]["name"] == pod],
        "pods on the new digest": sum(
            one["spec"]["containers"][0]["image"].endswith(digest) for one in pods
        ),
        "pods": len(pods),
        "deployments on the new digest": [
            one["spec"]["template"]["spec"]["containers"][0]["image"].endswith(digest)
            for one in objects["deployments"]
        ],
        "policies": len(objects["networkpolicies"]),
    }


async def _checked(path: Path) -> dict[str, str]:
    """The store's own check of itself, after the last kill."""
    store = SqliteStore(path)
    await store.open()
    try:
        return dict(await store.check())
    finally:
        await store.close()
