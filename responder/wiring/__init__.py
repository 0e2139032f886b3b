"""Joins settings, integrations, store and engine into one running server.

The only place that imports integrations. `build` gives a server that is ready to receive; leaving
its block drains it: nothing new is taken, calls in flight end and are journaled, the rest waits
on disk for the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib import metadata

from responder.clock import World
from responder.engine.brakes import Guard
from responder.engine.driver import Driver, Hooks
from responder.engine.lanes import Lane
from responder.engine.looking import Looker
from responder.engine.performing import Lanes, Performer
from responder.engine.state import RunState
from responder.errors import ConfigError
from responder.playbook.definition import Playbook
from responder.playbook.loading import load_text
from responder.ports import Action, ActionInfo, Integration
from responder.service import Core, Live, Metrics, News, Pause, Service
from responder.service.silence import Silence
from responder.service.watching import Watching
from responder.settings import Settings, differing, load, seconds
from responder.store.interface import Event, Store
from responder.store.sqlite import SqliteStore
from responder.wiring import parts, rbac
from responder.wiring.evidence import StoreEvidence
from responder.wiring.ledger import Ledger
from responder.wiring.usage import Usage

__all__ = ["App", "build", "load_settings", "open_store", "version"]

log = logging.getLogger(__name__)
CONTAINMENT_PLACES = 16  # more calls in flight buy little and cost latency (measured on 2 cores)
NORMAL_PLACES = 32

load_settings = load


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A running server without its doors."""

    service: Service
    settings: Settings
    store: Store
    looker: Looker

    @property
    def driver(self) -> Driver:
        """Who carries the runs on."""
        return self.service.core.driver

    @property
    def catalogue(self) -> Mapping[str, ActionInfo]:
        """Every action that is set up."""
        return self.service.core.catalogue

    @property
    def integrations(self) -> tuple[Integration, ...]:
        """Every outside system that is set up."""
        return self.service.core.integrations

    def reload(self, settings: Settings) -> None:
        """Put the playbooks of new settings in force: all of them, or none and the old stay.

        Raises `ConfigError` where another section has changed: that needs a restart, and half a
        reload is none.
        """
        others = [name for name in differing(self.settings, settings) if name != "playbooks"]
        if others:
            raise ConfigError(f"changed: {', '.join(others)}; only a restart puts that in force")
        sources = self.service.core.sources
        self.service.core.live.replace(parts.playbooks(settings, self.catalogue, sources))


def version() -> str:
    """The installed version of the distribution."""
    try:
        return metadata.version("runtime-responder")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def open_store(settings: Settings) -> SqliteStore:
    """The store of the configuration, not opened yet."""
    path = settings.store.path
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return SqliteStore(path)


@asynccontextmanager
async def build(
    settings: Settings,
    *,
    world: World | None = None,
    store: Store | None = None,
    extra: Sequence[Integration] = (),
    anonymous: bool = False,
    idle: bool = False,
) -> AsyncIterator[App]:
    """A server at work. `extra` integrations stand beside the configured ones (tests, demo).

    `idle`: everything is set up and nothing is carried on, for commands that only look.

    Raises `ConfigError`, `PlaybookError` before anything is started.
    """
    grace = seconds(settings.server.drain, "server.drain")
    world = world or World()
    store = store or open_store(settings)
    await store.open()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        app = await _assemble(settings, world, store, extra, open_=anonymous)
        for integration in app.integrations:
            if integration.close is not None:
                stack.push_async_callback(integration.close)
        if idle:
            yield app
            return
        core = app.service.core
        await parts.check_door(settings, store, world.clock.now(), open_=anonymous)
        await core.pause.look()
        tasks = [
            asyncio.create_task(_guarded("driver", app.driver.run)),
            asyncio.create_task(_guarded("pause", lambda: core.pause.watch(app.driver.wake))),
            asyncio.create_task(_guarded("silence", Silence(core).watch)),
            asyncio.create_task(_guarded("looker", lambda: app.looker.run(app.driver))),
            asyncio.create_task(_guarded("watchers", _watching(app, world).run)),
        ]
        try:
            yield app
        finally:
            core.state["draining"] = "draining"
            await app.driver.stop(grace)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _watching(app: App, world: World) -> Watching:
    """The watchers of all integrations; what they hear is looked at at once."""
    watchers = [watcher for one in app.integrations for watcher in one.watchers]
    return Watching(watchers, app.looker.heard, world)


async def _guarded(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """A task that must not end by itself; if it does, the log says so."""
    try:
        await work()
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("a server task ended", extra={"event": "task_ended", "task": name})
        raise


async def _assemble(
    settings: Settings, world: World, store: Store, extra: Sequence[Integration], *, open_: bool
) -> App:
    """Everything joined, nothing started. `open_`: loopback needs no token (demo)."""
    metrics, news = Metrics(version()), News()
    world = replace(world, observe=metrics.count_call)
    in_force: list[Live] = []
    evidence = StoreEvidence(store, world)
    made = parts.integrations_of(
        settings, world, evidence, lambda: _used(in_force), evidence.read, Ledger(store)
    )
    found = (*made, *extra)
    actions = {action.info.name: action for one in found for action in one.actions}
    catalogue = {name: action.info for name, action in actions.items()}
    sources = {source.name: source for one in found for source in one.sources}

    def compile_text(text: str, file: str) -> Playbook:
        return load_text(text, file, catalogue, sources)

    live = Live(compile_text, parts.playbooks(settings, catalogue, sources))
    in_force.append(live)
    pause = await _pause(settings, found, store, world)
    guard = parts.guard(settings)
    usage, looker = await _usage(store, guard, world), Looker(store, world)
    driver = Driver(
        store=store,
        performer=_performer(found, actions, guard, world, usage, pause),
        compile_playbook=live.of,
        world=world,
        hooks=_hooks(pause, usage, metrics, news, looker),
    )
    core = Core(
        store=store,
        driver=driver,
        world=world,
        live=live,
        rules=parts.rules(settings, guard),
        catalogue=catalogue,
        sources=sources,
        hooks=parts.check_hooks(parts.hooks(settings), sources),
        integrations=found,
        pause=pause,
        news=news,
        metrics=metrics,
        version=version(),
        anonymous=open_,
    )
    return App(service=Service(core), settings=settings, store=store, looker=looker)


async def _pause(
    settings: Settings, found: Sequence[Integration], store: Store, world: World
) -> Pause:
    """The stop button, as it was left."""
    ways = [way for one in found for way in one.pausers]
    pause = Pause(settings.store.path.parent / "PAUSE", ways, world)
    pause.set_switch(await store.get_switch("pause"))
    return pause


def _used(in_force: Iterable[Live]) -> frozenset[str]:
    """The actions of the playbooks in force."""
    playbooks = (one for live in in_force for one in live.by_name.values())
    return frozenset(name for one in playbooks for name in rbac.uses(one))


async def _usage(store: Store, guard: Guard, world: World) -> Usage:
    """What was begun within the window, rebuilt from the journal."""
    usage = Usage(guard.window, world)
    usage.note(await store.recent_events("apply_started", world.clock.now() - guard.window))
    return usage


def _performer(
    found: Sequence[Integration],
    actions: Mapping[str, Action],
    guard: Guard,
    world: World,
    usage: Usage,
    pause: Pause,
) -> Performer:
    """Who carries commands out, with the lanes of this server."""
    return Performer(
        actions=actions,
        resolvers={name: r for one in found for name, r in one.resolvers.items()},
        guard=guard,
        world=world,
        lanes=Lanes(containment=Lane(CONTAINMENT_PLACES), normal=Lane(NORMAL_PLACES)),
        window_pods=usage.pods,
        paused=lambda: pause.reason,
    )


def _hooks(pause: Pause, usage: Usage, metrics: Metrics, news: News, looker: Looker) -> Hooks:
    """What the driver asks, and who is told after every save: ceilings, figures, live pages."""

    def saved(run: RunState, events: Sequence[Event]) -> None:
        usage.note(events)
        looked(run, events)
        news.tell(run.incident)

    def looked(run: RunState, events: Sequence[Event]) -> None:
        metrics.observe(run, events)
        looker.saved(run, events)

    return Hooks(paused=lambda: pause.reason, saved=saved, looked=looked)
