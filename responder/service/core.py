"""What all verbs of the service stand on, and who may use them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from responder.clock import World
from responder.engine.driver import Driver
from responder.engine.intake import Rules
from responder.errors import Forbidden, NotFound
from responder.model import Role
from responder.playbook.definition import Playbook
from responder.playbook.matching import Index
from responder.ports import ActionInfo, HookInfo, Integration, Source
from responder.service.metrics import Metrics
from responder.service.pausing import Pause
from responder.store.interface import AuditEntry, RunRow, Store

__all__ = ["Core", "Live", "News", "Who", "require", "same"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """The person behind a request, the role they hold, and the door they came through."""

    person: str
    role: Role
    door: str
    address: str = ""
    token: str = ""


def same(person: str, other: str) -> bool:
    """Whether two names are one human: capitals and blanks do not make another one."""
    return person.strip().casefold() == other.strip().casefold()


def require(who: Who, role: Role) -> None:
    """Raise `Forbidden` unless the person holds this role or a greater one."""
    if not who.role.includes(role):
        raise Forbidden(
            f"{who.person} has role {who.role.value}, this needs {role.value}; "
            "ask an admin for a token with that role"
        )


class Live:
    """The playbooks in force. A run keeps the text it started with, whatever is loaded later."""

    def __init__(
        self, compile_text: Callable[[str, str], Playbook], playbooks: Iterable[Playbook]
    ) -> None:
        self._compile_text = compile_text
        self._compiled: dict[str, Playbook] = {}
        self.replace(playbooks)

    def replace(self, playbooks: Iterable[Playbook]) -> None:
        """Put a checked set in force, all of it at once."""
        loaded = tuple(playbooks)
        index = Index(loaded)  # before anything is put in force: it may refuse
        self.by_name: Mapping[str, Playbook] = {p.name: p for p in loaded}
        self.index = index
        self._compiled |= {p.hash: p for p in loaded}

    def of(self, row: RunRow) -> Playbook:
        """The playbook a run started with. Raises `PlaybookError` when it no longer loads."""
        found = self._compiled.get(row.playbook_hash)
        if found is None:
            found = self._compile_text(row.text, f"{row.playbook} (as started)")
            self._compiled[row.playbook_hash] = found
        return found

    def named(self, name: str) -> Playbook:
        """A playbook in force. Raises `NotFound` with the nearest name."""
        from responder.text import suggestion

        if name not in self.by_name:
            raise NotFound(f'no playbook is named "{name}"; {suggestion(name, self.by_name)}')
        return self.by_name[name]


class News:
    """Wakes whoever watches an incident; nothing is lost because watchers re-read the store."""

    def __init__(self) -> None:
        self._changed: dict[int, asyncio.Event] = {}

    def tell(self, incident: int) -> None:
        """This incident has a new line."""
        event = self._changed.pop(incident, None)
        if event is not None:
            event.set()

    def listen(self, incident: int) -> asyncio.Event:
        """An event that is set at the next line; take it before reading the store."""
        return self._changed.setdefault(incident, asyncio.Event())


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The parts that the verbs share."""

    store: Store
    driver: Driver
    world: World
    live: Live
    rules: Rules
    catalogue: Mapping[str, ActionInfo]
    sources: Mapping[str, Source]
    hooks: Mapping[str, HookInfo]
    integrations: tuple[Integration, ...]
    pause: Pause
    news: News
    metrics: Metrics
    version: str
    anonymous: bool = False  # demo on loopback only
    state: dict[str, str] = field(default_factory=dict)  # "draining", "degraded:<what>"
    heard: dict[str, int] = field(default_factory=dict)  # hook -> when its sender last spoke

    def audit(
        self, who: Who, verb: str, object_: str, *, plan: str = "", reason: str = ""
    ) -> AuditEntry:
        """One line for the chain."""
        return AuditEntry(
            at=self.world.clock.now(),
            person=who.person,
            door=who.door,
            verb=verb,
            object=object_,
            plan=plan,
            detail={"reason": reason} if reason else {},
            address=who.address,
        )
