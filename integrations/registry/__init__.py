"""Image registries: digests, labels, the gate before a rollout, an image's way to its source.

Configuration, one table per registry that may be asked at all:

    [registries."registry.example:5000"]
    insecure = false                 # true: plain HTTP, for a registry on loopback
    username = "robot"
    password = {env = "REGISTRY_PASSWORD"}
    token = {env = "…"}              # instead: a bearer token of its own
    realm = "https://auth.example"   # the only other origin credentials may go to
    ca = "/etc/ssl/registry.pem"
    timeout = 15
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from integrations.registry.attesting import sigstore_verify
from integrations.registry.client import Registries, Registry, RegistrySettings
from integrations.registry.gating import ImageGate
from integrations.registry.inspecting import InspectImage
from integrations.registry.reports import Reports
from integrations.registry.tracing import ImageTrace
from responder.clock import World
from responder.errors import ConfigError
from responder.ports import Integration, Kit

__all__ = ["InspectImage", "Registries", "Registry", "RegistrySettings", "setup"]


def setup(section: Mapping[str, Any], world: World, kit: Kit) -> Integration:
    """Everything that `[registries]` brings; raises `ConfigError` with the key that is wrong."""
    known = {host: Registry(host, _settings(host, table), world) for host, table in section.items()}
    registries = Registries(known)
    reports = Reports(kit.evidence, kit.artefact, world)
    verify = sigstore_verify()
    gate = ImageGate(registries, reports, kit.images, verify, kit.bundles)
    trace = ImageTrace(registries, kit.images, verify, kit.bundles)

    async def close() -> None:
        """Close every registry and the reader of reports."""
        await registries.close()
        reports.close()

    return Integration(
        actions=(InspectImage(registries), gate, trace),
        checks={f"registry {host}": registry.ping for host, registry in known.items()},
        digest_of=registries.digest,
        close=close,
    )


def _settings(host: str, table: Mapping[str, Any]) -> RegistrySettings:
    where = f'[registries."{host}"]'
    if "/" in host:
        raise ConfigError(f"{where}: expected HOST or HOST:PORT, without a scheme or path")
    try:
        return RegistrySettings.model_validate(dict(table))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"][:1])
        raise ConfigError(f"{where} {key}: {first['msg']}") from None
