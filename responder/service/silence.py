"""Silence is an alert: a sender that should speak and does not is told of, once, as an incident.

A hook with `expect_every` is expected to be heard at least that often (a heartbeat rule, such as
Alertmanager's Watchdog, sees to it that a healthy sender always has something to say). When the
sender is heard again, the alert ends. What was heard before a restart counts: it is in the store.

Never: starts a playbook, or calls a hook silent before its whole time has passed.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from responder.clock import SECOND
from responder.engine.intake import admit
from responder.errors import StoreUnavailable
from responder.model import Alert, AlertKind, Severity, Target, digest_of
from responder.ports import HookInfo
from responder.service.core import Core
from responder.store.interface import Opening

__all__ = ["OWN_SOURCE", "RULE", "Silence"]

log = logging.getLogger(__name__)
OWN_SOURCE = "responder"  # what the product says of itself
RULE = "Source silent"
_LOOKS = 4  # in the shortest expected time
_LONGEST = 30.0  # seconds between two looks
_SHORTEST = 0.5
_WINDOW = 30 * 86_400 * SECOND  # one incident for one silence, however long


class Silence:
    """Who is silent now; `watch` keeps it true."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._hooks = {name: hook for name, hook in core.hooks.items() if hook.expect_every > 0}
        self._since: dict[str, int] = {}  # silent hooks -> when they were last heard

    async def watch(self) -> None:
        """Look again and again until cancelled; without such hooks there is nothing to do."""
        if not self._hooks:
            return
        await self._remember()
        shortest = min(hook.expect_every for hook in self._hooks.values())
        pause = max(_SHORTEST, min(_LONGEST, shortest / _LOOKS))
        while True:
            try:
                await self.look()
            except StoreUnavailable:
                log.warning("silence could not be stored", extra={"event": "silence_unstored"})
            await self._core.world.clock.sleep(pause)

    async def look(self) -> None:
        """One look at every hook: who has fallen silent, who speaks again."""
        now = self._core.world.clock.now()
        for name, hook in self._hooks.items():
            heard = self._core.heard.setdefault(name, now)
            silent = now - heard > hook.expect_every * SECOND
            if silent and name not in self._since:
                await self._tell(hook, heard, now)
                self._since[name] = heard
            elif not silent and name in self._since:
                await self._tell(hook, self._since[name], now, over=True)
                del self._since[name]
            self._core.metrics.silent.labels(name).set(int(silent))

    async def _remember(self) -> None:
        """What was heard before this start; a silence already told of is not told again."""
        for name in self._hooks:
            rows = await self._core.store.alerts(hook=name, limit=20)
            said = [row for row in rows if row["alert"]["source"] != OWN_SOURCE]
            if said:
                self._core.heard.setdefault(name, int(said[0]["received"]))
            if rows and _tells_silence(rows[0]):
                self._since[name] = int(rows[0]["alert"]["time"])

    async def _tell(self, hook: HookInfo, heard: int, now: int, *, over: bool = False) -> None:
        core = self._core
        alert = _alert(hook, heard, now, over=over)
        item = admit(alert, hook, (), now, core.rules, core.world.ids.new)
        if not over:
            title = f"{RULE} - {hook.name}"
            key = f"silence|hook={hook.name}|{heard}"
            item = replace(item, opening=Opening(key=key, window=_WINDOW, title=title, severity=3))
        for receipt in await core.store.accept([item]):
            if receipt.incident is not None:
                core.news.tell(receipt.incident)
        log.warning("%s", alert.summary, extra={"event": "silence", "hook": hook.name})


def _tells_silence(row: Any) -> bool:
    said = row["alert"]
    return bool(said["source"] == OWN_SOURCE and said["kind"] == AlertKind.HEALTH.value)


def _alert(hook: HookInfo, heard: int, now: int, *, over: bool) -> Alert:
    """The product's own word on a hook; its `time` is when the hook was last heard."""
    opened = digest_of([RULE, hook.name, heard])[:32]
    spoke = f"expected every {hook.expect_every:g} s, silent for {(now - heard) // SECOND} s"
    return Alert(
        source=OWN_SOURCE,
        kind=AlertKind.RESOLVED if over else AlertKind.HEALTH,
        rule=RULE,
        severity=Severity.MEDIUM,
        summary=f"{hook.name} is heard again" if over else f"{hook.name}: {spoke}",
        time=now if over else heard,
        fingerprint=digest_of([opened, "resolved"])[:32] if over else opened,
        target=Target(cluster=hook.cluster),
        fields={"hook": hook.name, "expect_every": hook.expect_every},
        reason="it is heard again" if over else "nobody can act on what a silent sender sees",
        resolves=opened if over else "",
    )
