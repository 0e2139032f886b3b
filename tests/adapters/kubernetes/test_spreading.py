"""Where an image runs and whose it is: every kind of owner, every trap of a digest, the waves."""

from __future__ import annotations

from typing import Any

import pytest

from integrations.kubernetes.quarantine import LABEL
from integrations.kubernetes.spreading import Found, Seen, spread, waves

OLD = f"sha256:{'a' * 64}"
OTHER = f"sha256:{'f' * 64}"
NAME = "registry.test/shop/cart"


def owned(kind: str, name: str) -> list[dict[str, Any]]:
    """Return the reference to a controller; its UID is made from its name."""
    return [{"kind": kind, "name": name, "uid": f"uid-{kind}-{name}", "controller": True}]


def thing(kind: str, name: str, *, owner: Any = (), image: str = NAME, **more: Any) -> Any:
    """Return a workload with one container."""
    template = {"spec": {"containers": [{"name": "main", "image": image}]}}
    spec: dict[str, Any] = {"template": template}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": {"template": template}}}
    meta = {"name": name, "namespace": "shop", "uid": f"uid-{kind}-{name}"}
    labels = {"labels": more.pop("labels", {}), "annotations": more.pop("annotations", {})}
    namespace = {"namespace": more.pop("namespace", "shop")}
    refs = {"ownerReferences": list(owner)}
    return {"kind": kind, "metadata": meta | labels | namespace | refs, "spec": spec | more}


def pod(name: str, owner: Any, *, digest: str = OLD, image: str = NAME, **meta: Any) -> Any:
    """Return a running pod that reports a digest."""
    status = {"name": "main", "imageID": f"{NAME}@{digest}" if digest else f"sha256:{'9' * 64}"}
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-Pod-{name}",
            "ownerReferences": owner,
            **meta,
        },
        "spec": {"containers": [{"name": "main", "image": image}]},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }


def look(*workloads: Any, pods: Any = (), names: Any = (), skip: Any = (), **more: Any) -> Found:
    """Return what is found of the old digest."""
    return spread(
        Seen(workloads=workloads, pods=pods, **more), frozenset({OLD}), names=names, skip=skip
    )


def deployed(name: str, count: int = 1, **more: Any) -> tuple[Any, Any, list[Any]]:
    """Return a Deployment, its ReplicaSet, and pods that run the image."""
    mine = thing("Deployment", name, **more)
    rs = thing("ReplicaSet", f"{name}-1", owner=owned("Deployment", name))
    pods = [pod(f"{name}-{n}", owned("ReplicaSet", f"{name}-1")) for n in range(count)]
    return mine, rs, pods


@pytest.mark.parametrize(
    ("labels", "annotations", "owner"),
    [
        ({}, {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/cart"}, "Argo CD"),
        ({"argocd.argoproj.io/instance": "shop"}, {}, "Argo CD"),
        ({"kustomize.toolkit.fluxcd.io/name": "shop"}, {}, "Flux"),
        ({"helm.toolkit.fluxcd.io/name": "shop"}, {"meta.helm.sh/release-name": "shop"}, "Flux"),
        ({}, {"meta.helm.sh/release-name": "shop"}, "Helm"),
    ],
)
def test_what_a_tool_owns_is_named_with_its_pull_request_and_never_in_a_wave(
    labels: dict[str, str], annotations: dict[str, str], owner: str
) -> None:
    """Labels and annotations of Argo CD, Flux and Helm, and what is to be done instead."""
    mine, rs, pods = deployed("cart", labels=labels, annotations=annotations)
    found = look(mine, pods=pods, replica_sets=[rs])

    assert found.places == ()
    assert [(one.workload, one.owner) for one in found.elsewhere] == [("Deployment/cart", owner)]
    assert "open a pull request" in found.elsewhere[0].instead


def test_what_an_operator_or_argo_rollouts_owns_is_not_ours() -> None:
    """Whoever made the workload would undo a patch of it."""
    custom = thing("StatefulSet", "queue", owner=owned("Kafka", "queue"))
    rs = thing("ReplicaSet", "web-1", owner=owned("Rollout", "web"))
    pods = [
        pod("queue-0", owned("StatefulSet", "queue")),
        pod("web-1-x", owned("ReplicaSet", "web-1")),
        pod("web-1-y", owned("ReplicaSet", "web-1")),
    ]
    found = look(custom, pods=pods, replica_sets=[rs])

    assert found.places == ()
    assert [(one.workload, one.owner) for one in found.elsewhere] == [
        ("StatefulSet/queue", "Kafka/queue"),
        ("Rollout/web", "Argo Rollouts"),
    ]


def test_bare_pods_and_jobs_have_nothing_to_roll_out() -> None:
    """They are named, so that nobody takes the campaign for whole."""
    job = thing("Job", "once")
    pods = [pod("solo", []), pod("once-x", owned("Job", "once"))]
    found = look(pods=pods, jobs=[job])

    assert [(one.workload, one.instead) for one in found.elsewhere] == [
        ("Pod/solo", "nobody owns it: replace the pod"),
        ("Job/once", "change or delete Job/once: it has no rollout"),
    ]


def test_a_pods_own_report_beats_the_name_in_the_template() -> None:
    """The tag moved: one workload runs the old digest under it, the other a newer one."""
    old, first, old_pods = deployed("old", image=f"{NAME}:1")
    new = thing("Deployment", "new", image=f"{NAME}:1")
    second = thing("ReplicaSet", "new-1", owner=owned("Deployment", "new"))
    new_pods = [pod("n", owned("ReplicaSet", "new-1"), digest=OTHER, image=f"{NAME}:1")]
    found = look(old, new, pods=[*old_pods, *new_pods], replica_sets=[first, second])

    assert [one.workload for one in found.places] == ["Deployment/old"]


def test_a_workload_without_pods_is_found_by_digest_or_by_the_name_it_is_known_by() -> None:
    """A CronJob and something scaled to nothing; `by` says how sure it is."""
    pinned = thing("CronJob", "pinned", image=f"{NAME}@{OLD}")
    named = thing("CronJob", "named", image=f"{NAME}:1")
    other = thing("CronJob", "other", image=f"{NAME}:2")
    found = look(pinned, named, other, names=[f"{NAME}:1"])

    assert [(one.workload, one.by) for one in found.places] == [
        ("CronJob/named", "name"),
        ("CronJob/pinned", "digest"),
    ]


def test_the_id_of_a_configuration_is_no_digest() -> None:
    """A bare `sha256:…` names no image of a registry; the name in the spec does."""
    mine, rs, _ = deployed("cart")
    odd = pod("x", owned("ReplicaSet", "cart-1"), digest="", image=f"{NAME}@{OLD}")
    found = look(mine, pods=[odd], replica_sets=[rs])

    assert [one.pods for one in found.places] == [1]


def test_isolated_ended_and_going_pods_are_no_place() -> None:
    """A quarantined pod is evidence, not something to roll out."""
    mine, rs, _ = deployed("cart", image=f"{NAME}:9")
    owner = owned("ReplicaSet", "cart-1")
    ended = pod("b", owner)
    ended["status"]["phase"] = "Succeeded"
    pods = [pod("a", [], labels={LABEL: "42"}), ended, pod("c", owner, deletionTimestamp="now")]

    assert look(mine, pods=pods, replica_sets=[rs]) == Found((), ())


def test_only_an_init_container_is_not_ours_to_patch() -> None:
    """The rollout changes ordinary containers, so somebody must look."""
    mine, rs, _ = deployed("cart", image="other")
    one = pod("x", owned("ReplicaSet", "cart-1"), digest=OTHER, image="other")
    one["spec"]["initContainers"] = [{"name": "init", "image": f"{NAME}@{OLD}"}]
    found = look(mine, pods=[one], replica_sets=[rs])

    assert [one.instead for one in found.elsewhere] == [
        "an init container runs it: change the template by hand"
    ]


def test_what_cannot_be_rolled_out_and_what_is_left_out_is_named() -> None:
    """A paused rollout, OnDelete, and a namespace of the skip list."""
    paused, first, one = deployed("cart", paused=True)
    system, second, two = deployed("dns", namespace="kube-system")
    found = look(paused, system, pods=[*one, *two], replica_sets=[first, second], skip=["kube-*"])

    assert found.places == ()
    assert [text.instead for text in found.elsewhere] == [
        "its rollout is paused: resume it first",
        "its namespace is left out: roll it out by hand",
    ]


def test_the_smallest_running_deployment_is_the_canary() -> None:
    """Then by kind and size; what does not run comes last."""
    great, a, many = deployed("great", 5)
    small, b, few = deployed("small", 2)
    node = thing("DaemonSet", "agent")
    cron = thing("CronJob", "report", image=f"{NAME}@{OLD}")
    idle = thing("Deployment", "idle", image=f"{NAME}@{OLD}")
    pods = [*many, *few, pod("agent-x", owned("DaemonSet", "agent"))]
    found = look(great, cron, idle, node, small, pods=pods, replica_sets=[a, b])

    assert [one.workload for one in found.places] == [
        "Deployment/small",
        "Deployment/great",
        "DaemonSet/agent",
        "Deployment/idle",
        "CronJob/report",
    ]


@pytest.mark.parametrize(
    ("count", "canary", "early", "sizes"),
    [
        (0, 1, 0.1, (0, 0, 0)),
        (1, 1, 0.1, (1, 0, 0)),
        (2, 1, 0.1, (1, 1, 0)),
        (40, 1, 0.1, (1, 4, 35)),
        (40, 2, 0.5, (2, 19, 19)),
        (40, 50, 0.1, (40, 0, 0)),
        (11, 1, 0.0, (1, 1, 9)),
        (11, 1, 1.0, (1, 10, 0)),
    ],
)
def test_the_waves_hold_everything_once_and_in_order(
    count: int, canary: int, early: float, sizes: tuple[int, int, int]
) -> None:
    """Nothing is lost between them."""
    parts = waves(list(range(count)), canary=canary, early=early)

    assert tuple(map(len, parts)) == sizes
    assert [one for part in parts for one in part] == list(range(count))
