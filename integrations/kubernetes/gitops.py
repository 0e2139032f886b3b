"""Which object of a GitOps tool a workload comes from, read from what the tool writes on it. Pure.

These are claims of whoever may write to the workload: they say where to look, and the tool itself
is asked whether the workload is its own before anything is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Source", "source_of"]

_TRACKING = "argocd.argoproj.io/tracking-id"
_INSTANCE = "argocd.argoproj.io/instance"
_HELM = "helm.toolkit.fluxcd.io"
_KUSTOMIZE = "kustomize.toolkit.fluxcd.io"


@dataclass(frozen=True, slots=True)
class Source:
    """A tool and its object: `argocd` and an application, `flux` and Kind/name."""

    tool: str = ""
    object: str = ""
    namespace: str = ""  # of the object; empty: the tool's own


def source_of(workload: Mapping[str, Any]) -> Source:
    """What the workload's marks say; empty where they say nothing, or belong to a copy.

    https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/: an id that names another
    object was copied with its annotations, and Argo CD does not take it for its own.
    """
    metadata = workload["metadata"]
    labels = metadata.get("labels") or {}
    tracked = str((metadata.get("annotations") or {}).get(_TRACKING) or "")
    if tracked:
        name, _, rest = tracked.partition(":")
        mine = rest.endswith(f"{workload['kind']}:{metadata['namespace']}/{metadata['name']}")
        return _application(name) if mine else Source()
    if _INSTANCE in labels:
        return _application(str(labels[_INSTANCE]))
    for group, kind in ((_HELM, "HelmRelease"), (_KUSTOMIZE, "Kustomization")):
        if name := str(labels.get(f"{group}/name") or ""):
            return Source("flux", f"{kind}/{name}", str(labels.get(f"{group}/namespace") or ""))
    return Source()


def _application(text: str) -> Source:
    """An application by its name, `namespace_name` where it is not in Argo CD's own namespace."""
    namespace, separator, name = text.rpartition("_")
    return Source("argocd", name, namespace if separator else "")
