"""What really happened to the pods and policies of a namespace, revision by revision.

The API server's watch tells every change since a revision, each with the revision that it made;
pods and policies are kept in one store, so that their revisions are one order. Between two of them
there is nothing: what holds at each of them held all the time. Nothing is sampled.
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.real.api import Api

LABEL = "responder.dev/quarantine"
Json = dict[str, Any]


@dataclass(frozen=True)
class Happening:
    """One change: the revision it made, the kind, and the object as it was then (or was last)."""

    revision: int
    kind: str
    gone: bool
    item: Json


@dataclass
class Findings:
    """What must never have been: each entry names the revision."""

    gaps: list[str] = field(default_factory=list)  # a labelled pod without its deny-all
    doubles: list[str] = field(default_factory=list)  # two quarantine policies for one pod
    relabels: int = 0
    created: dict[str, int] = field(default_factory=dict)  # pod UID: policies ever made for it
    last: dict[tuple[str, str], Json] = field(default_factory=dict)


def revision(cluster: Api, namespace: str) -> str:
    """The revision at which a history may begin."""
    found = cluster.must("GET", f"/api/v1/namespaces/{namespace}/pods")
    return str(found["metadata"]["resourceVersion"])


def listed(cluster: Api, namespace: str) -> list[Happening]:
    """Everything that is there, as if it had just happened."""
    found = []
    for kind, path in _paths(namespace).items():
        answer = cluster.must("GET", path)
        number = int(answer["metadata"]["resourceVersion"])
        found += [Happening(number, kind, gone=False, item=item) for item in answer["items"]]
    return found


def happened(cluster: Api, namespace: str, since: str) -> list[Happening]:
    """Every change to pods and NetworkPolicies since a revision, in the order of revisions."""
    found = []
    for kind, path in _paths(namespace).items():
        for event in _watch(cluster, f"{path}?watch=1&resourceVersion={since}&timeoutSeconds=1"):
            assert event["type"] != "ERROR", event
            item = event["object"]
            number = int(item["metadata"]["resourceVersion"])
            found.append(Happening(number, kind, event["type"] == "DELETED", item))
    return sorted(found, key=lambda one: one.revision)


def _paths(namespace: str) -> Mapping[str, str]:
    return {
        "Pod": f"/api/v1/namespaces/{namespace}/pods",
        "NetworkPolicy": f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    }


def _watch(cluster: Api, path: str) -> list[Json]:
    where = urlsplit(cluster.api)
    trust = ssl.create_default_context(cafile=str(cluster.ca))
    link = http.client.HTTPSConnection(where.netloc, timeout=30, context=trust)
    try:
        link.request("GET", path, headers={"Authorization": f"Bearer {cluster.admin_token}"})
        answer = link.getresponse()
        text = answer.read().decode()
    finally:
        link.close()
    assert answer.status == 200, text
    return [json.loads(line) for line in text.splitlines() if line]


def judge(before: Iterable[Happening], changes: Iterable[Happening]) -> Findings:
    """Go through a history, look at the state after each change, and say what was wrong."""
    found = Findings()
    state: dict[tuple[str, str], Json] = {(one.kind, _name(one)): one.item for one in before}
    for change in changes:
        key = (change.kind, _name(change))
        if change.gone:
            state.pop(key, None)
        else:
            _count(found, change, state.get(key))
            state[key] = change.item
        _look(found, change.revision, state)
    found.last = state
    return found


def _count(found: Findings, change: Happening, old: Json | None) -> None:
    if change.kind == "Pod":
        had = LABEL in (old["metadata"].get("labels") or {}) if old else False
        found.relabels += not had and LABEL in (change.item["metadata"].get("labels") or {})
    elif old is None:
        for uid in _meant(change.item):
            found.created[uid] = found.created.get(uid, 0) + 1


def _look(found: Findings, number: int, state: Mapping[tuple[str, str], Json]) -> None:
    policies = [item for (kind, _), item in state.items() if kind == "NetworkPolicy"]
    for (kind, name), pod in state.items():
        if kind != "Pod":
            continue
        value = (pod["metadata"].get("labels") or {}).get(LABEL)
        if value and not any(_denies_all(policy, value) for policy in policies):
            found.gaps.append(f"revision {number}: pod {name} is labelled, and no policy denies")
        mine = [p["metadata"]["name"] for p in policies if pod["metadata"]["uid"] in _meant(p)]
        if len(mine) > 1:
            found.doubles.append(f"revision {number}: pod {name} has {', '.join(sorted(mine))}")


def _denies_all(policy: Json, value: str) -> bool:
    spec = policy["spec"]
    return (
        spec.get("podSelector") == {"matchLabels": {LABEL: value}}
        and set(spec.get("policyTypes", ())) == {"Ingress", "Egress"}
        and not spec.get("ingress")
        and not spec.get("egress")
    )


def _meant(policy: Json) -> list[str]:
    """The UIDs of the pods that a quarantine policy was made for."""
    if LABEL not in (policy["metadata"].get("labels") or {}):
        return []
    owners = policy["metadata"].get("ownerReferences") or []
    return [owner["uid"] for owner in owners if owner["kind"] == "Pod"]


def _name(change: Happening) -> str:
    return str(change.item["metadata"]["name"])
