"""The `[forges.NAME]` tables of kind gitlab, checked.

[forges.lab]
kind = "gitlab"
base_url = "https://gitlab.com"          # self-managed: https://HOST or https://HOST/PATH
token = {env = "GITLAB_TOKEN"}           # a project or group access token with scope `api`
trigger_token = {env = "GITLAB_TRIGGER"} # starts pipelines by trigger token; `token` follows them
pass_as = "inputs"                       # or "variables", in capitals, where a project allows them
job = "build"                            # the job whose artifact holds build.json
artifact = "build.json"                  # where in that job's artifacts
reports = ""                             # a job whose artifacts are scan reports for image.gate
ca = ""                                  # file with the server's certificate authority
poll = 15                                # seconds between two looks at a pipeline
settle = 30                              # how long a pipeline may take to show up in lists
timeout = 15                             # seconds for one call
threads = 4
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, ValidationError, field_validator

from responder.errors import ConfigError
from responder.model import Secret

__all__ = ["ForgeSettings", "read"]


class ForgeSettings(BaseModel):
    """One GitLab with one credential; never a secret written out in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["gitlab"] = "gitlab"
    base_url: str = "https://gitlab.com"
    token: InstanceOf[Secret]
    trigger_token: InstanceOf[Secret] | None = None
    pass_as: Literal["inputs", "variables"] = "inputs"  # noqa: S105 - no secret: a way to pass
    job: str = Field("build", min_length=1)
    artifact: str = "build.json"
    reports: str = ""
    ca: str = ""
    poll: float = Field(15.0, gt=0, le=3600)
    settle: float = Field(30.0, ge=0, le=600)
    timeout: float = Field(15.0, gt=0, le=120)
    threads: int = Field(4, ge=1, le=32)

    @field_validator("base_url")
    @classmethod
    def _is_an_origin(cls, value: str) -> str:
        parts = urlsplit(value)
        loopback = parts.hostname in {"127.0.0.1", "::1", "localhost"}
        if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
            raise ValueError("expected https://… (http only on loopback)")
        if not parts.hostname or parts.username or parts.query:
            raise ValueError("expected https://HOST/PATH without user name and query")
        if "/api/v4" in parts.path:
            raise ValueError("expected the address without /api/v4")
        return value.rstrip("/")

    @field_validator("artifact")
    @classmethod
    def _is_a_plain_path(cls, value: str) -> str:
        parts = value.split("/")
        if any(part in {"", ".", ".."} for part in parts) or not value.isprintable():
            raise ValueError("expected a path inside the job's artifacts, such as out/build.json")
        return value


def read(name: str, table: Mapping[str, Any]) -> ForgeSettings:
    """The settings of one forge; raises `ConfigError` that names the key and shows no value."""
    try:
        return ForgeSettings.model_validate(dict(table))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = f" {first['loc'][0]}" if first["loc"] else ""
        text = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"[forges.{name}]{key}: {text}") from None
