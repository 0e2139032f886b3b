"""Who may do what in the sandbox's cluster: bearer tokens with rules, as RBAC words them.

Without tokens everything is allowed, for demos. Rules only ever add rights.
https://kubernetes.io/docs/reference/access-authn-authz/rbac/#role-and-clusterrole
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from responder.sandbox.failure import Refusal, forbidden

__all__ = ["Access", "Ask", "Rule", "Subject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Rights on resources; `namespaces` empty means in every one, names empty means any."""

    groups: tuple[str, ...] = ("",)
    resources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


_EVERYTHING = Rule(groups=("*",), resources=("*",), verbs=("*",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The holder of a token; no rules at all (None) means an administrator."""

    name: str
    rules: Sequence[Rule] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question: may this be done?"""

    verb: str
    group: str
    resource: str  # with its subresource: "pods/log"
    namespace: str = ""
    name: str = ""


class Access:
    """Answers questions for the holders of tokens. Raises the 401 and 403 refusals."""

    def __init__(self, tokens: Mapping[str, Subject] | None = None) -> None:
        self._tokens = dict(tokens or {})

    def subject(self, header: str) -> Subject:
        """Who is asking, by the Authorization header."""
        if not self._tokens:
            return Subject(name="admin")
        scheme, _, secret = header.partition(" ")
        if not secret:
            return Subject(name="system:anonymous", rules=())
        for token, subject in self._tokens.items():
            if scheme.lower() == "bearer" and hmac.compare_digest(token, secret):
                return subject
        raise Refusal(401, "Unauthorized", "Unauthorized")

    @staticmethod
    def allows(subject: Subject, ask: Ask) -> bool:
        """Whether one of the rules grants it."""
        if subject.rules is None:
            return True
        return any(_grants(rule, ask) for rule in subject.rules)

    @staticmethod
    def rules(subject: Subject, namespace: str) -> list[dict[str, Any]]:
        """What the subject may do in a namespace, as a rules review answers it."""
        rules = [_EVERYTHING] if subject.rules is None else subject.rules
        return [
            {
                "verbs": list(rule.verbs),
                "apiGroups": list(rule.groups),
                "resources": list(rule.resources),
                **({"resourceNames": list(rule.names)} if rule.names else {}),
            }
            for rule in rules
            if not rule.namespaces or namespace in rule.namespaces
        ]

    def demand(self, subject: Subject, ask: Ask) -> None:
        """Raise the 403 refusal unless it is allowed."""
        if self.allows(subject, ask):
            return
        place = f'in the namespace "{ask.namespace}"' if ask.namespace else "at the cluster scope"
        word = f"{ask.resource.partition('/')[0]}"
        qualified = f"{word}.{ask.group}" if ask.group else word
        name = f' "{ask.name}"' if ask.name else ""
        text = (
            f'{qualified}{name} is forbidden: User "{subject.name}" cannot {ask.verb} resource '
            f'"{ask.resource}" in API group "{ask.group}" {place}'
        )
        details: dict[str, Any] = {"kind": word}
        if ask.name:
            details["name"] = ask.name
        if ask.group:
            details["group"] = ask.group
        raise forbidden(text, details)


def _grants(rule: Rule, ask: Ask) -> bool:
    def has(words: Sequence[str], word: str) -> bool:
        return "*" in words or word in words

    return (
        has(rule.groups, ask.group)
        and has(rule.resources, ask.resource)
        and has(rule.verbs, ask.verb)
        and (not rule.namespaces or ask.namespace in rule.namespaces)
        and (not rule.names or ask.name in rule.names)
    )
