"""What a network plug-in may do with denied packets, and the words for it. Pure."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["CONNECTIONS", "Class"]


class Class(StrEnum):
    """What becomes of packets that a policy denies."""

    CUTS = "cuts"
    SURVIVES = "survives"
    NONE = "none"
    UNKNOWN = "unknown"


# what a plan says of connections that are open when it is carried out
CONNECTIONS = {
    Class.CUTS: "open connections are cut by this network plug-in",
    Class.SURVIVES: "open connections live on with this network plug-in; kubernetes.cut_flows "
    "ends them",
    Class.NONE: "this cluster enforces no NetworkPolicy: the pod will not be isolated",
    Class.UNKNOWN: "open connections may live on: whether this network plug-in cuts them is not "
    "known",
}
