"""The product as a service account of its own: generated roles, generated guard, nothing beside.

Two ways to such an account. `responder` is for one namespace and holds exactly what the named
actions declare. `generated` installs what `responder rbac` and `responder guard` print, as a person
would, with a home of its own. What the tests do themselves as users or intruders, they do as the
administrator; the product never gets that token (`tests/packaging/test_accounts.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from integrations.kubernetes import INFOS
from integrations.kubernetes.paths import collection
from responder.ports import ActionInfo, Integration
from responder.wiring import guarding, rbac
from responder.wiring.known import permissions
from tests.adapters.kubernetes import stage
from tests.real.api import Api
from tests.real.cluster import ControlPlane
from tests.real.waiting import wait_until

__all__ = ["forget", "generated", "infos", "let_into", "responder", "token"]

RBAC = "/apis/rbac.authorization.k8s.io/v1"


def infos(*names: str) -> list[ActionInfo]:
    """The declarations of these actions; an unknown name is an error."""
    wanted = {f"kubernetes.{name}" for name in names}
    found = [info for info in INFOS if info.name in wanted]
    assert len(found) == len(wanted), names
    return found


def token(plane: ControlPlane, namespace: str, *names: str, used: Sequence[str] = ()) -> str:
    """A token with the declared rights of these actions in one namespace, under the guard."""
    return stage.account_for(plane, namespace, infos(*names), words=used)


@asynccontextmanager
async def responder(
    plane: ControlPlane,
    namespace: str,
    *names: str,
    shelf: stage.Shelf | None = None,
    used: Sequence[str] = (),
    **settings: Any,
) -> AsyncIterator[Integration]:
    """The product as such an account; its home is the namespace unless the settings say else."""
    secret = token(plane, namespace, *names, used=used)
    settings = {"home": namespace, **settings}
    async with stage.product(plane, secret, shelf, **settings) as made:
        yield made


def generated(
    plane: Api, home: str, namespaces: Sequence[str], *names: str, used: Collection[str] = ()
) -> str:
    """Install what `responder rbac` and `responder guard` print for these actions; a token.

    Objects of the whole cluster get an end of their own in their names: others are tested there
    too. They stay until `forget`. `used` are the words of the playbooks; see `rbac.uses`.
    """
    wanted = infos(*names)
    base = permissions()
    for item in guarding.manifests(wanted, home=home, base=base, used=used):
        plane.must("POST", collection(item["kind"]), item)
    made = rbac.manifests(
        wanted, account_namespace=home, namespaces=namespaces, base=base, used=used
    )
    rules: dict[str, list[Any]] = {}
    waited = []
    for item in made:
        if item["kind"] == "ServiceAccount":
            continue
        item["metadata"]["name"] += f"-{home}"
        place = item["metadata"].get("namespace", "")
        if "roleRef" in item:
            item["roleRef"]["name"] += f"-{home}"
            waited += [(place, rule) for rule in rules[item["roleRef"]["name"]]]
        else:
            rules[item["metadata"]["name"]] = item["rules"]
        path = f"{RBAC}/namespaces/{place}" if place else RBAC
        plane.must("POST", f"{path}/{item['kind'].lower()}s", item)
    found = plane.token_for(home, rbac.NAME)
    for place, rule in waited:
        if "resourceNames" not in rule:
            wait_until(partial(stage._may, plane, found, place, rule), "the rights to be known", 60)
    with stage._lent(plane, home, rbac.NAME):
        wait_until(lambda: stage.in_force(plane, home, found), "the guard to be in force", 60)
    return found


def let_into(plane: Api, home: str, namespace: str, found: str) -> None:
    """Bind the roles of a `generated` account in one more namespace, or with "" in all of them.

    A namespace that ends takes its own bindings along first; those for all namespaces stay.
    """
    end = f"-{home}"
    subject = {"kind": "ServiceAccount", "name": rbac.NAME, "namespace": home}
    for role in plane.must("GET", f"{RBAC}/clusterroles")["items"]:
        name = role["metadata"]["name"]
        if not name.endswith(end) or name.endswith(f"-cluster{end}"):
            continue
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        body = {"metadata": {"name": name}, "roleRef": ref, "subjects": [subject]}
        where = f"namespaces/{namespace}/rolebindings" if namespace else "clusterrolebindings"
        plane.must("POST", f"{RBAC}/{where}", body)
        known = partial(stage._may, plane, found, namespace, role["rules"][-1])
        wait_until(known, "the rights to be known", 60)


def forget(plane: Api, home: str) -> None:
    """Take the account's namespace, its guard and its roles for the cluster away."""
    plane.drop_namespace(home)
    for kind in ("clusterroles", "clusterrolebindings"):
        for item in plane.must("GET", f"{RBAC}/{kind}")["items"]:
            if item["metadata"]["name"].endswith(f"-{home}"):
                plane.must("DELETE", f"{RBAC}/{kind}/{item['metadata']['name']}")
