"""Whether the guard on our own account is installed, found by a write that is only tried."""

from __future__ import annotations

from integrations.kubernetes.client import Connection, Json
from integrations.kubernetes.guarding import ANSWER, TRIAL
from integrations.kubernetes.paths import collection
from responder.errors import ResponderError

__all__ = ["told"]

_HOW = "kubectl apply what `responder rbac --guard` prints"


async def told(link: Connection) -> str:
    """For `doctor`: a NetworkPolicy that carries the trial's mark, as a dry run.

    The guard refuses whatever carries the mark. Never says `ok` for any other refusal: that one
    may come from somebody else's rule.
    """
    place = (link.settings.namespaces or (link.settings.home,))[0]
    body: Json = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "responder-guard-trial", "annotations": {TRIAL: "x"}},
        "spec": {"podSelector": {"matchLabels": {TRIAL: "x"}}, "policyTypes": ["Ingress"]},
    }
    try:
        await link.api().create(collection("NetworkPolicy", place), body, dry_run=True)
    except ResponderError as error:
        if ANSWER in str(error):
            return f"ok ({ANSWER})"
        return f"warn: whether our account is guarded cannot be told: {error}"
    return f"warn: our account is not guarded inside the cluster: {_HOW}"
