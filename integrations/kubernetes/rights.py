"""May our account do what an action declares? Asked before anything is changed.

One SelfSubjectRulesReview per namespace and minute answers for all actions
(https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access).
Only a complete yes is remembered, so a right that was just granted counts at once. Where the
API server cannot list the rules, nothing is refused here: the call itself will be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.paths import CLUSTER_WIDE, KINDS
from integrations.kubernetes.together import together
from responder.clock import Clock
from responder.errors import NotFound, ResponderError, StepFailed
from responder.ports import ActionInfo, Permission

__all__ = ["Rights", "doctor", "right"]

_REVIEWS = "/apis/authorization.k8s.io/v1"
_REMEMBER = 60.0  # seconds


def right(
    kind: str,
    *verbs: str,
    sub: str = "",
    why: str = "",
    scope: str = "",
    optional: bool = False,
    when: tuple[str, ...] = (),
) -> Permission:
    """The declared right to do something with a kind of object.

    `scope` is what the kind has by nature, `cluster` for all namespaces at once, or `home` for the
    namespace that we live in. `optional` and `when`: see `Permission`.
    """
    place, plural = KINDS[kind]
    group = place.split("/")[1] if place.startswith("apis/") else ""
    scope = scope or ("cluster" if kind in CLUSTER_WIDE else "namespace")
    resource = f"{plural}/{sub}" if sub else plural
    return Permission(
        group=group,
        resource=resource,
        verbs=verbs,
        scope=scope,
        why=why,
        optional=optional,
        when=when,
    )


class Rights:
    """What our account may do in one cluster; remembers a yes for a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str], float] = {}

    async def require(self, api: Api, info: ActionInfo, namespace: str) -> None:
        """Return when every declared right is there; `StepFailed` names what is missing."""
        key = (info.name, namespace)
        if self._clock.monotonic() < self._known.get(key, 0.0):
            return
        missing = await self.missing(api, info, namespace)
        if missing:
            raise StepFailed(
                f"cluster {api.cluster}: {info.name} lacks rights in namespace {namespace}: "
                f"{'; '.join(missing)}"
            )
        if len(self._known) > 10_000:  # noqa: PLR2004 - namespaces come and go
            self._known.clear()
        self._known[key] = self._clock.monotonic() + _REMEMBER

    async def missing(self, api: Api, info: ActionInfo, namespace: str) -> list[str]:
        """The rights that are missing, each with the rule that would give it.

        Not those that are optional, nor those that only some parameters need: the action itself
        says then what it had to leave.
        """
        must = [each for each in info.permissions if not each.optional and not each.when]
        there = [each for each in must if each.scope != "home"]
        home = [each for each in must if each.scope == "home"]
        found = await self._lacking(api, there, namespace) if there else []
        if home:
            found += await self._lacking(api, home, api.connection.settings.home)
        return found

    async def _lacking(
        self, api: Api, permissions: Sequence[Permission], namespace: str
    ) -> list[str]:
        body: Json = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        try:
            answer = await api.ask(f"{_REVIEWS}/selfsubjectrulesreviews", body)
        except (NotFound, StepFailed):
            return []
        status = answer.get("status") or {}
        rules = status.get("resourceRules")
        if not isinstance(rules, list) or status.get("incomplete"):
            return []
        return [
            _lack(permission, verb)
            for permission, verb in _single(permissions)
            if not any(_grants(rule, permission, verb) for rule in rules)
        ]


def _single(permissions: Iterable[Permission]) -> Iterator[tuple[Permission, str]]:
    for permission in permissions:
        for verb in permission.verbs:
            yield permission, verb


def _lack(permission: Permission, verb: str) -> str:
    kind = "ClusterRole" if permission.scope == "cluster" else "Role"
    return (
        f'{verb} {permission.resource} (add to its {kind}: apiGroups ["{permission.group}"], '
        f'resources ["{permission.resource}"], verbs ["{verb}"])'
    )


def _grants(rule: Mapping[str, Any], permission: Permission, verb: str) -> bool:
    """Whether a rule gives a right; one for named objects counts, the call itself will tell."""
    _, _, sub = permission.resource.partition("/")
    resources = {"*", permission.resource} | ({f"*/{sub}"} if sub else set())
    return (
        bool({"*", verb} & set(rule.get("verbs") or ()))
        and bool({"*", permission.group} & set(rule.get("apiGroups") or ()))
        and bool(resources & set(rule.get("resources") or ()))
    )


async def doctor(api: Api, infos: Sequence[ActionInfo], namespaces: Sequence[str]) -> str:
    """`ok`, or every declared right that our account does not have, with the rule that gives it.

    Without namespaces the rights are asked for in the whole cluster.
    """
    wanted: dict[tuple[str, str, str, str], tuple[Permission, list[str]]] = {}
    for info in infos:
        for permission, verb in _single(one for one in info.permissions if not one.optional):
            home = api.connection.settings.home
            places = {"cluster": [""], "home": [home]}.get(permission.scope, namespaces or [""])
            for namespace in places:
                key = (permission.group, permission.resource, verb, namespace)
                wanted.setdefault(key, (permission, []))[1].append(info.name)
    try:
        answers = await together(_may(api, *key) for key in wanted)
    except ResponderError as error:
        return str(error)
    lacking = [
        f"{_lack(permission, key[2])} in {key[3] or 'all namespaces'}, for {', '.join(users)}"
        for (key, (permission, users)), yes in zip(wanted.items(), answers, strict=True)
        if not yes
    ]
    return "missing rights: " + "; ".join(lacking) if lacking else "ok"


async def _may(api: Api, group: str, resource: str, verb: str, namespace: str) -> bool:
    name, _, sub = resource.partition("/")
    attributes = {"group": group, "resource": name, "verb": verb, "namespace": namespace}
    body: Json = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes | ({"subresource": sub} if sub else {})},
    }
    answer = await api.ask(f"{_REVIEWS}/selfsubjectaccessreviews", body)
    return bool((answer.get("status") or {}).get("allowed"))
