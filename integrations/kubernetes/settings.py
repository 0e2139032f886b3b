"""The `[clusters]` tables, checked with a model of their own: an unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from integrations.kubernetes.probe_settings import ProbeSettings
from responder.errors import ConfigError
from responder.model import Secret
from responder.text import suggestion

__all__ = ["ClusterSettings", "read"]


class ClusterSettings(BaseModel):
    """One cluster: where its API is, who we are there, and how long we wait for it.

    Exactly one way in: `kubeconfig` (with `context`), `in_cluster`, or `api` (with `token`, `ca`).
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True
    )

    kubeconfig: str = ""
    context: str = ""
    in_cluster: bool = False
    api: str = ""
    token: Secret | str | None = None
    ca: str = ""
    allow_exec: bool = False  # a kubeconfig may start a program to log in: off unless asked for
    protect: tuple[str, ...] = ()  # namespaces; the guard rails add them to their own
    namespaces: tuple[str, ...] = ()  # where `doctor` asks for rights; empty: everywhere
    home: str = (
        "responder"  # the namespace of our own objects; its name begins those of the cluster
    )
    pause: str = ""  # "namespace/configmap": its key `pause` stops new changes
    # policy kinds of administrators that something in this cluster enforces; having the CRD is not
    # enough, because a CRD alone denies nothing
    enforced: tuple[Literal["ClusterNetworkPolicy", "AdminNetworkPolicy"], ...] = ()
    probe: ProbeSettings = ProbeSettings()
    watch: bool = True  # hear at once of changes that may open an isolation
    request_timeout: float = Field(default=10.0, gt=0, le=300)
    max_in_flight: int = Field(default=16, ge=1, le=256)
    dry_run_plans: bool = True  # ask the API server for every write of a plan with dryRun=All
    log_bytes: int = Field(default=5 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024)

    @model_validator(mode="after")
    def _one_way_in(self) -> ClusterSettings:
        ways = [bool(self.kubeconfig), self.in_cluster, bool(self.api)]
        if sum(ways) != 1:
            raise ValueError("expected exactly one of kubeconfig, in_cluster = true, api")
        if self.api and not self.api.startswith(("https://", "http://")):
            raise ValueError('api must begin with "https://" (or "http://" for a sandbox)')
        if (self.token or self.ca) and not self.api:
            raise ValueError("token and ca belong to api; a kubeconfig brings its own")
        if self.context and not self.kubeconfig:
            raise ValueError("context belongs to kubeconfig")
        if self.pause and self.pause.count("/") != 1:
            raise ValueError('pause must be "namespace/configmap"')
        return self

    @property
    def bearer(self) -> str:
        """The token's own text, for the request header only."""
        if isinstance(self.token, Secret):
            return self.token.reveal()
        return self.token or ""


def read(section: Mapping[str, Any]) -> dict[str, ClusterSettings]:
    """Check every table and return it by the cluster's name.

    Raises `ConfigError` that names the key and never shows a value.
    """
    found = {}
    for name, table in section.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"clusters.{name}: expected a table, got {type(table).__name__}")
        try:
            found[name] = ClusterSettings.model_validate(dict(table))
        except ValidationError as error:
            raise ConfigError(_explain(name, error)) from None
    return found


def _explain(cluster: str, error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    where = f"clusters.{cluster}.{key}" if key else f"clusters.{cluster}"
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key; {suggestion(key, ClusterSettings.model_fields)}"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"
