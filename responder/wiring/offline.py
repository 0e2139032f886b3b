"""What commands without a server need: catalogue, playbook tests, rehearsal, store, first token.

Nothing here talks to anything but loopback, and every rehearsal has a store of its own that goes
with its folder.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from responder.engine.intake import admit
from responder.engine.machine import status_of
from responder.errors import ConfigError
from responder.model import Alert, Role, Target
from responder.playbook.definition import Playbook, TestCase
from responder.playbook.loading import load_dump
from responder.playbook.matching import Index
from responder.playbook.schema import json_schema
from responder.playbook.shipped import shipped_texts
from responder.ports import HookInfo
from responder.sandbox.world import SandboxWorld
from responder.service import Who
from responder.service.access import Access
from responder.settings import Settings
from responder.store.sqlite import SqliteStore
from responder.wiring import App, build, open_store
from responder.wiring.known import catalogue, every_source, sources
from responder.wiring.sandboxed import stage

__all__ = [
    "create_token",
    "offline_catalogue",
    "offline_sources",
    "playbook_schema",
    "rehearse",
    "restore_store",
    "test_playbooks",
]

offline_catalogue = catalogue
offline_sources = sources

YOU = Who(person="you", role=Role.ADMIN, door="cli")
_END = 60.0  # seconds for one rehearsed run
Result = tuple[str, int, bool, str]  # playbook, line, whether it held, what was seen


def playbook_schema() -> dict[str, Any]:
    """The JSON Schema of playbooks, with every action's parameters."""
    return json_schema(catalogue(), every_source())


# --------------------------------------------------------------------------- rehearsals


async def rehearse(
    playbook: str, body: bytes, *, source: str, cluster: Path | None, approve: bool
) -> dict[str, Any]:
    """Run a playbook (a file or a shipped name) on a payload in a sandbox.

    Without a dump the sandbox's own shop plays the target, and the story says so. Returns
    outcome, incident and timeline. Raises `PlaybookError`, `ConfigError`, `BadAlert`.
    """
    text = _text_of(playbook)
    alert = _alert_of(source, body)
    dump = _text_of(str(cluster)) if cluster else ""
    with tempfile.TemporaryDirectory(prefix="responder-rehearsal-") as name:
        folder = Path(name)
        _put(folder, text)
        flags = _only(folder)
        async with stage(folder, dump=load_dump(dump) if dump else (), **flags) as made:
            if not dump:
                alert = _played(alert, made.sandbox)
            run_id, number = await _begin(made.app, alert)
            word = await _follow(made.app, run_id, approve=approve)
            service = made.app.service
            return {
                "outcome": word,
                "incident": await service.incident(YOU, number),
                "timeline": (await service.timeline(YOU, number))["items"],
            }


async def test_playbooks(loaded: Sequence[Playbook]) -> list[Result]:
    """Run every case written in these playbooks; cases that need a run get a sandbox of their own.

    `waits_at` means: this step asks a person, every earlier question having been answered yes.
    """
    results = []
    for playbook in loaded:
        index = Index([playbook])
        for case in playbook.tests:
            starts = bool(index.match(case.alert))
            if starts is not case.starts:
                seen = "starts" if starts else index.explain(case.alert)[0].reason
                results.append((playbook.name, case.line, False, seen))
            elif case.waits_at or case.outcome:
                results.append(await _run_case(playbook, case))
            else:
                results.append((playbook.name, case.line, True, ""))
    return results


async def _run_case(playbook: Playbook, case: TestCase) -> Result:
    with tempfile.TemporaryDirectory(prefix="responder-case-") as name:
        folder = Path(name)
        _put(folder, playbook.text)
        flags = _only(folder)
        async with stage(folder, **flags) as made:
            alert = _played(case.alert, made.sandbox)
            run_id, _ = await _begin(made.app, alert)
            word = await _follow(made.app, run_id, approve=True, stop_at=case.waits_at)
            _, run = await made.app.driver.load(run_id)
            at = next((s.id for s in run.steps.values() if s.status == "waiting-approval"), "")
    held = at == case.waits_at if case.waits_at else word == case.outcome
    seen = "" if held else f"{word} at {at or 'the end'}: {run.reason}"
    return playbook.name, case.line, held, seen


async def _begin(app: App, alert: Alert) -> tuple[str, int]:
    """Store the alert with a run of the one playbook in force; its run and incident."""
    core = app.service.core
    playbook = next(iter(core.live.by_name.values()))
    if not core.live.index.match(alert):
        why = core.live.index.explain(alert)[0].reason
        raise ConfigError(f'playbook "{playbook.name}" does not start on this alert: {why}')
    hook = HookInfo(name="rehearsal", source=alert.source, cluster="sandbox")
    now = core.world.clock.now()
    item = admit(alert, hook, [playbook], now, core.rules, core.world.ids.new)
    receipt = (await core.store.accept([item]))[0]
    core.driver.wake()
    return receipt.runs[0], receipt.incident or 0


async def _follow(app: App, run_id: str, *, approve: bool, stop_at: str = "") -> str:
    """Until the run has ended or waits for a person.

    With `approve` every plan gets its yes but that of the step `stop_at`.
    """
    clock = app.service.core.world.clock
    until = clock.monotonic() + _END
    while clock.monotonic() < until:
        _, run = await app.driver.load(run_id)
        waiting = [s for s in run.steps.values() if s.status == "waiting-approval"]
        if run.outcome or (waiting and (not approve or waiting[0].id == stop_at)):
            return status_of(run)
        for state in waiting:
            reason = "rehearsal"
            await app.service.decide(YOU, run_id, state.id, True, state.plan_hash, reason)
        await clock.sleep(0.05)
    return "timed out"


def _played(alert: Alert, sandbox: SandboxWorld) -> Alert:
    """The same alert about a pod that lives in the sandbox, if it spoke of one at all."""
    registry = sandbox.registry
    image = f"{registry}/shop/cart:1.0" if alert.target.image else ""
    if not alert.target.pod:
        place = (
            {"namespace": "shop", "workload": "Deployment/cart"} if alert.target.workload else {}
        )
        target = Target(image=image, host=alert.target.host, digest=alert.target.digest, **place)
        return replace(alert, target=target)
    pod = sandbox.pod()["metadata"]
    target = Target(namespace=pod["namespace"], pod=pod["name"], pod_uid=pod["uid"], image=image)
    return replace(alert, target=target)


def _alert_of(source: str, body: bytes) -> Alert:
    known = sources()
    if source not in known:
        raise ConfigError(f'there is no source "{source}"; known: {", ".join(sorted(known))}')
    alerts = known[source].parse({}, body, HookInfo(name="rehearsal", source=source))
    if not alerts:
        raise ConfigError("the payload holds no alert")
    return alerts[0]


def _text_of(playbook: str) -> str:
    path = Path(playbook)
    if path.is_file():
        return path.read_text(encoding="utf-8")
    texts = {Path(name).stem: text for name, text in shipped_texts().items()}
    if playbook not in texts:
        raise ConfigError(f'there is no file and no shipped playbook "{playbook}"')
    return texts[playbook]


def _only(folder: Path) -> dict[str, Any]:
    """Settings under which nothing but the playbook put into the folder is in force."""
    return {"playbooks__folders": [str(folder / "playbooks")], "playbooks__shipped": []}


def _put(folder: Path, text: str) -> None:
    (folder / "playbooks").mkdir()
    (folder / "playbooks" / "rehearsed.yaml").write_text(text, encoding="utf-8")


# --------------------------------------------------------------------------- store, token


async def restore_store(settings: Settings, file: Path) -> Path:
    """Put a backup in the store's place; the former store is kept beside it. Returns its path.

    Raises `ConfigError` when the backup does not hold, or a server uses the store.
    """
    path = settings.store.path
    with tempfile.TemporaryDirectory(prefix="responder-restore-") as name:
        trial = Path(name) / "trial.db"
        shutil.copyfile(file, trial)
        backup = SqliteStore(trial)
        await backup.open()
        try:
            found = await backup.check()
        finally:
            await backup.close()
    # the evidence lies beside the real store, not beside the trial
    bad = {k: v for k, v in found.items() if v != "ok" and k != "evidence"}
    if bad:
        raise ConfigError(f"{file}: is no sound backup: {bad}")
    current = open_store(settings)
    await current.open()  # takes the lock: refuses while a server is at work
    await current.close()
    kept = path.with_name(path.name + ".before-restore")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.replace(kept.with_name(kept.name + suffix))
    shutil.copyfile(file, path)
    path.chmod(0o600)
    return kept


async def create_token(
    settings: Settings, by: str, person: str, role: str, days: int
) -> dict[str, Any]:
    """A token made by whoever may read the store's file: the first one of an installation."""
    async with build(settings, idle=True) as app:
        who = Who(person=by, role=Role.ADMIN, door="local")
        return await Access(app.service.core).token_create(who, person, role, days)
