"""What of a campaign goes through a repository: which file, which tool, each asked once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from integrations.kubernetes.gitops import Source, source_of
from integrations.kubernetes.proposing import roads, with_changes
from responder.ports import ImageChange, ImageRoute
from responder.wiring import build, load_settings

NAME = "registry.example/shop/cart"
DIGEST = f"sha256:{'b' * 64}"
TRACKED = "argocd.argoproj.io/tracking-id"


def change(name: str, *workloads: str, **more: Any) -> ImageChange:
    """Return one entry of the image map."""
    values = {"forge": "github", "repo": "acme/deploy", "branch": "main", "file": f"{name}.yaml"}
    return ImageChange(name=name, kind="manifest", workloads=workloads, **{**values, **more})


def route(*changes: ImageChange) -> ImageRoute:
    """Return one line of the image map."""
    return ImageRoute(
        match=NAME, forge="github", repo="acme/shop", workflow="rebuild.yml", changes=changes
    )


def item(name: str, owner: str = "Argo CD", **more: Any) -> dict[str, Any]:
    """Return something that is not ours to patch, as `find_workloads` lists it."""
    values = {
        "cluster": "prod",
        "workload": f"Deployment/{name}",
        "namespace": "shop",
        "owner": owner,
        "instead": "open a pull request to its source",
        "image": f"{NAME}:1",
        "tool": "argocd",
        "object": "shop",
        "object_namespace": "",
    }
    return {**values, **more}


def workload(**meta: Any) -> dict[str, Any]:
    """Return a Deployment with these marks."""
    return {"kind": "Deployment", "metadata": {"name": "cart", "namespace": "shop", **meta}}


@pytest.mark.parametrize(
    ("meta", "source"),
    [
        (
            {"annotations": {TRACKED: "web:apps/Deployment:shop/cart"}},
            Source("argocd", "web"),
        ),
        (
            {"annotations": {TRACKED: "team_web:apps/Deployment:shop/cart"}},
            Source("argocd", "web", "team"),
        ),
        # copied with its annotations: Argo CD itself does not take it for its own
        ({"annotations": {TRACKED: "web:apps/Deployment:shop/other"}}, Source()),
        ({"labels": {"argocd.argoproj.io/instance": "web"}}, Source("argocd", "web")),
        (
            {
                "labels": {
                    "kustomize.toolkit.fluxcd.io/name": "web",
                    "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
                }
            },
            Source("flux", "Kustomization/web", "flux-system"),
        ),
        (
            {"labels": {"helm.toolkit.fluxcd.io/name": "web"}},
            Source("flux", "HelmRelease/web"),
        ),
        ({"annotations": {"meta.helm.sh/release-name": "web"}}, Source()),
        ({}, Source()),
    ],
)
def test_a_tools_object_is_read_from_its_marks(meta: Any, source: Source) -> None:
    """Tracking id, label, and what belongs to a copy."""
    assert source_of(workload(**meta)) == source


def test_only_what_the_image_map_names_is_proposed() -> None:
    """No line, no entry, several entries, an operator's, an init container's: nothing."""
    argo = route(change("argo", "prod/shop/Deployment/cart"))
    both = route(change("one"), change("two"))
    cases = [
        (item("cart"), [argo], "argo"),
        (item("other"), [argo], ""),
        (item("cart", cluster="test"), [argo], ""),
        (item("cart"), [both], ""),
        (item("cart"), [], ""),
        (item("cart", image="registry.example/bank/cart:1"), [argo], ""),
        (item("cart", owner="Kafka/queue"), [argo], ""),
        (item("cart", owner=""), [argo], ""),
        (item("cart", image=""), [argo], ""),
    ]
    for one, routes, name in cases:
        [found] = with_changes([one], routes)
        assert found["change"] == name, one
        assert ("of the image map mends it" in found["instead"]) is bool(name)


def test_one_file_is_one_change_and_one_application_is_synced_once() -> None:
    """Several workloads of one file and one application, in two clusters."""
    whole = route(change("all"))
    found = with_changes(
        [
            item("cart"),
            item("search"),
            item("cart", cluster="test"),
            item("queue", owner="Flux", tool="flux", object="Kustomization/web"),
            item("store", owner="Helm", tool="", object=""),
            item("lost", owner="Argo CD", tool="", object=""),
        ],
        [whole],
    )
    result = roads(found, DIGEST)

    assert result["changes"] == [{"change": "all", "image": NAME, "digest": DIGEST}]
    assert [(one["cluster"], one["application"]) for one in result["applications"]] == [
        ("prod", "shop"),
        ("test", "shop"),
    ]
    assert result["flux"] == [
        {"cluster": "prod", "object": "Kustomization/web", "namespace": "shop", "change": "all"}
    ]
    assert len(result["awaited"]) == 6


def test_without_a_change_there_is_no_road() -> None:
    """What nobody may propose is asked of no tool and waited for by nobody."""
    result = roads(with_changes([item("cart")], []), DIGEST)
    assert result == {"changes": [], "applications": [], "flux": [], "awaited": []}


async def test_the_campaign_loads_where_there_is_neither_forge_nor_argo_cd(tmp_path: Path) -> None:
    """It names their actions for those who have them; who has none is not asked for them."""
    text = f"""
[store]
url = "sqlite:///{tmp_path}/responder.db"
[playbooks]
shipped = ["roll-out-everywhere"]
[clusters.prod]
api = "https://cluster.invalid"
"""
    (tmp_path / "config.toml").write_text(text)
    settings = load_settings(tmp_path / "config.toml", environ={})
    async with build(settings, idle=True) as app:
        assert "roll-out-everywhere" in app.service.core.live.by_name
        assert {"change.propose", "argocd.sync", "flux.notify"} <= set(app.catalogue)
