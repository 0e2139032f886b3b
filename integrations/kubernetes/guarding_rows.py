"""What each kind of write must look like, one row a kind; for the guard on our own account. Pure.

A new kind that an action declares needs no row: its objects must then carry our label. A row is
needed only where more can be said, or where an action changes what is not ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from integrations.kubernetes.blocking import LIST
from integrations.kubernetes.enforcement import CONFIG
from integrations.kubernetes.flux_reading import REQUESTED
from integrations.kubernetes.guarding_words import ALIKE, SAME, Need, is_ours, text
from integrations.kubernetes.probing_pods import MARK
from integrations.kubernetes.quarantine import LABEL

__all__ = ["Row", "rows"]


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of write and what must be true of it."""

    what: str
    operation: str
    condition: str
    message: str


def rows(need: Need) -> Iterator[Row]:
    """A row for each kind of write that is needed at all."""
    for what, operation in sorted(need.writes):
        make = _ROWS.get((what, operation), _ours)
        condition, message = make(need, operation)
        yield Row(what, operation, condition, message)


def _labels_of(operation: str) -> str:
    return "oldLabels" if operation == "DELETE" else "newLabels"


Rule = tuple[str, str]


def _ours(need: Need, operation: str) -> Rule:
    """What we made ourselves and what carries our label, before and after."""
    del need
    both = ("oldLabels", "newLabels") if operation == "UPDATE" else (_labels_of(operation),)
    return " && ".join(is_ours(labels) for labels in both), "this is not of our making"


# --------------------------------------------------------------------------- pods


def _pod_changed(need: Need, operation: str) -> Rule:
    """Labels and annotations alone; other than our own only where an action sets others."""
    del operation
    parts = ["size(variables.changed) == 0", "variables.bound"]
    if not need.uses("annotate"):
        parts.append("variables.marks")
    if not need.uses("label"):
        label = text(LABEL)
        isolated = f"{label} in variables.newLabels || {label} in variables.oldLabels"
        parts.append(f"({SAME} || {isolated})")
    return " && ".join(parts), "of a pod only our labels and annotations are changed"


def _pod_deleted(need: Need, operation: str) -> Rule:
    del operation
    ways = [f"(variables.place == {text(need.home)} && {text(MARK)} in variables.oldLabels)"]
    if need.uses("delete_pod"):
        forced = need.says("delete_pod", "force", "true")
        ways.append("true" if forced else f"{text(LABEL)} in variables.oldLabels")
    return " || ".join(ways), "only an isolated pod, or a probe of ours, is deleted"


def _pod_created(need: Need, operation: str) -> Rule:
    """A probe in our home: no token, no volume of the node, no right but what cutting needs."""
    del operation
    on_node = need.uses("cut_flows")
    plain = "!has(object.spec.hostNetwork) || !object.spec.hostNetwork"
    added = "(!has(c.securityContext.capabilities) || !has(c.securityContext.capabilities.add))"
    if on_node:
        added = (
            f"({added} || (has(object.spec.hostNetwork) && object.spec.hostNetwork && "
            "c.securityContext.capabilities.add == ['NET_ADMIN']))"
        )
    parts = [
        f"variables.place == {text(need.home)}",
        f"{text(MARK)} in variables.newLabels",
        "has(object.spec.automountServiceAccountToken)",
        "!object.spec.automountServiceAccountToken",
        *(f"(!has(object.spec.{k}) || !object.spec.{k})" for k in ("hostPID", "hostIPC")),
        *([] if on_node else [f"({plain})"]),
        "(!has(object.spec.volumes) || object.spec.volumes.all(v, has(v.emptyDir)))",
        "!has(object.spec.initContainers)",
        f"object.spec.containers.all(c, {_HARMLESS} && {added})",
    ]
    return " && ".join(parts), "only a probe without rights is started, in our own namespace"


_HARMLESS = (
    "has(c.securityContext) && "
    "(!has(c.securityContext.privileged) || !c.securityContext.privileged)"
)


def _pod_looked_into(need: Need, operation: str) -> Rule:
    """A container without rights for inside an isolated pod; those that are there stay."""
    del need, operation
    there = "(has(oldObject.spec.ephemeralContainers) ? oldObject.spec.ephemeralContainers : [])"
    fresh = f"{there}.exists(o, o.name == c.name)"
    added = "(!has(c.securityContext.capabilities) || !has(c.securityContext.capabilities.add))"
    return (
        (
            f"{text(LABEL)} in variables.oldLabels && {SAME} && "
            "variables.changed.all(k, k == 'ephemeralContainers') && "
            f"object.spec.ephemeralContainers.all(c, {fresh} || ("
            f"c.name.startsWith('responder-') && {_HARMLESS} && {added}))"
        ),
        "only a probe without rights is added, to an isolated pod",
    )


def _evicted(need: Need, operation: str) -> Rule:
    del need, operation
    return (
        (
            "has(object.deleteOptions) && has(object.deleteOptions.preconditions) && "
            "has(object.deleteOptions.preconditions.uid)"
        ),
        "only one pod, named by its UID, is evicted",
    )


# --------------------------------------------------------------------------- policies


def _policy_created(need: Need, operation: str) -> Rule:
    """One that allows nothing: our token cannot open what somebody else has closed."""
    nothing = " && ".join(
        f"(!has(object.spec.{way}) || size(object.spec.{way}) == 0)"
        for way in ("ingress", "egress")
    )
    ours = f"({_ours(need, operation)[0]})"
    probe = f"(variables.place == {text(need.home)} && {text(MARK)} in variables.newLabels)"
    return f"{nothing} && ({ours} || {probe})", "only a policy of ours that allows nothing is made"


def _policy_deleted(need: Need, operation: str) -> Rule:
    probe = f"(variables.place == {text(need.home)} && {text(MARK)} in variables.oldLabels)"
    return f"({_ours(need, operation)[0]}) || {probe}", "this policy is not of our making"


def _policy_changed(need: Need, operation: str) -> Rule:
    """Nothing but conditions on our own label, in the selector that says which pods are meant."""
    del need, operation

    def others(item: str) -> str:
        rules = f"{item}.spec.podSelector.matchExpressions"
        return f"(has({rules}) ? {rules}.filter(r, r.key != {text(LABEL)}) : [])"

    def names(item: str) -> str:
        labels = f"{item}.spec.podSelector.matchLabels"
        return f"(has({labels}) ? dyn({labels}) : dyn({{}}))"

    return (
        (
            f"variables.changed.all(k, k == 'podSelector') && {SAME} && {ALIKE} && "
            f"{others('object')} == {others('oldObject')} && "
            f"{names('object')} == {names('oldObject')}"
        ),
        "a policy of others is changed only to leave out an isolated pod",
    )


def _budget_created(need: Need, operation: str) -> Rule:
    ours, message = _ours(need, operation)
    return f"{ours} && {text(LABEL)} in variables.newLabels", message


# --------------------------------------------------------------------------- workloads and nodes


def _workload(need: Need, operation: str, *, kinds: Mapping[str, bool]) -> Rule:
    """Only those fields that a used action sets."""
    del operation
    keys = [key for key, used in kinds.items() if used]
    parts = [f"variables.changed.all(k, k in [{', '.join(map(text, keys))}])", "variables.bound"]
    parts += [
        f"(!('{key}' in variables.changed) || ({alone}))"
        for key, alone in _TEMPLATES.items()
        if key in keys
    ]
    parts += [] if need.uses("annotate") else ["variables.marks"]
    parts += [] if need.uses("label") else [SAME]
    return " && ".join(parts), f"of a workload only {', '.join(keys) or 'its marks'} may change"


def _alike(path: str, *apart: str) -> str:
    """Whether everything at a path is the same in both objects, some fields apart."""
    new, old = f"object.{path}", f"oldObject.{path}"
    named = f"k in [{', '.join(map(text, apart))}]"
    return (
        f"{new}.all(k, {named} || (k in {old} && {new}[k] == {old}[k])) && "
        f"{old}.all(k, {named} || k in {new})"
    )


def _image_alone(path: str, *outer: tuple[str, str]) -> str:
    """Whether of the pod template at a path only images differ; `outer` leads down to it."""
    new, old = (f"{item}.{path}.spec.containers" for item in ("object", "oldObject"))
    return " && ".join(
        (
            *(_alike(where, inner) for where, inner in outer),
            _alike(path, "spec"),
            _alike(f"{path}.spec", "containers"),
            f"size({new}) == size({old})",
            (
                f"{new}.all(n, {old}.exists_one(o, o.name == n.name && "
                "n.all(k, k == 'image' || (k in o && o[k] == n[k])) && "
                "o.all(k, k == 'image' || k in n)))"
            ),
        )
    )


_TEMPLATES = {
    "template": _image_alone("spec.template"),
    "jobTemplate": _image_alone(
        "spec.jobTemplate.spec.template",
        ("spec.jobTemplate", "spec"),
        ("spec.jobTemplate.spec", "template"),
    ),
}


def _rolled(need: Need, operation: str) -> Rule:
    kinds = {"replicas": need.uses("scale_workload"), "template": need.uses("redeploy")}
    return _workload(need, operation, kinds=kinds)


def _daemons(need: Need, operation: str) -> Rule:
    return _workload(need, operation, kinds={"template": need.uses("redeploy")})


def _scaled(need: Need, operation: str) -> Rule:
    return _workload(need, operation, kinds={"replicas": need.uses("scale_workload")})


def _suspended(need: Need, operation: str) -> Rule:
    by_quarantine = need.says("quarantine_pod", "suspend_cronjob", "true")
    suspends = need.uses("suspend_job") or by_quarantine
    kinds = {"suspend": suspends, "jobTemplate": need.uses("redeploy")}
    return _workload(need, operation, kinds=kinds)


def _node(need: Need, operation: str) -> Rule:
    del need, operation
    return (
        f"variables.changed.all(k, k == 'unschedulable') && {SAME} && {ALIKE}",
        "of a node only whether it takes new pods is changed",
    )


def _asked_to_look(need: Need, operation: str) -> Rule:
    """Of an object of Flux only the one annotation that makes it look now."""
    del need, operation
    new, old, key = "variables.newNotes", "variables.oldNotes", text(REQUESTED)
    return (
        (
            f"size(variables.changed) == 0 && {SAME} && variables.bound && "
            f"{new}.all(k, k == {key} || (k in {old} && {old}[k] == {new}[k])) && "
            f"{old}.all(k, k in {new})"
        ),
        "of an object of Flux only the annotation is set that makes it look",
    )


# --------------------------------------------------------------------------- rights


def _secret(need: Need, operation: str) -> Rule:
    del need, operation
    return (
        "oldObject.type == 'kubernetes.io/service-account-token'",
        "only the token of a service account is deleted",
    )


def _subjects(item: str) -> str:
    return f"({item} != null && has({item}.subjects) ? dyn({item}.subjects) : dyn([]))"


def _bound(need: Need, operation: str) -> Rule:
    """Bindings of others' accounts: never one of ours, and nobody is let in by a group."""
    us = (
        f"(s.kind == 'ServiceAccount' && s.name == {text(need.account)} && "
        f"(!has(s.namespace) || s.namespace == {text(need.home)})) || "
        f"(s.kind == 'User' && s.name == {text(need.user)})"
    )
    new, old = _subjects("object"), _subjects("oldObject")
    parts = [f"!{new}.exists(s, {us})", f"!{old}.exists(s, {us})"]
    if operation == "CREATE":
        parts.append(f"size({new}) == 1")
    parts.append(f"{new}.all(s, s.kind != 'Group' || s in {old})")
    return " && ".join(parts), "a binding is never changed for ourselves, or to let a group in"


# --------------------------------------------------------------------------- our home


def _own_list(need: Need, operation: str) -> Rule:
    del operation
    names = [LIST] if need.uses("block_image") else []
    names += [CONFIG] if need.uses("probe_network") else []
    return (
        (
            f"variables.place == {text(need.home)} && "
            f"object.metadata.name in [{', '.join(map(text, names))}]"
        ),
        "only our own lists are written",
    )


def _tried(need: Need, operation: str) -> Rule:
    del operation
    return (
        f"request.dryRun && variables.place == {text(need.home)}",
        "a pod template is only tried, never made",
    )


_ROWS: Mapping[tuple[str, str], Callable[[Need, str], Rule]] = {
    ("/pods", "CREATE"): _pod_created,
    ("/pods", "UPDATE"): _pod_changed,
    ("/pods", "DELETE"): _pod_deleted,
    ("/pods/eviction", "CREATE"): _evicted,
    ("/pods/ephemeralcontainers", "UPDATE"): _pod_looked_into,
    ("/configmaps", "CREATE"): _own_list,
    ("/configmaps", "UPDATE"): _own_list,
    ("/podtemplates", "CREATE"): _tried,
    ("/secrets", "DELETE"): _secret,
    ("/nodes", "UPDATE"): _node,
    ("networking.k8s.io/networkpolicies", "CREATE"): _policy_created,
    ("networking.k8s.io/networkpolicies", "UPDATE"): _policy_changed,
    ("networking.k8s.io/networkpolicies", "DELETE"): _policy_deleted,
    ("policy/poddisruptionbudgets", "CREATE"): _budget_created,
    ("apps/deployments", "UPDATE"): _rolled,
    ("apps/statefulsets", "UPDATE"): _rolled,
    ("apps/daemonsets", "UPDATE"): _daemons,
    ("apps/replicasets", "UPDATE"): _scaled,
    ("source.toolkit.fluxcd.io/gitrepositories", "UPDATE"): _asked_to_look,
    ("kustomize.toolkit.fluxcd.io/kustomizations", "UPDATE"): _asked_to_look,
    ("helm.toolkit.fluxcd.io/helmreleases", "UPDATE"): _asked_to_look,
    ("batch/jobs", "UPDATE"): _suspended,
    ("batch/cronjobs", "UPDATE"): _suspended,
    ("rbac.authorization.k8s.io/rolebindings", "CREATE"): _bound,
    ("rbac.authorization.k8s.io/rolebindings", "UPDATE"): _bound,
    ("rbac.authorization.k8s.io/rolebindings", "DELETE"): _bound,
    ("rbac.authorization.k8s.io/clusterrolebindings", "CREATE"): _bound,
    ("rbac.authorization.k8s.io/clusterrolebindings", "UPDATE"): _bound,
    ("rbac.authorization.k8s.io/clusterrolebindings", "DELETE"): _bound,
}
