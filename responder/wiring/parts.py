"""From settings to parts: hooks, guard rails, image map, integrations, playbooks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import integrations
from integrations._webhook import check_auth
from integrations.generic import check_mapping
from responder.clock import SECOND, World
from responder.engine.brakes import ALWAYS_PROTECTED, Guard
from responder.engine.intake import Rules
from responder.errors import ConfigError
from responder.playbook.definition import Playbook
from responder.playbook.expressions import ExpressionError, compile_expression
from responder.playbook.loading import load_folder
from responder.playbook.shipped import shipped_folder
from responder.playbook.values import DYN, MISSING
from responder.ports import (
    ActionInfo,
    EvidenceSink,
    HookInfo,
    ImageChange,
    ImageRoute,
    Integration,
    Kit,
    Known,
)
from responder.settings import Hook, Image, Settings, seconds
from responder.store.interface import Brake, Store
from responder.text import suggestion

__all__ = [
    "check_door",
    "check_hooks",
    "guard",
    "hooks",
    "integrations_of",
    "playbooks",
    "rules",
]


# Shipped playbooks name their actions for those who have them; used without a table they say so.
_ALWAYS = frozenset({"argocd", "flux", "forges"})
# https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def guard(settings: Settings, *, own: Path = _OWN_NAMESPACE) -> Guard:
    """The guard rails of the configuration; the namespace this process runs in is protected."""
    try:
        ours = own.read_text(encoding="utf-8").split()
    except OSError:
        ours = []  # not in a pod
    found = settings.guards
    asked = [name for table in settings.clusters.values() for name in table.get("protect", ())]
    return Guard(
        protected_namespaces=(*ALWAYS_PROTECTED, *found.protected_namespaces, *asked, *ours),
        unprotected_namespaces=tuple(found.unprotected_namespaces),
        protected_labels=found.protected_labels,
        protected_workloads=tuple(found.protected_workloads),
        pods_per_run=found.pods_per_run,
        pods_per_window=found.pods_per_window,
        nodes_per_run=found.nodes_per_run,
        ready_share=found.ready_share,
        window=int(seconds(found.window, "guards.window") * SECOND),
        namespace_modes={"*": found.mode, **found.namespace_modes},
    )


def rules(settings: Settings, guard_: Guard) -> Rules:
    """What intake needs of the configuration."""
    window = seconds(settings.store.dedup_window, "store.dedup_window")
    return Rules(
        guard=guard_,
        dedup_window=int(window * SECOND),
        storm=Brake(limit=settings.guards.storm, window=guard_.window),
        default_cluster=next(iter(settings.clusters), "") if len(settings.clusters) == 1 else "",
    )


def hooks(settings: Settings) -> dict[str, HookInfo]:
    """The configured doors. Raises `ConfigError` naming the key."""
    return {name: _hook(name, hook, settings) for name, hook in settings.hooks.items()}


def check_hooks(
    hooks: Mapping[str, HookInfo], sources: Mapping[str, object]
) -> dict[str, HookInfo]:
    """The hooks with what their sources say of them; every source must be set up here."""
    for name, hook in hooks.items():
        if hook.source not in sources:
            raise ConfigError(f"hooks.{name}.source: {hook.source} is not set up on this server")
    return {
        name: replace(
            hook,
            media=getattr(sources[hook.source], "media", frozenset()),
            body_max=getattr(sources[hook.source], "body_max", 0),
        )
        for name, hook in hooks.items()
    }


async def check_door(settings: Settings, store: Store, now: int, *, open_: bool) -> None:
    """Refuse to listen off loopback while nobody holds a token, and the demo there at all."""
    host = settings.server.listen.rpartition(":")[0].strip("[]")
    if host in {"127.0.0.1", "::1", "localhost"}:
        return
    if open_:
        raise ConfigError("server.listen: without tokens only a loopback address is served")
    valid = [t for t in await store.tokens() if t.revoked is None and t.expires > now]
    if not valid:
        raise ConfigError(
            f"server.listen: {settings.server.listen} is reachable by others and no token exists; "
            "make one first: responder token create --local --person NAME --role admin"
        )


def _hook(name: str, hook: Hook, settings: Settings) -> HookInfo:
    known = {*integrations.SOURCES, "github", "gitlab"}
    if hook.source not in known:
        hint = suggestion(hook.source, known)
        raise ConfigError(f'hooks.{name}.source: "{hook.source}" is not a source; {hint}')
    if hook.cluster and hook.cluster not in settings.clusters:
        hint = suggestion(hook.cluster, settings.clusters)
        raise ConfigError(f"hooks.{name}.cluster: there is no [clusters.{hook.cluster}]; {hint}")
    check_auth(hook.auth, f"hooks.{name}.auth", hook.source)
    options: dict[str, Any] = dict(hook.options)
    if hook.mapping:
        check_mapping(hook.mapping, f"hooks.{name}.mapping")
        options["mapping"] = _mapper(name, hook.mapping)
    cluster = hook.cluster
    if not cluster and len(settings.clusters) == 1:
        cluster = next(iter(settings.clusters))
    every = hook.expect_every
    return HookInfo(
        name=name,
        source=hook.source,
        cluster=cluster,
        auth=hook.auth,
        options=options,
        expect_every=seconds(every, f"hooks.{name}.expect_every") if every else 0.0,
    )


def _mapper(hook: str, mapping: Mapping[str, str]) -> dict[str, Callable[[Any], Any]]:
    """The generic source's expressions, compiled; each sees the payload as `body`."""
    compiled = {}
    for field, text in mapping.items():
        try:
            expression = compile_expression(text, {"body": DYN})
        except ExpressionError as error:
            raise ConfigError(f"hooks.{hook}.mapping.{field}: {error}") from None
        compiled[field] = _reader(expression)
    return compiled


def _reader(expression: Any) -> Callable[[Any], Any]:
    def read(body: Any) -> Any:
        value = expression.evaluate({"body": body})
        return None if value is MISSING else value

    return read


def integrations_of(
    settings: Settings,
    world: World,
    evidence: EvidenceSink,
    used: Callable[[], frozenset[str]] | None = None,
    artefact: Callable[[str], Awaitable[bytes]] | None = None,
    knows: Callable[[str, int, str], Awaitable[Known]] | None = None,
) -> tuple[Integration, ...]:
    """Everything that is configured, set up; registries first, since forges ask them.

    `used` names the actions of the playbooks in force, once there are any; `artefact` reads the
    bytes of what was collected; `knows` looks into the incidents.
    """
    forges: list[Integration] = []

    async def bundles(route: ImageRoute, digest: str) -> Sequence[bytes]:
        """What the forges attest; they are set up after the registries that ask it."""
        told = [one.bundles for one in forges if one.bundles]
        return [bundle for ask in told for bundle in await ask(route, digest)]

    images = tuple(_route(image) for image in settings.images)
    own = Kit(evidence=evidence, images=images, artefact=artefact, bundles=bundles)
    registries = _set_up("registries", settings.registries, world, own)
    kit = Kit(
        evidence=evidence,
        images=images,
        digest_of=registries.digest_of if registries else None,
        used=used,
        artefact=artefact,
        knows=knows,
    )
    found = [registries] if registries else []
    for section in ("clusters", "forges", "argocd", "flux"):
        tables = getattr(settings, section)
        integration = _set_up(section, tables, world, kit)
        if integration is not None:
            found.append(integration)
            forges += [integration] if section == "forges" else []
    for module in integrations.SOURCES.values():
        found.append(integrations.load(module)({}, world, kit))  # noqa: PERF401 - one a line
    return tuple(found)


def _route(image: Image) -> ImageRoute:
    """A line of the image map; what a change leaves out is the line's own."""
    changes = tuple(
        ImageChange(
            name=one.name,
            forge=one.forge or image.forge,
            repo=one.repo or image.repo,
            branch=one.branch or image.ref,
            file=one.file,
            kind=one.kind,
            key=one.key,
            workloads=tuple(one.workloads),
            checks=one.checks,
        )
        for one in image.changes
    )
    return ImageRoute(**image.model_dump(exclude={"changes"}), changes=changes)


def _set_up(section: str, tables: Mapping[str, Any], world: World, kit: Kit) -> Integration | None:
    if not tables and section not in _ALWAYS:
        return None
    return integrations.load(integrations.SECTIONS[section])(tables, world, kit)


def playbooks(
    settings: Settings, catalogue: Mapping[str, ActionInfo], sources: Iterable[str]
) -> tuple[Playbook, ...]:
    """All playbooks of the configuration, or none. Raises `PlaybookError`, `ConfigError`."""
    paths: list[Path] = [Path(folder) for folder in settings.playbooks.folders]
    shipped = shipped_folder()
    names = sorted(path.stem for path in shipped.glob("*.yaml"))
    for name in settings.playbooks.shipped:
        if name not in names:
            hint = suggestion(name, names)
            raise ConfigError(f'playbooks.shipped: there is no shipped playbook "{name}"; {hint}')
        paths.append(shipped / f"{name}.yaml")
    return load_folder(paths, catalogue, frozenset(sources))
