"""Detectors and people at the doors of the simulated server, over connections that are cut.

Each acts by itself, repeats what was not answered, and writes down what was acknowledged.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar

from tests.simulation.checks import Said, Switching, Witness
from tests.simulation.loop import SimLoop
from tests.simulation.network import SimConnector

__all__ = ["Caller", "Crowd"]

_RULE = "Terminal shell in container"


class Caller:
    """Somebody with a connection and perhaps a token."""

    def __init__(self, loop: SimLoop, name: str, said: Said, token: str = "") -> None:
        self.name = name
        self._said = said
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session = ClientSession(
            "http://sim",
            connector=SimConnector(loop, name),
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=10),
            headers=headers,
        )

    async def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any] | None:
        """Status and answer, or None when nobody knows what became of the request."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            async with self._session.request(method, path, json=body, headers=names) as answer:
                status, text = answer.status, await answer.read()
        except (ClientError, TimeoutError, OSError):
            return None
        if status >= 500 and status != 503:
            self._said.broken.append(f"{method} {path} was answered with {status}")
        return status, json.loads(text) if text else None

    async def close(self) -> None:
        """Let the connections go."""
        await self._session.close()


@dataclass
class Crowd:
    """Everybody who acts on one server."""

    loop: SimLoop
    said: Said
    witness: Witness
    approvers: list[Caller]
    operators: list[Caller]
    strangers: list[Caller]
    calm: bool = False  # from now on everybody agrees and nobody disturbs

    def _chance(self, share: float) -> bool:
        return self.loop.rng.random() < share

    async def _rest(self, low: float, high: float) -> None:
        await asyncio.sleep(self.loop.rng.uniform(low, high))

    # ----------------------------------------------------------------- detectors

    async def report(self, number: int, pod: str) -> None:
        """Say one thing until it is acknowledged, often from two senders at once, often again."""
        await self._rest(0, 20)
        deed = f"sh -c {number}"
        senders = self.strangers if self._chance(0.5) else self.strangers[:1]
        await asyncio.gather(*(self._say(sender, deed, pod) for sender in senders))
        if self._chance(0.4):
            await self._rest(0, 5)
            await self._say(self.strangers[0], deed, pod)

    async def _say(self, sender: Caller, deed: str, pod: str) -> None:
        event = {
            "rule": _RULE,
            "priority": self.loop.rng.choice(["Critical", "Warning"]),
            "time": "2027-01-15T08:00:00Z",
            "output": f"shell in {pod}",
            "source": "syscall",
            "output_fields": {
                "k8s.ns.name": "shop",
                "k8s.pod.name": pod,
                "proc.cmdline": deed,
                "proc.name": "sh",
            },
        }
        while True:
            answer = await sender.call("POST", "/v1/hooks/falco", event)
            if answer is not None and answer[0] == 202:
                identity = answer[1]["alerts"][0]["id"]
                if self.said.alerts.setdefault(deed, identity) != identity:
                    former = self.said.alerts[deed]
                    self.said.broken.append(f"{deed} is alert {former} and alert {identity}")
                return
            await self._rest(0.1, 1)

    async def hint(self, key: str) -> None:
        """A forge's webhook: sent once, sometimes twice, sometimes never."""
        for _ in range(self.loop.rng.choice([0, 1, 1, 2])):
            await self._rest(0, 1)
            await self.strangers[0].call("POST", "/v1/hooks/forge", {"job": f"job:{key}"})

    # ----------------------------------------------------------------- approvers

    async def decide(self) -> None:
        """Look for what waits, and decide on it: alone, or several people in one moment."""
        while True:
            await self._rest(0.3, 3)
            for run in self.witness.runs("waiting-approval"):
                await self._decide_on(run)

    async def _decide_on(self, run: str) -> None:
        found = await self.loop.rng.choice(self.approvers).call("GET", f"/v1/runs/{run}")
        if found is None or found[0] != 200:
            return
        for step in found[1]["steps"]:
            if step["status"] != "waiting-approval":
                continue
            count = 3 if self.calm else self.loop.rng.choice([1, 1, 2, 3])
            people = self.loop.rng.choices(self.approvers, k=count)
            people = self.approvers if self.calm else people
            await asyncio.gather(
                *(self._decision(who, run, step["id"], step["plan_hash"]) for who in people)
            )

    async def _decision(self, who: Caller, run: str, step: str, plan: str) -> None:
        yes = self.calm or self._chance(0.9)
        word, path = ("given", "approve") if yes else ("denied", "deny")
        await self._rest(0, 0.05)
        body = {"plan": plan, "reason": f"{who.name} looked"}
        answer = await who.call("POST", f"/v1/runs/{run}/steps/{step}/{path}", body)
        if answer is not None and answer[0] == 200:
            self.said.decisions.append((run, step, who.name, word))

    # ----------------------------------------------------------------- operators

    async def start(self, number: int) -> None:
        """Start a playbook by hand, with a key, until an answer comes."""
        await self._rest(0, 20)
        who, key = self.operators[0], f"key-{number}"
        thing = f"{self.loop.rng.choice(['cart', 'cart', 'web'])}-hand"
        body = {"playbook": "sim-hand", "inputs": {"object": thing}, "reason": key}
        for _ in range(8):
            answer = await who.call("POST", "/v1/runs", body, Idempotency_Key=key)
            if answer is not None and answer[0] == 201:
                self.said.started[key] = answer[1]["run"]
                return
            await self._rest(0.1, 2)

    async def disturb(self) -> None:
        """Cancel, undo, extend: now and then, on whatever there is."""
        while True:
            await self._rest(2, 12)
            runs = self.witness.runs()
            if self.calm or not runs:
                continue
            run, who = self.loop.rng.choice(runs), self.operators[0]
            deed = self.loop.rng.choice(["cancel", "undo", "undo", "extend"])
            if deed == "cancel" and self._chance(0.5):
                answer = await who.call("POST", f"/v1/runs/{run}/cancel", {"reason": "enough"})
                if answer is not None and answer[0] == 200:
                    self.said.cancelled.append(run)
            elif deed == "undo":
                await asyncio.gather(*(self._undo(one, run) for one in self.operators))
            elif deed == "extend":
                path = f"/v1/runs/{run}/steps/{self.loop.rng.choice(['tag', 'rollout'])}/extend"
                await who.call("POST", path, {"seconds": 30})

    async def _undo(self, who: Caller, run: str) -> None:
        step = self.loop.rng.choice(["isolate", "tag", "tag", "mark"])
        await who.call("POST", f"/v1/runs/{run}/steps/{step}/undo", {"reason": "back"})

    async def switch(self, who: Caller) -> None:
        """Pause and resume, each person by themselves."""
        while True:
            await self._rest(3, 25)
            if self.calm:
                return
            await self.press(who, pause=True)
            await self._rest(0.5, 8)
            await self.press(who, pause=False)
            if self._chance(0.5):  # two people in one moment: the later one has it
                other = self.operators[0] if who is self.operators[1] else self.operators[1]
                first = self.press(other, pause=True)
                await asyncio.gather(self.press(who, pause=False), first)
                await self.agree(who)
                await self._rest(0.5, 4)
                await self.press(who, pause=False)

    async def agree(self, who: Caller) -> None:
        """What the server says of the stop switch is what a restart would find."""
        known = [one.acked for one in self.said.switches]
        since = self.loop.time() - 12  # by then a request without an answer is over
        moving = any(one.acked is None and one.sent > since for one in self.said.switches)
        written = self.witness.switch_is_set()
        answer = await who.call("GET", "/v1/status")
        if (
            answer is None
            or answer[0] != 200
            or moving
            or known != [one.acked for one in self.said.switches]
        ):
            return  # cut, or somebody has pressed it meanwhile
        refused = any(one.pause and one.acked is None for one in self.said.switches)
        if answer[1]["paused"] and refused:
            return  # it stopped at once, though the disk did not take the switch
        if bool(answer[1]["paused"]) != written:
            self.said.broken.append(f"the server says {answer[1]['paused']!r}, the file {written}")

    async def press(self, who: Caller, *, pause: bool) -> bool:
        """One request; whether it was acknowledged."""
        one = Switching(pause, self.loop.time())
        self.said.switches.append(one)
        path = "/v1/pause" if pause else "/v1/resume"
        answer = await who.call("POST", path, {"reason": "drill"})
        if answer is None or answer[0] != 200:
            return False
        one.acked = self.loop.time()
        return True
