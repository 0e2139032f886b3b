"""The rights that looking and going beyond NetworkPolicy need, and when."""

from __future__ import annotations

from integrations.kubernetes.ground import ADMIN, CALICO
from integrations.kubernetes.landscape import HOOKS
from integrations.kubernetes.rights import right
from integrations.kubernetes.tier_model import LEVELS

__all__ = ["LOOKING", "TAKING_BACK", "WRITING"]

_USE = "kubernetes.quarantine_pod"


def _from(level: str) -> tuple[str, ...]:
    """The words of playbooks that go at least so far."""
    return tuple(f"{_USE} escalate={one}" for one in LEVELS[LEVELS.index(level) :])


_OURS = tuple(
    (kind, level)
    for level, kinds in {"admin": ADMIN, "native": ("CiliumNetworkPolicy", *CALICO)}.items()
    for kind in kinds
)
_SUSPENDED = (f"{_USE} suspend_cronjob=true",)

LOOKING = (
    right("Namespace", "get", why="whether policies of administrators mean it", optional=True),
    right("PersistentVolumeClaim", "get", why="whether a replacement can start", optional=True),
    *(right(kind, "list", why="what it accepts before any deny", optional=True) for kind in ADMIN),
    *(
        right(
            kind,
            "list",
            why="what sees the pod by its labels",
            optional=True,
            when=_from("admin"),
        )
        for kind in HOOKS
    ),
)
TAKING_BACK = (
    *(right(kind, "get", "delete", why="prove and undo", when=_from(lv)) for kind, lv in _OURS),
    right("NetworkPolicy", "patch", why="leave the pod out", when=_from("foreign")),
    right("CronJob", "get", "patch", why="stop its schedule", when=_SUSPENDED),
)
WRITING = (
    *TAKING_BACK,
    *(right(kind, "create", why="deny", when=_from(level)) for kind, level in _OURS),
    *(
        right(kind, "list", why="what decides before our deny", when=_from("native"))
        for kinds in CALICO.values()
        for kind in kinds
    ),
)
