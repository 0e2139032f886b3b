"""The configuration: strict, from one TOML file, the environment and flags.

An unknown key is an error that names the file, the line and the nearest right key. A secret is
written as `{env = "NAME"}` or `{file = "path"}` and never shows its value. The section of an
integration stays raw here; the integration checks it itself when it is set up.
"""

from __future__ import annotations

import hmac
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from responder.clock import duration
from responder.errors import ConfigError
from responder.model import Mode, Secret
from responder.text import suggestion, veiled

__all__ = [
    "Guards",
    "Hook",
    "Image",
    "Server",
    "Settings",
    "differing",
    "load",
    "resolve_secrets",
    "seconds",
]

PREFIX = "RESPONDER_"
# Sections without secrets: a label `env = "prod"` there is no reference to a variable.
_PLAIN = {"server", "store", "playbooks", "images", "guards", "log"}


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values are not coerced from text."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Tls(Section):
    """Certificate and key of the server itself, and who may vouch for its callers."""

    cert: str
    key: str
    client_ca: str = ""  # certificates of senders are asked for and checked against these


class Server(Section):
    """Where the HTTP door listens."""

    listen: str = "127.0.0.1:8080"
    public_url: str = ""
    tls: Tls | None = None
    drain: str = "20s"  # how long SIGTERM waits for calls in flight
    max_connections: int = Field(default=2000, ge=10)


class StoreSection(Section):
    """Where everything durable lives."""

    url: str = "sqlite:///var/lib/responder/responder.db"
    dedup_window: str = "5m"

    @property
    def path(self) -> Path:
        """The file behind `sqlite://`; three slashes are relative, four absolute."""
        if not self.url.startswith("sqlite:///"):
            raise ConfigError(
                f'store.url: expected "sqlite:///path", got "{veiled(self.url)}"; '
                "only SQLite is built in"
            )
        return Path(self.url.removeprefix("sqlite:///"))


class Playbooks(Section):
    """Where playbooks come from."""

    folders: list[str] = Field(default_factory=list)
    shipped: list[str] = Field(default_factory=list)  # names of shipped playbooks to load


class Hook(Section):
    """One door for one sender."""

    source: str
    cluster: str = ""
    auth: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    mapping: dict[str, str] = Field(default_factory=dict)  # generic source: field -> expression
    expect_every: str = ""  # "1h": longer silence of this sender is an alert of its own


class ImageChange(Section):
    """One file that names the image; an empty forge, repo or branch is the image's own."""

    name: str = Field(min_length=1)
    forge: str = ""
    repo: str = ""
    branch: str = ""
    file: str = Field(min_length=1)
    kind: Literal["dockerfile", "manifest", "values", "kustomize"]
    key: str = ""
    workloads: list[str] = Field(default_factory=list)
    checks: bool = True


class Image(Section):
    """One line of the image map: which pipeline may rebuild which images."""

    match: str
    forge: str
    repo: str
    workflow: str
    ref: str = "main"
    inputs: dict[str, str] = Field(default_factory=dict)
    digest_input: str = ""
    event: str = Field("", max_length=100)
    changes: list[ImageChange] = Field(default_factory=list)


class Guards(Section):
    """Ceilings and protected things; see the guard rails in the README."""

    mode: Mode = Mode.OBSERVE  # the most that any playbook may do; raise it on purpose
    namespace_modes: dict[str, Mode] = Field(default_factory=dict)
    protected_namespaces: list[str] = Field(default_factory=list)  # added to the built-in list
    unprotected_namespaces: list[str] = Field(default_factory=list)
    protected_labels: dict[str, str] = Field(default_factory=dict)
    protected_workloads: list[str] = Field(default_factory=list)
    pods_per_run: int = Field(default=10, ge=1)
    pods_per_window: int = Field(default=50, ge=1)
    nodes_per_run: int = Field(default=1, ge=0)
    ready_share: float = Field(default=0.5, gt=0, le=1)
    window: str = "1h"
    storm: int = Field(default=50, ge=1)  # enforcing runs per window before the rest must ask


class Log(Section):
    """How the process logs."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"


class Settings(Section):
    """The whole configuration."""

    server: Server = Server()
    store: StoreSection = StoreSection()
    playbooks: Playbooks = Playbooks()
    clusters: dict[str, dict[str, Any]] = Field(default_factory=dict)
    hooks: dict[str, Hook] = Field(default_factory=dict)
    images: list[Image] = Field(default_factory=list)
    forges: dict[str, dict[str, Any]] = Field(default_factory=dict)
    registries: dict[str, dict[str, Any]] = Field(default_factory=dict)
    argocd: dict[str, dict[str, Any]] = Field(default_factory=dict)
    flux: dict[str, dict[str, Any]] = Field(default_factory=dict)
    guards: Guards = Guards()
    log: Log = Log()
    origins: dict[str, str] = Field(default_factory=dict, exclude=True)


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    secrets: bool = True,
) -> Settings:
    """Read the file, then the environment, then flags; later ones win.

    Raises `ConfigError` for a file that cannot be read, a key that is not known, a value of the
    wrong type, or (with `secrets`) a secret that is not there.
    """
    environ = os.environ if environ is None else environ
    text, data = _read(path)
    origins = {key: str(path) for key in _flatten(data)}
    for key, value in _from_environ(environ).items():
        _put(data, key, value)
        origins[key] = f"{PREFIX}{key.upper().replace('.', '__')}"
    for key, value in (flags or {}).items():
        _put(data, key, value)
        origins[key] = "flag"
    if secrets:
        data = {
            key: value if key in _PLAIN else resolve_secrets(value, environ, key)
            for key, value in data.items()
        }
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error, path, text)) from None
    return settings.model_copy(update={"origins": origins})


def differing(old: Settings, new: Settings) -> list[str]:
    """The sections that are not the same in both; secrets are compared and never shown."""
    names = [name for name in Settings.model_fields if name != "origins"]
    return [name for name in names if not _same(getattr(old, name), getattr(new, name))]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Secret) and isinstance(other, Secret):
        return hmac.compare_digest(one.reveal().encode(), other.reveal().encode())
    if isinstance(one, BaseModel) and isinstance(other, BaseModel):
        return _same(dict(one), dict(other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def seconds(text: str, key: str) -> float:
    """A duration such as `30s`, `5m`, `1h`. Raises `ConfigError` naming the key."""
    try:
        return duration(text)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None


def resolve_secrets(value: Any, environ: Mapping[str, str], key: str = "") -> Any:
    """The same data with `{env = …}` and `{file = …}` replaced by `Secret` values."""
    if isinstance(value, list):
        return [resolve_secrets(v, environ, f"{key}[{n}]") for n, v in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if set(value) == {"env"} and isinstance(value["env"], str):
        found = environ.get(value["env"])
        if not found:
            raise ConfigError(f"{key}: the environment variable {value['env']} is not set")
        return Secret(found)
    if set(value) == {"file"} and isinstance(value["file"], str):
        return Secret(_secret_file(value["file"], key))
    return {k: resolve_secrets(v, environ, f"{key}.{k}".strip(".")) for k, v in value.items()}


def _secret_file(name: str, key: str) -> str:
    try:
        text = Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: cannot read {name}: {type(error).__name__}") from None
    if not text:
        raise ConfigError(f"{key}: {name} is empty")
    return text


def _read(path: Path | None) -> tuple[str, dict[str, Any]]:
    if path is None:
        return "", {}
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    """`RESPONDER_SERVER__LISTEN=…` as `server.listen`; other names are not ours."""
    found: dict[str, Any] = {}
    for name, value in environ.items():
        if name.startswith(PREFIX) and "__" in name:
            key = name.removeprefix(PREFIX).lower().replace("__", ".")
            found[key] = _scalar(value)
    return found


def _scalar(text: str) -> Any:
    """TOML's own reading of the text (numbers, booleans, lists), or the text itself."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        child = data.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{key}: {part} is not a table")
        data = child
    data[last] = value


def _flatten(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [prefix]
    return [k for key, v in value.items() for k in _flatten(v, f"{prefix}.{key}".strip("."))]


def _explain(error: ValidationError, path: Path | None, text: str) -> str:
    """One line for each fault, with file and line where the key stands."""
    lines = []
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        where = ".".join(str(part) for part in fault["loc"])
        last = str(fault["loc"][-1]) if fault["loc"] else ""
        message = fault["msg"]
        if fault["type"] == "extra_forbidden":
            message = f"is not a known key; {suggestion(last, _known(fault['loc'][:-1]))}"
        lines.append(f"{_place(path, text, last)}{where}: {message}")
    return "\n".join(lines)


def _place(path: Path | None, text: str, key: str) -> str:
    if path is None:
        return ""
    pattern = re.compile(rf"^\s*(\[+\s*)?([\w\"'.-]*\.)?[\"']?{re.escape(key)}[\"']?\s*(=|\]|\.)")
    for number, line in enumerate(text.splitlines(), 1):
        if key and pattern.match(line):
            return f"{path}:{number}: "
    return f"{path}: "


def _known(location: tuple[int | str, ...]) -> list[str]:
    """The keys that a section knows, following pydantic's location."""
    model: Any = Settings
    for part in location:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            continue
        field = model.model_fields.get(str(part))
        model = _inner(field.annotation) if field else model
    if isinstance(model, type) and issubclass(model, BaseModel):
        return [name for name in model.model_fields if name != "origins"]
    return []


def _inner(annotation: Any) -> Any:
    """The section inside `dict[str, X]`, `list[X]` or `X | None`."""
    for argument in getattr(annotation, "__args__", ()):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument
    return annotation
