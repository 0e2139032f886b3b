"""The `[argocd.NAME]` tables, checked.

[argocd.main]
url = "https://argocd.example"       # https://HOST or https://HOST/PATH (--rootpath)
token = {env = "ARGOCD_TOKEN"}       # of an account or project role: applications get and sync
applications = ["shop-*"]            # globs of what may be synced; all when left out
ca = ""                              # file with the server's certificate authority
poll = 5                             # seconds between two looks
settle = 30                          # seconds a started sync may take to show, and a fault to pass
within = 1200                        # seconds until what is not healthy has failed
timeout = 15                         # seconds for one call
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, ValidationError, field_validator

from responder.errors import ConfigError
from responder.model import Secret
from responder.text import suggestion

__all__ = ["ServerSettings", "read"]


class ServerSettings(BaseModel):
    """One Argo CD with one credential; never a secret written out in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str
    token: InstanceOf[Secret]
    applications: tuple[str, ...] = ("*",)
    ca: str = ""
    poll: float = Field(5.0, gt=0, le=3600)
    settle: float = Field(30.0, ge=0, le=600)
    within: float = Field(1200.0, gt=0, le=86_400)
    timeout: float = Field(15.0, gt=0, le=120)

    @field_validator("url")
    @classmethod
    def _is_an_origin(cls, value: str) -> str:
        parts = urlsplit(value)
        loopback = parts.hostname in {"127.0.0.1", "::1", "localhost"}
        if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
            raise ValueError("expected https://… (http only on loopback)")
        if not parts.hostname or parts.username or parts.query or parts.fragment:
            raise ValueError("expected https://HOST/PATH without user name and query")
        if "/api/v1" in parts.path:
            raise ValueError("expected the address without /api/v1")
        return value.rstrip("/")


def read(name: str, table: Mapping[str, Any]) -> ServerSettings:
    """The settings of one server; raises `ConfigError` that names the key and shows no value."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"[argocd.{name}]: expected a table, got {type(table).__name__}")
    try:
        return ServerSettings.model_validate(dict(table))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        text = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            text = f"is not a known key; {suggestion(key, ServerSettings.model_fields)}"
        raise ConfigError(f"[argocd.{name}] {key}: {text}") from None
