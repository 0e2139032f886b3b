"""What commands without a server borrow from the wiring: the only file here that imports it.

Imported inside command functions only, because it loads the whole product.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from responder import wiring
from responder.errors import ConfigError
from responder.playbook.definition import Playbook
from responder.ports import ActionInfo, Source
from responder.settings import Settings

__all__ = ["catalogue", "playbooks", "roles", "settings", "sources"]

DEFAULT_FILE = Path("config.toml")


def settings(
    path: Path | None, flags: Mapping[str, Any] | None = None, *, secrets: bool = True
) -> Settings:
    """The configuration as the server would read it. Raises `ConfigError`."""
    if path is None and DEFAULT_FILE.is_file():
        path = DEFAULT_FILE
    if path is not None and not path.is_file():
        raise ConfigError(f"{path}: there is no such file; `responder init` writes one")
    return wiring.load_settings(path, environ=os.environ, flags=flags, secrets=secrets)


def catalogue() -> Mapping[str, ActionInfo]:
    """Every action of every integration, without any outside system."""
    from responder.wiring.known import catalogue as known

    return known()


def sources() -> Mapping[str, Source]:
    """Every alert source, by name."""
    from responder.wiring.known import sources as known

    return known()


def roles(paths: Sequence[Path], *, home: str, namespaces: Sequence[str]) -> list[dict[str, Any]]:
    """The Kubernetes manifests that the playbooks need. Raises `PlaybookError`."""
    from responder.wiring import known
    from responder.wiring.rbac import manifests, uses

    named = {name for playbook in playbooks(paths) for name in uses(playbook)}
    infos = [info for name, info in catalogue().items() if name in named]
    return manifests(infos, account_namespace=home, namespaces=namespaces, base=known.permissions())


def playbooks(paths: Sequence[Path]) -> tuple[Playbook, ...]:
    """Load files and folders (none: the shipped ones). Raises `PlaybookError` with all faults."""
    from responder.playbook.loading import load_folder
    from responder.playbook.shipped import shipped_folder

    return load_folder(list(paths) or [shipped_folder()], catalogue(), frozenset(sources()))
