"""The guard on our own account: a policy that refuses what no loaded playbook needs. Pure.

RBAC cannot say "only the labels of a pod" or "only policies of ours", so a bug or a stolen token
could do more than any action does. This policy is asked about every write of our account and lets
pass only what the used actions declare, in the shape in which they do it. It is installed by a
person, and reads no parameters, so there is no list that could freeze (`blocking` tells why).

What it can never guard: admission policies themselves and reviews of access, which the API server
exempts, and reading.
https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from integrations.kubernetes import admission
from integrations.kubernetes.client import Json
from integrations.kubernetes.guarding_rows import rows
from integrations.kubernetes.guarding_words import Need, variables
from responder.ports import ActionInfo, Permission, needed

__all__ = ["ANSWER", "TRIAL", "Scope", "guard", "guard_name", "need_of"]

TRIAL = "responder.dev/guard-trial"  # an annotation: what carries it is always refused
ANSWER = "the guard is in force"
HOME = "responder.dev/home"
_OPERATIONS = {"create": "CREATE", "update": "UPDATE", "patch": "UPDATE", "delete": "DELETE"}
_EXEMPT = "admissionregistration.k8s.io"
_ANYTHING = {
    "apiGroups": ["*"],
    "apiVersions": ["*"],
    "operations": ["*"],
    "resources": ["*/*"],
    "scope": "*",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose account is guarded, and where it must change nothing: globs, and named exceptions."""

    home: str
    account: str = "responder"
    protected: tuple[str, ...] = ()
    unprotected: tuple[str, ...] = ()

    @property
    def user(self) -> str:
        """The account as the API server names it."""
        return f"system:serviceaccount:{self.home}:{self.account}"


def guard_name(home: str, account: str = "responder") -> str:
    """The name of policy and binding."""
    return f"{home}-guard" if account == "responder" else f"{home}-{account}-guard"


def need_of(
    scope: Scope,
    infos: Iterable[ActionInfo],
    used: Collection[str] = (),
    base: Iterable[Permission] = (),
) -> Need:
    """What the used actions write. `used` are the words of the playbooks; see `needed`."""
    given = list(infos)
    words = frozenset({*used, *(info.name for info in given)})
    rights = [right for info in given for right in needed(info.permissions, words)]
    writes = [
        (f"{right.group}/{right.resource}", _OPERATIONS[verb], right.scope)
        for right in (*rights, *base)
        if right.system == "kubernetes" and right.group != _EXEMPT
        for verb in right.verbs
        if verb in _OPERATIONS
    ]
    return Need(
        home=scope.home,
        account=scope.account,
        user=scope.user,
        words=words,
        writes=frozenset((what, operation) for what, operation, _ in writes),
        at_home=frozenset(
            (what, operation) for what, operation, where in writes if where == "home"
        ),
    )


def guard(scope: Scope, need: Need) -> tuple[Json, Json]:
    """The policy and its binding. Without any used action every write is refused."""
    name = guard_name(scope.home, scope.account)
    ours = f"has(request.userInfo.username) && request.userInfo.username == {_text(scope.user)}"
    spec = {
        "matchConstraints": admission.match(_ANYTHING),
        "matchConditions": [{"name": "our-account", "expression": ours}],
        "variables": variables(),
        "validations": [
            {"expression": expression, "message": message}
            for expression, message in _validations(scope, need)
        ],
    }
    made = (admission.policy(name, spec), admission.binding(name, name, ("Deny", "Audit")))
    for item in made:
        item["metadata"]["labels"][HOME] = scope.home
    return made


def _validations(scope: Scope, need: Need) -> Iterator[tuple[str, str]]:
    yield f"!({_text(TRIAL)} in variables.newNotes)", ANSWER
    allowed = _list(sorted(f"{what} {operation}" for what, operation in need.writes))
    asked = "variables.what + ' ' + request.operation"
    yield f"{asked} in {allowed}", "no loaded playbook needs such a write"
    yield (
        (
            "request.operation != 'DELETE' || (has(request.options) && request.options != null && "
            "has(request.options.preconditions) && has(request.options.preconditions.uid))"
        ),
        "only one object, named by its UID, is deleted",
    )
    at_home = _list(sorted(f"{what} {operation}" for what, operation in need.at_home))
    inside = f"variables.place == {_text(scope.home)} && {asked} in {at_home}"
    yield (
        f"variables.place == '' || ({inside}) || !({_protected(scope)})",
        "this namespace is protected",
    )
    for row in rows(need):
        here = f"variables.what == {_text(row.what)} && request.operation == '{row.operation}'"
        yield f"!({here}) || ({row.condition})", row.message


def _protected(scope: Scope) -> str:
    """Whether the request's namespace is one of the protected, our home included."""
    found = _any(dict.fromkeys((*scope.protected, scope.home)))
    return f"{found} && !({_any(scope.unprotected)})" if scope.unprotected else found


def _any(globs: Iterable[str]) -> str:
    pattern = "|".join(_pattern(glob) for glob in globs)
    return f"variables.place.matches({_text(f'^({pattern})$')})"


def _pattern(glob: str) -> str:
    """A glob as a regular expression; a namespace's name has no sign that would need more."""
    signs = {"*": ".*", "?": ".", "[": "[", "]": "]", "-": "-", "!": "^"}
    return "".join(signs.get(sign, sign) for sign in glob if sign in signs or sign.isalnum())


def _text(text: str) -> str:
    return json.dumps(text)


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(_text(text) for text in texts)}]"
