"""What lies outside the server: a cluster and a forge that behave as badly as real ones.

They answer late, twice, with what was true a while ago, with 409, 429 and 5xx; they act and then
fail, act long after the caller has given up, or lose the answer. What they hold is still the
truth: every effect is counted here, by the key of the step that wanted it.

The actions over them keep the protocol of `responder.ports` with care, so that a double effect
or a missing one is the server's fault.
"""

from __future__ import annotations

import asyncio
import bisect
from collections import Counter
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from typing import Any

from responder.errors import NotFound, StepFailed, StepRetry
from responder.model import Target
from tests.simulation.loop import PROCESS, SimLoop

__all__ = ["LAG", "TRAVEL", "Conflicting", "Outside", "Resolving", "Thing"]

TRAVEL = 0.5  # seconds, at most, from a call to its effect, whatever became of the caller
LAG = 1.0  # seconds, at most, until the forge lists a run that it was told to start


class Conflicting(Exception):
    """409: the object is not what the caller saw."""


@dataclass(frozen=True)
class Thing:
    """One object and its version, as the cluster shows it."""

    name: str
    version: int = 0
    marks: tuple[tuple[str, str], ...] = ()

    def get(self, mark: str) -> str:
        """The value of a label, or the empty text."""
        return dict(self.marks).get(mark, "")

    def with_mark(self, mark: str, value: str) -> Thing:
        """The next version, with a label set or (empty text) taken away."""
        marks = {**dict(self.marks), mark: value}
        kept = tuple(sorted((k, v) for k, v in marks.items() if v))
        return replace(self, version=self.version + 1, marks=kept)


@dataclass
class _Job:
    key: str
    asked: float
    listed: float  # when a list shows it
    done: float


@dataclass
class Outside:
    """Cluster and forge, with what they were really made to do."""

    loop: SimLoop
    trouble: float = 0.25  # chance that a call meets one of the faults
    effects: Counter[tuple[str, str]] = field(default_factory=Counter)
    applied: list[tuple[float, str]] = field(default_factory=list)  # when an apply was called
    witness: Callable[[Any, Any], None] = lambda _call, _plan: None
    finished: Callable[[str], None] = lambda _key: None  # a job's end, for webhooks
    happened: Callable[[], None] = lambda: None  # an effect took place just now
    _own: Context = field(default_factory=copy_context)  # it goes on when a caller is killed
    _things: dict[str, list[tuple[float, Thing]]] = field(default_factory=dict)
    _jobs: list[_Job] = field(default_factory=list)

    # ----------------------------------------------------------------- calls

    async def ask(self, name: str, act: Callable[[], Any], *, once: bool = False) -> Any:
        """One call over a bad network. Raises `StepRetry` where a client would say so.

        What was sent arrives, even when the caller is cancelled or its process killed; some proxy
        may send it twice, unless it must be sent `once`.
        """
        process, rng = PROCESS.get(), self.loop.rng
        if not process.alive:
            raise asyncio.CancelledError
        self.loop.note(f"ask {name}")
        fault = rng.choice(_FAULTS) if rng.random() < self.trouble else "none"
        answer: asyncio.Future[Any] = self.loop.create_future()
        late = TRAVEL if fault in {"late", "deaf"} else 0.03
        times = 2 if fault == "twice" and not once else 1
        if fault in {"busy", "refused"}:
            times = 0
        for _ in range(times):
            self._soon(rng.uniform(0, late), self._arrive, name, act, answer, fault)
        if times == 0:
            error = StepRetry(f"{name}: {fault}", after=rng.uniform(0.2, 3))
            self._soon(rng.uniform(0, 0.03), _settle, answer, None, error)
        return await answer

    def _soon(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        self.loop.call_later(seconds, call, *args, context=self._own)

    def _arrive(
        self, name: str, act: Callable[[], Any], answer: asyncio.Future[Any], fault: str
    ) -> None:
        value, error = None, None
        try:
            value = act()
        except (Conflicting, NotFound) as refusal:
            error = refusal
        self.loop.note(f"act {name} {fault} {value!r}")
        back = self.loop.rng.uniform(0, 0.03)
        if fault == "broken":
            self._soon(back, _settle, answer, None, StepRetry(f"{name}: 502", after=back * 50))
        elif fault != "deaf":
            self._soon(back, _settle, answer, value, error)

    def _count(self, verb: str, key: str) -> None:
        self.effects[verb, key] += 1
        self.loop.note(f"effect {verb} {key}")
        self.happened()

    # ----------------------------------------------------------------- the cluster

    async def read(self, name: str, *, fresh: bool = False) -> Thing:
        """An object as the cluster shows it; unless `fresh`, perhaps as it was a while ago."""
        old = self.loop.rng.uniform(0, 2.0) if self.loop.rng.random() < self.trouble else 0.0
        at = self.loop.time() if fresh else self.loop.time() - old

        def look() -> Thing:
            return self.now(name) if fresh or not old else self._seen(name, at)

        found: Thing = await self.ask(f"read {name}", look)
        return found

    async def patch(  # one argument for each part of the request
        self, name: str, version: int, mark: str, value: str, *, effect: tuple[str, str]
    ) -> Thing:
        """Set a label if the object still has this version; `Conflicting` when not."""

        def act() -> Thing:
            thing = self.now(name)
            if thing.get(mark) == value:
                return thing  # it is so already: nothing happens
            if thing.version != version:
                raise Conflicting(f"{name} has version {thing.version}, not {version}")
            return self._set(thing.with_mark(mark, value), effect)

        done: Thing = await self.ask(f"patch {name}", act)
        return done

    async def ever(self, name: str, mark: str, value: str) -> bool:
        """Whether any version of the object had this label: old versions are kept."""

        def look() -> bool:
            self.now(name)
            return any(thing.get(mark) == value for _, thing in self._things[name])

        return bool(await self.ask(f"history {name}", look))

    def meddle(self, name: str, mark: str, value: str) -> None:
        """Somebody else changes an object."""
        self._set(self.now(name).with_mark(mark, value), None)

    def marked(self, mark: str) -> list[str]:
        """The objects that carry this label now."""
        return [name for name in self._things if self.now(name).get(mark)]

    def now(self, name: str) -> Thing:
        """The truth about an object."""
        return self._things.setdefault(name, [(0.0, Thing(name))])[-1][1]

    def _seen(self, name: str, at: float) -> Thing:
        self.now(name)
        history = self._things[name]
        place = bisect.bisect_right([moment for moment, _ in history], at)
        return history[max(place - 1, 0)][1]

    def _set(self, thing: Thing, effect: tuple[str, str] | None) -> Thing:
        self._things[thing.name].append((self.loop.time(), thing))
        if effect is not None:
            self._count(*effect)
        return thing

    # ----------------------------------------------------------------- the forge

    async def dispatch(self, key: str) -> None:
        """Start a job. The forge does not know keys: told twice, it starts two."""

        def act() -> None:
            now, rng = self.loop.time(), self.loop.rng
            job = _Job(key, now, now + rng.uniform(0, LAG), now + rng.uniform(1, 20))
            self._jobs.append(job)
            self._soon(job.done - now, self.finished, key)
            self._count("dispatch", key)

        await self.ask("dispatch", act, once=True)

    async def find(self, key: str) -> bool:
        """Whether a job of this key is listed by now."""

        def look() -> bool:
            return any(job.key == key and job.listed <= self.loop.time() for job in self._jobs)

        return bool(await self.ask("list", look))

    async def job_done(self, key: str) -> bool:
        """Whether the job of this key has ended."""

        def look() -> bool:
            for job in self._jobs:
                if job.key == key:
                    return job.done <= self.loop.time()
            raise NotFound(f"no job {key}")

        return bool(await self.ask("job", look))


_FAULTS = ("late", "twice", "busy", "refused", "broken", "broken", "deaf")


class Resolving:
    """The resolver of the simulated cluster."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def resolve(self, target: Target) -> Target:
        """The pod's own facts; a pod named `gone…` is another one by now."""
        await self._outside.read(target.pod)
        if target.pod.startswith("gone"):
            raise StepFailed(f"pod {target.pod} is another one by now")
        owner = f"Deployment/{target.pod.split('-')[0]}"
        return replace(target, pod_uid=f"uid-{target.pod}", workload=owner)


def _settle(answer: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
    """Give the caller the first answer; a second one finds nobody."""
    if answer.done():
        return
    if error is None:
        answer.set_result(value)
    else:
        answer.set_exception(error)
