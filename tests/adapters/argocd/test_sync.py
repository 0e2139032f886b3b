"""`argocd.sync`: what is asked for, what is waited for, and every way it can end."""

from typing import Any

import pytest

from responder.errors import StepFailed, StepRetry, Uncertain
from responder.model import VerdictLevel
from responder.ports import Pending
from tests.adapters.argocd.world import NEW, Bench, a_call, bench, shop
from tests.doubles.argo_contract import description, request_fault
from tests.doubles.argocd import COMMIT, OLD_COMMIT, REPO, App
from tests.doubles.contract import Asked
from tests.doubles.corpus import corpus


async def test_a_commit_is_synced_and_followed_until_the_live_object_has_the_image() -> None:
    """Pinned revision, nothing pruned, nothing forced; done only when healthy."""
    async with bench() as b:
        plan, done = await b.to_end(a_call(repo="git@git.example:acme/deploy"))
        verdict = await b.action.verify(a_call(), plan, done.result)

        assert plan.changes[0].to_json()["ref"]["system"] == "argocd:main"
        assert plan.summary == f"sync to {COMMIT[:12]} application shop"
        [order] = b.double.orders
        assert (order["revision"], order["prune"], order["dryRun"]) == (COMMIT, False, False)
        assert not {"strategy", "resources", "manifests"} & set(order)
        assert done.result["revision"] == COMMIT
        assert done.result["url"].endswith("/applications/shop")
        assert verdict.level is VerdictLevel.APPLIED
        assert verdict.checks["live object"] == f"Deployment/shop/cart names {NEW}"
        assert verdict.residual == ()


async def test_the_same_world_gives_the_same_plan_and_names_what_else_changes() -> None:
    """A sync is of the whole application: the other objects that differ are told before."""
    other = ("apps", "Deployment", "shop", "search")
    async with bench(shop(objects=[("apps", "Deployment", "shop", "cart"), other])) as b:
        plan = await b.action.plan(a_call())
        assert plan.hash == (await b.action.plan(a_call())).hash
        assert plan.residual == ("the sync changes Deployment shop/search too",)
        assert plan.undo == ""
        assert b.double.asked["sync"] == 0


REFUSALS: list[tuple[App, dict[str, Any], str]] = [
    (shop(), {"workload": "Deployment/other"}, "does not manage Deployment/shop/other"),
    (shop(), {"revision": "main"}, "revision 'main': expected a commit in full"),
    (shop(), {"revision": COMMIT[:12]}, "revision 'cccccccccccc': expected a commit in full"),
    (shop(), {"revision": None}, "revision: expected a commit in full"),
    (shop(), {"image": "registry.example/shop/cart:2"}, "expected repository@sha256"),
    (shop(), {"repo": "https://git.example/acme/other"}, "comes not from git.example/acme/other"),
    (shop(), {"application": "../session"}, "is no name that a Kubernetes object can have"),
    (shop(), {"application": "gone"}, "not there, or the token has no right to it"),
    (shop(), {"server": "mian"}, r"there is no \[argocd.mian\]"),
    (shop(automated={"prune": True}), {}, "has auto-sync: Argo CD brings main by itself"),
    (shop(automated={"selfHeal": True}), {}, "has auto-sync with self-heal"),
    (shop(can_sync=False), {}, "a sync window of its project is shut"),
    (
        shop(conditions=[{"type": "InvalidSpecError", "message": "repo is not permitted"}]),
        {},
        "InvalidSpecError: repo is not permitted",
    ),
    (
        shop(more={"metadata": {"deletionTimestamp": "2026-11-25T00:00:00Z"}}),
        {},
        "it is being deleted",
    ),
    (
        shop(more={"spec": {"sourceHydrator": {"drySource": {"repoURL": REPO}}}}),
        {},
        "its source is hydrated by Argo CD",
    ),
    (
        shop(sources=[{"repoURL": REPO, "path": "a"}, {"repoURL": "https://git.example/x/y"}]),
        {},
        "from several sources: say which repo is meant",
    ),
]


@pytest.mark.parametrize(("app", "change", "text"), REFUSALS, ids=[row[2] for row in REFUSALS])
async def test_what_must_not_be_synced_is_refused_with_the_reason(
    app: App, change: Any, text: str
) -> None:
    """In the plan, before anything is asked for."""
    async with bench(app) as b:
        with pytest.raises(StepFailed, match=text):
            await b.action.plan(a_call(**change))
        assert b.double.asked["sync"] == 0


async def test_applications_beyond_the_settings_are_never_looked_at() -> None:
    """The operator's globs bound it, whatever an annotation says."""
    async with bench(settings={"applications": ["bank-*"]}) as b:
        with pytest.raises(StepFailed, match="not among those"):
            await b.action.plan(a_call())
        assert b.double.asked.total() == 0


async def test_a_switched_off_automation_is_none() -> None:
    """`enabled: false` leaves the rest of the policy in place and syncs nothing."""
    async with bench(shop(automated={"enabled": False, "selfHeal": True})) as b:
        _, done = await b.to_end(a_call())
        assert done.result["revision"] == COMMIT


async def test_one_of_several_sources_is_pinned_by_its_position() -> None:
    """The others keep what the application says."""
    sources = [{"repoURL": "https://git.example/x/values"}, {"repoURL": REPO, "path": "shop"}]
    app = shop(sources=sources, images={})
    async with bench(app) as b:
        _, pending = await b.apply(a_call(repo=REPO, image=None, workload=None))
        done = await b.follow(a_call(), pending)
        [order] = b.double.orders
        assert (order["revisions"], order["sourcePositions"]) == ([COMMIT], ["2"])
        assert "revision" not in order
        assert done.result["revision"] == COMMIT


async def test_an_operation_of_somebody_else_is_waited_for() -> None:
    """Named in the plan, and refused by Argo CD itself when it begins in between."""
    theirs = {"sync": {"revision": OLD_COMMIT}, "initiatedBy": {"username": "mia"}}
    app = shop(script=("Running",) * 50)
    async with bench(app) as b:
        plan = await b.action.plan(a_call())
        app.ask(theirs)
        with pytest.raises(StepRetry, match="another operation is already in progress"):
            await b.action.apply(a_call(), plan)
        with pytest.raises(StepRetry, match=f"a sync to {OLD_COMMIT} by mia goes on"):
            await b.action.plan(a_call())
        assert not b.double.syncs


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (("Running", "Failed"), "the sync ended Failed: sync failed"),
        (("Running", "Error"), "the sync ended Error: sync error"),
        (("Succeeded/Synced/Degraded",), r"is degraded \(Deployment cart\)"),
        (("Succeeded/Synced/Suspended",), "is suspended: somebody has to resume it"),
        (("Succeeded/OutOfSync/Missing",), "lacks objects that its source has"),
    ],
)
async def test_a_sync_that_ends_ill_fails_with_argo_cds_reason(script: Any, text: str) -> None:
    """Degraded, suspended or missing for longer than it may take to pass."""
    async with bench(shop(script=script)) as b:
        with pytest.raises(StepFailed, match=text):
            await b.to_end(a_call())


async def test_what_is_ill_for_a_moment_may_get_well() -> None:
    """A rollout is degraded while its first pod is pulled again, and then is not."""
    flicker = ("Succeeded/Synced/Degraded", "Succeeded/Synced/Progressing")
    async with bench(shop(script=(*flicker, "Succeeded/Synced/Healthy"))) as b:
        _, done = await b.to_end(a_call())
        assert done.result["revision"] == COMMIT


@pytest.mark.parametrize("script", [("Running",) * 500, ("Succeeded/Synced/Progressing",) * 500])
async def test_what_never_ends_has_failed_when_its_time_is_over(script: Any) -> None:
    """The wait is bounded, and its end says what was seen last."""
    async with bench(shop(script=script), settings={"within": 0.5}) as b:
        with pytest.raises(StepFailed, match=r"was not well within 0\.5 s: sync"):
            await b.to_end(a_call())


async def test_health_from_before_the_end_of_the_sync_is_not_believed() -> None:
    """Right after it the old "healthy" still stands; only a fresh comparison counts."""
    app = shop(script=("Succeeded", "Succeeded/Synced/Healthy"))
    app.compared = app.compared.replace(year=2025)
    async with bench(app) as b:
        _, pending = await b.apply(a_call())
        first = await b.action.poll(a_call(), pending.state)
        assert isinstance(first, Pending)
        assert "not compared afresh" in first.waiting_for
        await b.follow(a_call(), first)


async def test_a_sync_of_another_revision_than_the_asked_one_fails() -> None:
    """What was approved is what has to run."""
    async with bench(shop(syncs_to="d" * 40)) as b:
        with pytest.raises(StepFailed, match=f"was of {'d' * 40}, not {COMMIT}"):
            await b.to_end(a_call())


async def test_a_live_object_without_the_image_fails_the_verdict() -> None:
    """The commit was synced and did not bring the digest: somebody proposed the wrong line."""
    async with bench(shop(images={})) as b:
        plan, done = await b.to_end(a_call())
        with pytest.raises(StepFailed, match=f"expected {NEW}, got registry.example/shop/cart:1"):
            await b.action.verify(a_call(), plan, done.result)


async def test_a_source_that_moved_on_stays_open() -> None:
    """Synced as asked; the branch has another commit by now."""
    async with bench(shop(script=("Succeeded/OutOfSync/Healthy",))) as b:
        plan, done = await b.to_end(a_call())
        verdict = await b.action.verify(a_call(), plan, done.result)
        assert verdict.residual == ("its source has moved on since the sync",)


# --------------------------------------------------------------------------- syncs by itself


async def itself(b: Bench, app: App, *scenes: str) -> Pending:
    """Plan and apply with a wait; then Argo CD's own controller plays its scenes."""
    call = a_call(wait_if_automated=True)
    plan, pending = await b.apply(call)
    assert plan.changes == ()
    app.script = scenes
    app.ask({"sync": {"revision": COMMIT}, "initiatedBy": {"automated": True}})
    return pending


async def test_one_that_syncs_by_itself_is_waited_for_and_never_asked() -> None:
    """A fresh comparison is asked for, and the image decides."""
    app = shop(automated={"selfHeal": True})
    async with bench(app) as b:
        pending = await itself(b, app, "Running", "Succeeded/Synced/Healthy")
        done = await b.follow(a_call(wait_if_automated=True), pending)
        assert done.result["application"] == "shop"
        assert b.double.asked["sync"] == 0
        assert app.revision == COMMIT


async def test_one_that_syncs_by_itself_and_fails_is_no_success() -> None:
    """Its failed sync is not repeated for the same commit, so waiting longer helps nobody."""
    app = shop(automated={}, message="admission webhook denied the request")
    async with bench(app) as b:
        pending = await itself(b, app, "Running", "Failed/OutOfSync/Healthy")
        with pytest.raises(StepFailed, match="admission webhook denied"):
            await b.follow(a_call(wait_if_automated=True), pending)


async def test_one_that_never_comes_has_failed_when_its_time_is_over() -> None:
    """Synced to the old commit for ever: the pull request was not merged, or not seen."""
    app = shop(automated={}, sync="Synced")
    async with bench(app, settings={"within": 0.5}) as b:
        call = a_call(wait_if_automated=True)
        _, pending = await b.apply(call)
        with pytest.raises(StepFailed, match="waits for Argo CD to see the image"):
            await b.follow(call, pending)


async def test_there_is_no_undo() -> None:
    """Going back would be undone by the next sync; the way is said instead."""
    async with bench() as b:
        plan, done = await b.to_end(a_call())
        with pytest.raises(StepFailed, match="revert the commit"):
            await b.action.undo(a_call(), plan, done.result)


async def test_our_sync_that_is_not_there_asks_a_person() -> None:
    """Somebody deleted the operation; whether it acted nobody can say."""
    app = shop(script=("Running",) * 50)
    async with bench(app, settings={"settle": 0}) as b:
        _, pending = await b.apply(a_call())
        app.operation, app.state, app.playing = None, None, []
        with pytest.raises(Uncertain, match="no sync of ours is there"):
            await b.follow(a_call(), pending)


async def test_a_later_sync_that_took_our_place_does_not_hide_that_ours_ended_well() -> None:
    """The history says so."""
    app = shop(script=("Succeeded/Synced/Healthy",))
    async with bench(app) as b:
        _, pending = await b.apply(a_call())
        app.look()
        app.state = {"operation": {"sync": {"revision": "e" * 40}}, "phase": "Succeeded"}
        done = await b.follow(a_call(), pending)
        assert done.result["revision"] == COMMIT


@pytest.mark.skipif(corpus() is None, reason="the corpus of descriptions is not there")
def test_the_description_finds_a_misspelt_field() -> None:
    """The check of the double can fail: it is made stricter than the description itself."""
    assert description() is not None
    path = "/api/v1/applications/shop/sync"
    kind = {"Content-Type": "application/json"}
    good = Asked("POST", path, [], kind, b'{"revision": "x"}', "http://argocd.example")
    bad = Asked("POST", path, [], kind, b'{"revison": "x"}', "http://argocd.example")
    assert request_fault(good) == ""
    assert "revison" in request_fault(bad)
