"""The admission policy that guards our own account, made from what the playbooks use.

Printed for a person to install: the product itself has no right to write it, so it cannot take its
own guard away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from integrations.kubernetes.guarding import Scope, guard, need_of
from responder.engine.brakes import ALWAYS_PROTECTED
from responder.ports import ActionInfo, Permission

__all__ = ["manifests"]


def manifests(
    infos: Iterable[ActionInfo],
    *,
    home: str,
    protected: Iterable[str] = (),
    base: Iterable[Permission] = (),
    used: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Policy and binding for the service account `responder` of this namespace."""
    scope = Scope(home=home, protected=(*ALWAYS_PROTECTED, *protected))
    return list(guard(scope, need_of(scope, infos, used, base)))
