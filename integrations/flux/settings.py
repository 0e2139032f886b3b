"""The `[flux.NAME]` tables, checked.

[flux.deploy]
url = "https://flux-webhook.example"  # where the notification-controller's receiver is reached
receiver = "deploy"                   # name of the Receiver
namespace = "flux-system"             # and its namespace
token = {env = "FLUX_TOKEN"}          # the token in the Receiver's secret
type = "generic-hmac"                 # or "generic", whose only protection is its path
ca = ""                               # file with the server's certificate authority
timeout = 15                          # seconds for one call
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, ValidationError, field_validator

from responder.errors import ConfigError
from responder.model import Secret
from responder.text import suggestion

__all__ = ["ReceiverSettings", "read"]

_NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"


class ReceiverSettings(BaseModel):
    """One Receiver with its token; never a secret written out in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str
    receiver: str = Field(pattern=_NAME)
    namespace: str = Field("flux-system", pattern=_NAME)
    token: InstanceOf[Secret]
    type: Literal["generic-hmac", "generic"] = "generic-hmac"
    ca: str = ""
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
        if "/hook/" in f"{parts.path}/":
            raise ValueError("expected the address without /hook/…: that path is a secret")
        return value.rstrip("/")


def read(name: str, table: Mapping[str, Any]) -> ReceiverSettings:
    """The settings of one Receiver; raises `ConfigError` that names the key and shows no value."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"[flux.{name}]: expected a table, got {type(table).__name__}")
    try:
        return ReceiverSettings.model_validate(dict(table))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        text = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            text = f"is not a known key; {suggestion(key, ReceiverSettings.model_fields)}"
        raise ConfigError(f"[flux.{name}] {key}: {text}") from None
