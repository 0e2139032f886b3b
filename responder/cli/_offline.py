"""What commands without a server borrow from the wiring: the only file here that imports it.

Imported inside command functions only, because it loads the whole product.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from responder import wiring
from responder.errors import ConfigError, PlaybookError
from responder.playbook.definition import Playbook
from responder.playbook.talon import Import, convert
from responder.ports import ActionInfo, Source
from responder.settings import Settings

__all__ = ["catalogue", "from_talon", "playbooks", "roles", "settings", "sources"]

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
    from responder.wiring.rbac import manifests

    infos, named = _used(paths)
    return manifests(
        infos,
        account_namespace=home,
        namespaces=namespaces,
        base=known.permissions(),
        used=named,
    )


def guard(paths: Sequence[Path], *, home: str, protected: Sequence[str]) -> list[dict[str, Any]]:
    """The admission policy for our own account. Raises `PlaybookError`."""
    from responder.wiring import known
    from responder.wiring.guarding import manifests

    infos, named = _used(paths)
    base = known.permissions()
    return manifests(infos, home=home, protected=protected, base=base, used=named)


def _used(paths: Sequence[Path]) -> tuple[list[ActionInfo], set[str]]:
    """The actions of the playbooks, and the words of what their steps give; see `uses`."""
    from responder.wiring.rbac import uses

    named = {name for playbook in playbooks(paths) for name in uses(playbook)}
    return [info for name, info in catalogue().items() if name in named], named


def playbooks(paths: Sequence[Path]) -> tuple[Playbook, ...]:
    """Load files and folders (none: the shipped ones). Raises `PlaybookError` with all faults."""
    from responder.playbook.loading import load_folder
    from responder.playbook.shipped import shipped_folder
    from responder.wiring.known import every_source

    return load_folder(list(paths) or [shipped_folder()], catalogue(), frozenset(every_source()))


def from_talon(paths: Sequence[Path]) -> Import:
    """Playbooks for Talon's rules; one that would not load is refused. Raises `ConfigError`."""
    from responder.playbook.loading import load_text, load_words

    found = convert([(str(path), load_words(_text(path), str(path))) for path in paths])
    actions, known = catalogue(), frozenset(sources())
    rules = []
    for one in found.rules:
        try:
            if one.text:
                load_text(one.text, one.name, actions, known)
            rules.append(one)
        except PlaybookError as failure:
            rules.append(one.refuse(failure.problems[0].message))
    return replace(found, rules=tuple(rules))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path}: the file cannot be read as UTF-8 text") from None
