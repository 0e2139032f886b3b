"""Flux on a real API server: its kinds, defined for the tests, and its controllers, played by hand.

The definitions are written here from the published field lists, not Flux's own files: the API
server drops what is not named, so what is read here has the field right. Status is a subresource,
as with Flux, so that a patch of an object cannot reach it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from integrations._forge import correlation_id
from integrations.kubernetes.flux_reading import REQUESTED
from tests.adapters.kubernetes.crds import TEXT, many, obj
from tests.real.cluster import ControlPlane
from tests.real.waiting import wait_until

COMMIT = "c" * 40
OLD = "a" * 40
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NUMBER = {"type": "integer"}
REF = obj(kind=TEXT, name=TEXT, namespace=TEXT)
STATUS: dict[str, Any] = {
    "observedGeneration": NUMBER,
    "lastHandledReconcileAt": TEXT,
    "conditions": many(
        obj(
            ["type", "status"],
            type=TEXT,
            status=TEXT,
            reason=TEXT,
            message=TEXT,
            observedGeneration=NUMBER,
            lastTransitionTime=TEXT,
        )
    ),
}
SUSPEND = {"suspend": {"type": "boolean"}, "interval": TEXT}
KINDS: dict[str, tuple[str, str, str, dict[str, Any], dict[str, Any]]] = {
    "GitRepository": (
        "gitrepositories",
        "source.toolkit.fluxcd.io",
        "v1",
        {**SUSPEND, "url": TEXT, "ref": obj(branch=TEXT)},
        {**STATUS, "artifact": obj(revision=TEXT)},
    ),
    "Kustomization": (
        "kustomizations",
        "kustomize.toolkit.fluxcd.io",
        "v1",
        {**SUSPEND, "path": TEXT, "prune": {"type": "boolean"}, "sourceRef": REF},
        {**STATUS, "lastAppliedRevision": TEXT, "lastAttemptedRevision": TEXT},
    ),
    "HelmRelease": (
        "helmreleases",
        "helm.toolkit.fluxcd.io",
        "v2",
        {**SUSPEND, "chartRef": REF, "values": obj(image=TEXT)},
        {**STATUS, "lastAttemptedRevision": TEXT},
    ),
}


def install(plane: ControlPlane) -> None:
    """Define Flux's kinds once; they stay for the session."""
    for kind, (plural, group, version, spec, status) in KINDS.items():
        body = {
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
                "versions": [
                    {
                        "name": version,
                        "served": True,
                        "storage": True,
                        "subresources": {"status": {}},
                        "schema": {"openAPIV3Schema": obj(spec=obj(**spec), status=obj(**status))},
                    }
                ],
            },
        }
        made, answer = plane.request("POST", DEFINITIONS, body)
        assert made in {201, 409}, answer
        everywhere = f"/apis/{group}/{version}/{plural}"
        served = lambda path=everywhere: plane.request("GET", path)[0] == 200  # noqa: E731
        wait_until(served, f"{kind} to be served", 60)


def path(kind: str, namespace: str, name: str = "") -> str:
    """Where objects of a kind live."""
    plural, group, version, *_ = KINDS[kind]
    base = f"/apis/{group}/{version}/namespaces/{namespace}/{plural}"
    return f"{base}/{name}" if name else base


@dataclass
class Flux:
    """Three objects in a namespace, and what Flux's controllers write on them, by hand."""

    plane: ControlPlane
    namespace: str
    name: str = "shop"
    seen: dict[str, str] = field(default_factory=dict)

    def make(self, *, helm: bool = False, suspend: str = "", commit: str = OLD) -> Flux:
        """A repository, a Kustomization from it, and a HelmRelease that this one applies."""
        install(self.plane)
        specs: dict[str, dict[str, Any]] = {
            "GitRepository": {"url": "https://git.example/acme/deploy", "ref": {"branch": "main"}},
            "Kustomization": {
                "path": "./shop",
                "prune": True,
                "sourceRef": {"kind": "GitRepository", "name": self.name},
            },
        }
        if helm:
            specs["HelmRelease"] = {"chartRef": {"kind": "OCIRepository", "name": "chart"}}
        labels = {
            "kustomize.toolkit.fluxcd.io/name": self.name,
            "kustomize.toolkit.fluxcd.io/namespace": self.namespace,
        }
        for kind, spec in specs.items():
            meta = {"name": self.name, "labels": labels if kind == "HelmRelease" else {}}
            stopped = {"suspend": True} if kind == suspend else {}
            body = {
                "apiVersion": "/".join(KINDS[kind][1:3]),
                "kind": kind,
                "metadata": meta,
                "spec": {**spec, **stopped},
            }
            self.plane.must("POST", path(kind, self.namespace), body)
            self.write(kind, commit=commit)
        return self

    def item(self, kind: str) -> dict[str, Any]:
        """One object as it is."""
        found: dict[str, Any] = self.plane.must("GET", path(kind, self.namespace, self.name))
        return found

    def asked(self, kind: str) -> str:
        """What the object was asked with, in its annotation."""
        return str((self.item(kind)["metadata"].get("annotations") or {}).get(REQUESTED) or "")

    def write(
        self,
        kind: str,
        *,
        commit: str = "",
        ready: str = "True",
        reason: str = "ReconciliationSucceeded",
        message: str = "",
        handled: str = "",
        stalled: bool = False,
    ) -> None:
        """What a controller writes at the end of one round; it has picked up what was asked."""
        item = self.item(kind)
        generation = item["metadata"]["generation"]
        said = [
            {
                "type": "Ready",
                "status": ready,
                "reason": reason,
                "message": message,
                "observedGeneration": generation,
            }
        ]
        if stalled:
            said.append({"type": "Stalled", "status": "True", "reason": reason, "message": message})
        status: dict[str, Any] = {"observedGeneration": generation, "conditions": said}
        if token := handled or self.asked(kind):
            status["lastHandledReconcileAt"] = token
        if commit:
            status |= _revision(kind, commit)
        where = f"{path(kind, self.namespace, self.name)}/status"
        self.plane.must("PATCH", where, {"status": status})

    def bring(self, commit: str = COMMIT, *kinds: str) -> None:
        """Flux fetches a commit and applies it, link after link."""
        for kind in kinds or ("GitRepository", "Kustomization"):
            self.write(kind, commit=commit)


def _revision(kind: str, commit: str) -> dict[str, Any]:
    at = f"main@sha1:{commit}"
    if kind == "GitRepository":
        return {"artifact": {"revision": at}}
    if kind == "HelmRelease":
        return {"lastAttemptedRevision": "1.2.3+sha256"}
    return {"lastAppliedRevision": at, "lastAttemptedRevision": at}


def primed(plane: ControlPlane, namespace: str, key: str) -> None:
    """Objects that have already picked up what a step with this key will ask."""
    flux = Flux(plane, namespace).make()
    for kind in ("GitRepository", "Kustomization"):
        flux.write(kind, commit=COMMIT, handled=correlation_id(key, 1))
