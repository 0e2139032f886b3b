"""Start a playbook by hand: once for each idempotency key, and never without an audit line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from responder.engine.intake import DEFAULT_WINDOW, incident_key, run_start
from responder.engine.lanes import KeyedLocks
from responder.engine.state import RunState
from responder.errors import BadRequest, Conflict, NotFound
from responder.model import Mode, Role, Target, digest_of
from responder.playbook.definition import Playbook
from responder.service import inputs as hand
from responder.service.core import Core, Who, require
from responder.service.deciding import said
from responder.store.interface import Event, Opening, RunStart
from responder.text import for_terminal

__all__ = ["Starting"]


class Starting:
    """Runs that a person asks for."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._keys = KeyedLocks()

    async def start(
        self,
        who: Who,
        playbook: str,
        inputs: Mapping[str, Any],
        reason: str,
        *,
        mode: str | None = None,
        incident: int | None = None,
        idempotency_key: str = "",
    ) -> dict[str, Any]:
        """Start a playbook by hand. The same idempotency key starts it once.

        The key is stored with the name of the run before the run is: a start that broke off is
        finished by whoever asks again, under the same name.
        """
        require(who, Role.RESPONDER)
        loaded = self._core.live.named(playbook)
        values, target = hand.checked(loaded, inputs, self._core.rules.default_cluster)
        start = replace(
            run_start(loaded, self._core.rules, target, priority=5, mode=_mode(mode)),
            inputs=values,
            person=who.person,
            door=who.door,
            reason=said(reason),
        )
        run_id = self._core.world.ids.new("run", self._core.world.clock.now())
        if not idempotency_key:
            return await self._start(who, run_id, loaded, start, target, incident)
        key = f"{who.person}/{idempotency_key}"
        request = digest_of([playbook, inputs, reason, mode, incident])
        async with self._keys.hold((key,)):
            run_id = await self._claim(key, request, run_id)
            try:
                row, _ = await self._core.store.load_run(run_id)
            except NotFound:
                return await self._start(who, run_id, loaded, start, target, incident)
            return {"run": row.id, "incident": row.incident}

    async def _claim(self, key: str, request: str, run_id: str) -> str:
        """The name of the run that belongs to this key: this one, or an earlier request's."""
        now = self._core.world.clock.now()
        found = await self._core.store.remember(key, request, {"run": run_id}, now)
        if found is None:  # claimed now, or by somebody who stored no name
            found = await self._core.store.remember(key, request, {"run": run_id}, now)
        if found is None:
            return run_id
        if found["request"] != request:
            raise BadRequest("the Idempotency-Key was used for another request; use a new one")
        return str(found["answer"]["run"]) if found["answer"] else run_id

    async def _start(
        self,
        who: Who,
        run_id: str,
        loaded: Playbook,
        start: RunStart,
        target: Target,
        incident: int | None,
    ) -> dict[str, Any]:
        core, now = self._core, self._core.world.clock.now()
        created = Event("run_created", now, {"target": target.to_json()})
        opening = None
        if incident is None:
            title = f"{loaded.name} by {who.person} - {for_terminal(target.label, 200)}"
            key = f"manual|{incident_key(target, loaded.incident_key)}"
            opening = Opening(key=key, window=DEFAULT_WINDOW, title=title, severity=0)
        # the audit first: a line too many can be explained, a run without one cannot
        await core.store.add_audit([core.audit(who, "run", run_id, reason=start.reason)])
        run_id, number = await core.store.start_run(
            run_id, start, now, created, incident=incident, opening=opening
        )
        core.driver.heard(run_id)
        core.news.tell(number)
        return {"run": run_id, "incident": number}

    async def preview(self, who: Who, playbook: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The plans a run would make now: a run in observe mode, which changes nothing."""
        answer = await self.start(who, playbook, inputs, "preview", mode="observe")
        run = await self._ended(answer["run"])
        steps = [
            {"step": s.id, "plan": dict(s.plan), "hash": s.plan_hash, "reason": s.reason}
            for s in run.steps.values()
            if s.plan
        ]
        return {**answer, "steps": steps, "outcome": run.outcome, "reason": run.reason}

    async def _ended(self, run_id: str, seconds: float = 30.0) -> RunState:
        clock = self._core.world.clock
        until = clock.monotonic() + seconds
        while True:
            _, run = await self._core.driver.load(run_id)
            if run.outcome:
                return run
            if clock.monotonic() > until:
                raise Conflict(f"run {run_id} is still planning; look at it in a moment")
            await clock.sleep(0.05)


def _mode(text: str | None) -> Mode | None:
    if text is None:
        return None
    if text not in set(Mode):
        raise BadRequest(f"mode: expected one of {', '.join(Mode)}, got {text[:40]}", "/mode")
    return Mode(text)
