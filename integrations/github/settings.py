"""The `[forges.NAME]` tables of kind github, checked.

[forges.github]
kind = "github"
base_url = "https://api.github.com"      # GitHub Enterprise Server: https://HOST/api/v3
token = {env = "GITHUB_TOKEN"}           # or app_id, private_key and installation_id
poll = 15                                # seconds between two looks at a run
settle = 30                              # how long a run may take to show up in lists
timeout = 15                             # seconds for one call
threads = 4
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationError,
    field_validator,
    model_validator,
)

from responder.errors import ConfigError
from responder.model import Secret

__all__ = ["ForgeSettings", "read"]


class ForgeSettings(BaseModel):
    """One forge. Exactly one kind of credential; never a secret written out in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["github"] = "github"
    base_url: str = "https://api.github.com"
    token: InstanceOf[Secret] | None = None
    app_id: int | None = Field(None, gt=0)
    private_key: InstanceOf[Secret] | None = None
    installation_id: int | None = Field(None, gt=0)
    poll: float = Field(15.0, gt=0, le=3600)
    settle: float = Field(30.0, ge=0, le=600)
    timeout: float = Field(15.0, gt=0, le=120)
    threads: int = Field(4, ge=1, le=32)
    artifact: str = "build"  # name of the artifact that holds build.json
    reports: str = ""  # name of the artifact with scan reports for image.gate; empty: none is kept

    @field_validator("base_url")
    @classmethod
    def _is_an_origin(cls, value: str) -> str:
        parts = urlsplit(value)
        loopback = parts.hostname in {"127.0.0.1", "::1", "localhost"}
        if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
            raise ValueError("expected https://… (http only on loopback)")
        if not parts.hostname or parts.username or parts.query:
            raise ValueError("expected https://HOST/PATH without user name and query")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _has_one_credential(self) -> Self:
        app = (self.app_id, self.private_key, self.installation_id)
        if self.token is not None and any(part is not None for part in app):
            raise ValueError("expected token or app_id, private_key and installation_id, got both")
        if self.token is None and any(part is None for part in app):
            raise ValueError("expected token, or app_id, private_key and installation_id together")
        return self


def read(name: str, table: Mapping[str, Any]) -> ForgeSettings:
    """The settings of one forge; raises `ConfigError` that names the key and shows no value."""
    try:
        return ForgeSettings.model_validate(dict(table))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = f" {first['loc'][0]}" if first["loc"] else ""
        text = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"[forges.{name}]{key}: {text}") from None
