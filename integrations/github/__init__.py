"""GitHub: rebuild images by workflow_dispatch, follow the runs, and hear their webhooks as hints.

The SDK is loaded by `setup` only, so that nobody pays for it who has no forge configured.
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
# https://docs.github.com/en/rest/actions/workflows#create-a-workflow-dispatch-event
_INPUTS_MAX = 25
# https://docs.github.com/en/rest/repos/repos#create-a-repository-dispatch-event
_PAYLOAD_MAX = 10


def setup(section: Mapping[str, Any], world: World, kit: Kit) -> Integration:
    """Everything that the `[forges]` tables of kind github bring.

    Raises `ConfigError` that names the table and key. It does no I/O.
    """
    from integrations._deploying import DeploymentRecord
    from integrations._merging import ProposeChange
    from integrations._merging_accept import MergeChange
    from integrations._pipeline import PipelineRun
    from integrations.github.answering import AnswerDeployment
    from integrations.github.artifacts import Downloads
    from integrations.github.attestations import Attestations
    from integrations.github.client import Forge
    from integrations.github.deployments import GitHubDeployments
    from integrations.github.pipeline import Workflows
    from integrations.github.pulls import PullRequests
    from integrations.github.settings import read
    from integrations.github.webhook import GitHubHints

    checked = {name: read(name, table) for name, table in section.items()}
    for route in kit.images:
        _check_route(route, checked)
    forges = {name: Forge(name, settings, world) for name, settings in checked.items()}
    parts = {name: (forge, Downloads(forge, world, kit.evidence)) for name, forge in forges.items()}
    flows = {name: Workflows(forge, downloads) for name, (forge, downloads) in parts.items()}
    records = {name: GitHubDeployments(forge) for name, forge in forges.items()}
    pulls = {name: PullRequests(forge, world) for name, forge in forges.items()}

    async def close() -> None:
        """Close every forge's connections and pool."""
        for forge, downloads in parts.values():
            await downloads.close()
            forge.close()

    return Integration(
        sources=(GitHubHints(world),),
        actions=(
            PipelineRun(flows, kit.images, kit.digest_of, world),
            DeploymentRecord(records, kit.images, world),
            ProposeChange(pulls, kit.images),
            MergeChange(pulls, kit.images),
            AnswerDeployment(forges, kit, world),
        )
        if forges
        else (),
        checks={f"forge {name}": forge.check for name, forge in forges.items()},
        bundles=Attestations(forges) if forges else None,
        close=close,
    )


def _check_route(route: ImageRoute, forges: Mapping[str, object]) -> None:
    where = f'[[images]] match = "{route.match}"'
    if route.forge not in forges:
        raise ConfigError(
            f"{where}: no [forges.{route.forge}] of kind github; {suggestion(route.forge, forges)}"
        )
    owner, _, name = route.repo.partition("/")
    if not owner or not name or "/" in name:
        raise ConfigError(f'{where}: repo: expected OWNER/NAME, got "{route.repo}"')
    if taken := _RESERVED & set(route.inputs):
        raise ConfigError(f"{where}: inputs: {', '.join(sorted(taken))} are set by pipeline.run")
    most = _PAYLOAD_MAX if route.event else _INPUTS_MAX
    if len(route.inputs) + len(_RESERVED) > most:
        raise ConfigError(f"{where}: inputs: GitHub takes at most {most} in all")
