"""GitLab: rebuild images by a project's pipeline, follow it, and hear its webhooks as hints.

The SDK is loaded by `setup` only, so that nobody pays for it who has no GitLab configured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from responder.clock import World
from responder.errors import ConfigError
from responder.ports import ImageRoute, Integration, Kit
from responder.text import suggestion

__all__ = ["setup"]

_RESERVED = frozenset({"image", "revision", "correlation_id"})
# https://docs.gitlab.com/ci/inputs/#define-input-parameters-with-specinputs
_INPUTS_MAX = 20
_FILE = ".gitlab-ci.yml"


def setup(section: Mapping[str, Any], world: World, kit: Kit) -> Integration:
    """Everything that the `[forges]` tables of kind gitlab bring.

    Raises `ConfigError` that names the table and key. It does no I/O.
    """
    from integrations._deploying import DeploymentRecord
    from integrations._merging import ProposeChange
    from integrations._merging_accept import MergeChange
    from integrations._pipeline import PipelineRun
    from integrations.gitlab.artifacts import Downloads
    from integrations.gitlab.client import Client
    from integrations.gitlab.deployments import GitLabDeployments
    from integrations.gitlab.merging import MergeRequests
    from integrations.gitlab.pipelines import Pipelines
    from integrations.gitlab.settings import read
    from integrations.gitlab.webhook import GitLabHints

    checked = {name: read(name, table) for name, table in section.items()}
    for route in kit.images:
        _check_route(route, checked)
    clients = {name: Client(name, settings, world) for name, settings in checked.items()}
    parts = {name: (client, Downloads(client, world)) for name, client in clients.items()}
    flows = {
        name: Pipelines(client, downloads, kit.evidence)
        for name, (client, downloads) in parts.items()
    }
    records = {name: GitLabDeployments(client) for name, client in clients.items()}
    requests = {name: MergeRequests(client, world) for name, client in clients.items()}

    async def close() -> None:
        """Close every forge's connections and pool."""
        for client, downloads in parts.values():
            await downloads.close()
            client.close()

    return Integration(
        sources=(GitLabHints(world),),
        actions=(
            PipelineRun(flows, kit.images, kit.digest_of, world),
            DeploymentRecord(records, kit.images, world),
            ProposeChange(requests, kit.images),
            MergeChange(requests, kit.images),
        )
        if flows
        else (),
        checks={f"forge {name}": client.check for name, client in clients.items()},
        close=close,
    )


def _check_route(route: ImageRoute, forges: Mapping[str, object]) -> None:
    where = f'[[images]] match = "{route.match}"'
    if route.forge not in forges:
        raise ConfigError(
            f"{where}: no [forges.{route.forge}] of kind gitlab; {suggestion(route.forge, forges)}"
        )
    if "/" not in route.repo or "" in route.repo.split("/"):
        raise ConfigError(f'{where}: repo: expected GROUP/PROJECT, got "{route.repo}"')
    if route.workflow != _FILE:
        raise ConfigError(
            f'{where}: workflow: GitLab starts a project\'s {_FILE}, got "{route.workflow}"'
        )
    if route.event:
        raise ConfigError(f"{where}: event: a GitLab knows no repository_dispatch; leave it out")
    if taken := _RESERVED & {name.lower() for name in route.inputs}:
        raise ConfigError(f"{where}: inputs: {', '.join(sorted(taken))} are set by pipeline.run")
    if len(route.inputs) + len(_RESERVED) > _INPUTS_MAX:
        raise ConfigError(f"{where}: inputs: GitLab takes at most {_INPUTS_MAX} in all")
