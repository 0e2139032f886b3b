"""`change.propose` asks for one change, exactly once, and says what it is not; on both forges."""

import asyncio
from typing import Any

import pytest

from responder.errors import Conflict, StepFailed, StepRetry
from responder.ports import ImageChange
from tests.adapters.forges.world import (
    DIGEST,
    IMAGE,
    KINDS,
    NEW_BASE,
    OLD_BASE,
    OLD_DIGEST,
    PRODUCTION,
    TOKEN,
    a_call,
    forge,
)
from tests.doubles.faults import Fault
from tests.doubles.gitstore import VALUES

pytestmark = pytest.mark.parametrize("kind", KINDS)


async def test_a_digest_is_proposed_where_the_image_map_says(kind: str) -> None:
    """One branch, one commit, one request; every other byte of the file is as it was."""
    async with forge(kind) as f, f.life() as life:
        call = a_call()
        plan = await life.propose.plan(call)
        assert plan.hash == (await life.propose.plan(call)).hash
        assert plan.changes[0].before == {PRODUCTION.file: [f"    digest: {OLD_DIGEST}"]}
        assert plan.changes[0].after == {PRODUCTION.file: [f"    digest: {DIGEST}"]}
        done = await life.propose.apply(call, plan)
        assert f.proposed() == VALUES.replace(OLD_DIGEST, DIGEST)
        assert done.result["request"] == 1
        assert (done.result["change"], done.result["repo"]) == ("production", "acme/shop")
        verdict = await life.propose.verify(call, plan, done.result)
        assert verdict.level == "applied"
        assert "before it is merged" in verdict.residual[0]
        assert f.git.at("main", PRODUCTION.file) == VALUES


async def test_another_base_changes_the_lines_that_choose_it_and_no_other(kind: str) -> None:
    """`base:1` is no part of `base:1.2`; a comment or a command is no base."""
    async with forge(kind, change=None) as f, f.life() as life:
        call = a_call(base=NEW_BASE, instead_of=OLD_BASE)
        plan = await life.propose.plan(call)
        assert plan.changes[0].before == {
            "Dockerfile": [f"ARG BASE={OLD_BASE}", f"FROM {OLD_BASE}"]
        }
        await life.propose.apply(call, plan)
        [branch] = f.git.own()
        assert (f.git.at(branch, "Dockerfile") or "").splitlines() == [
            f"ARG BASE={NEW_BASE}",
            "FROM registry.example/base:1.2 AS tools",
            f"# not this one: {OLD_BASE}",
            f"FROM {NEW_BASE}",
            f"RUN echo {OLD_BASE}",
        ]


async def test_whoever_wants_the_same_means_the_same_request(kind: str) -> None:
    """Two elements of one step, at the same time, with keys of their own."""
    async with forge(kind) as f, f.life() as life:
        calls = [a_call(key=f"run_01j9/propose[{n}]") for n in range(2)]
        plans = [await life.propose.plan(call) for call in calls]

        async def one(at: int) -> Any:
            while True:
                try:
                    return (await life.propose.apply(calls[at], plans[at])).result
                except StepRetry:
                    await asyncio.sleep(0.05)

        results = await asyncio.gather(one(0), one(1))
        assert results[0] == results[1]
        assert (f.made["push"], f.made["open"]) == (1, 1)
        assert len(f.git.own()) == 1


async def test_what_the_file_says_already_is_not_proposed(kind: str) -> None:
    """The plan is empty, the result is request 0, and merging that does nothing."""
    async with forge(kind) as f, f.life() as life:
        f.git.edit(PRODUCTION.file, VALUES.replace(OLD_DIGEST, DIGEST))
        plan = await life.propose.plan(a_call())
        assert not plan.changes
        done = await life.propose.apply(a_call(), plan)
        assert done.result["request"] == 0
        assert (await life.propose.verify(a_call(), plan, done.result)).level == "enforced"
        merge = a_call("merge", request=0, sha="", change="production")
        nothing = await life.merge.plan(merge)
        assert not nothing.changes
        assert (await life.merge.apply(merge, nothing)).result["request"] == 0  # type: ignore[union-attr]
        assert not f.made


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"digest": "sha256:1"}, "expected sha256"),
        ({"digest": DIGEST, "change": "staging"}, '"staging" is not there.*production'),
        ({"digest": DIGEST, "image": "registry.example/bank/vault:1"}, "no line of"),
        ({"digest": DIGEST, "image": "registry.example/shop/web:1"}, "names another image"),
        ({"base": NEW_BASE, "instead_of": "registry.example/o:1"}, "builds on no registry"),
        ({"base": "registry.example/base:2", "instead_of": OLD_BASE}, "a tag may move"),
        ({"base": NEW_BASE, "instead_of": "x y"}, "is no image name"),
        ({"base": NEW_BASE, "instead_of": OLD_BASE, "file": "../x"}, "a path inside"),
        ({"base": NEW_BASE, "instead_of": OLD_BASE, "file": "gone"}, "has no gone at main"),
    ],
)
async def test_what_cannot_be_proposed_is_said_in_the_plan(
    kind: str, params: dict[str, Any], text: str
) -> None:
    """The image map bounds it, and only a digest is proposed."""
    async with forge(kind) as f, f.life() as life:
        with pytest.raises(StepFailed, match=text):
            await life.propose.plan(a_call(**params))
        assert not f.made


async def test_a_file_that_changed_since_the_plan_asks_for_a_new_plan(kind: str) -> None:
    """What was approved is what is committed."""
    async with forge(kind) as f, f.life() as life:
        plan = await life.propose.plan(a_call())
        f.git.edit(PRODUCTION.file, VALUES + "# more\n")
        with pytest.raises(Conflict, match="has changed since the plan"):
            await life.propose.apply(a_call(), plan)
        assert not f.made


async def test_a_branch_that_holds_another_text_is_not_taken_for_ours(kind: str) -> None:
    """Whoever could guess the name could have us propose what nobody approved."""
    async with forge(kind) as f, f.life() as life:
        plan = await life.propose.plan(a_call())
        more = VALUES.replace(OLD_DIGEST, DIGEST) + "sidecar: evil.example/x:1\n"
        f.git.push(str(plan.params["branch"]), f.git.branches["main"], PRODUCTION.file, more)
        with pytest.raises(StepFailed, match="holds another text of shop"):
            await life.propose.apply(a_call(), plan)
        assert f.made["open"] == 0


async def test_a_request_that_changes_more_than_the_file_is_told(kind: str) -> None:
    """A second file in the branch is nobody's plan."""
    async with forge(kind) as f, f.life() as life:
        plan = await life.propose.plan(a_call())
        branch, main = str(plan.params["branch"]), f.git.branches["main"]
        evil = f.git.push(branch, main, "evil.yaml", "x: 1\n")
        f.git.push(branch, evil, PRODUCTION.file, VALUES.replace(OLD_DIGEST, DIGEST))
        done = await life.propose.apply(a_call(), plan)
        with pytest.raises(StepFailed, match="proposes more than"):
            await life.propose.verify(a_call(), plan, done.result)


async def test_undo_closes_it_and_leaves_alone_what_others_changed(kind: str) -> None:
    """A closed one is not opened again, a merged or pushed one is not touched."""
    async with forge(kind) as f, f.life() as life:
        call = a_call()
        plan = await life.propose.plan(call)
        done = await life.propose.apply(call, plan)
        kept = {
            **f.requests[0],
            **({"head": dict(f.requests[0]["head"])} if kind == "github" else {}),
        }
        f.push()
        with pytest.raises(Conflict, match="not as we left it"):
            await life.propose.undo(call, plan, done.result)
        with pytest.raises(StepFailed, match="somebody has pushed"):
            await life.propose.verify(call, plan, done.result)
        f.requests[0].update(kept)
        await life.propose.undo(call, plan, done.result)
        await life.propose.undo(call, plan, done.result)
        assert f.made["close"] == 1
        with pytest.raises(StepFailed, match="was closed by somebody"):
            await life.propose.apply(call, plan)


async def test_a_merged_one_that_was_taken_back_since_is_told(kind: str) -> None:
    """Merged is not enough: the branch must still say it."""
    async with forge(kind) as f, f.life() as life:
        call = a_call()
        plan = await life.propose.plan(call)
        await life.propose.apply(call, plan)
        f.merge()
        assert (await life.propose.apply(call, plan)).result["request"] == 1
        f.git.edit(PRODUCTION.file, VALUES)
        with pytest.raises(StepFailed, match="merged once and taken back"):
            await life.propose.apply(call, plan)
        assert f.made["open"] == 1


async def test_no_credential_and_nothing_of_an_alert_gets_into_the_request(kind: str) -> None:
    """Title, text, branch and commit hold checked words only."""
    async with forge(kind) as f, f.life() as life:
        call = a_call(run=f"run_{TOKEN}", step="<script>", digest=DIGEST)
        plan = await life.propose.plan(call)
        await life.propose.apply(call, plan)
        told = f"{f.requests[0]['title']} {f.body} {f.git.own()}"
        assert IMAGE in told
        assert "#42" in told
        for part in (TOKEN, TOKEN[4:], "<script>", "run_"):
            assert part not in told
            assert part not in repr(plan)


async def test_a_dockerfile_entry_of_another_repository_is_bounded_alike(kind: str) -> None:
    """An entry's repository that the credential does not see is told, not guessed."""
    gone = ImageChange(
        name="base", forge="forge", repo="acme/gone", branch="main", file="Dockerfile",
        kind="dockerfile",
    )  # fmt: skip
    async with forge(kind, change=gone) as f, f.life() as life:
        call = a_call(base=NEW_BASE, instead_of=OLD_BASE, change="base")
        with pytest.raises(StepFailed, match="acme/gone has no Dockerfile"):
            await life.propose.plan(call)


async def test_a_request_from_a_fork_with_the_same_branch_is_not_taken_for_ours(kind: str) -> None:
    """Anybody may propose from a fork of theirs, under any name."""
    async with forge(kind) as f, f.life() as life:
        plan = await life.propose.plan(a_call())
        first = await life.propose.apply(a_call(), plan)
        [one] = f.requests
        if kind == "github":
            one["head"]["repo"] = {**one["head"]["repo"], "full_name": "acme/fork"}
        else:
            one["source_project_id"] = 99
        one["state"] = "closed"
        done = await life.propose.apply(a_call(), plan)
        assert done.result["request"] == first.result["request"] + 1


async def test_changes_that_are_not_counted_yet_are_waited_for(kind: str) -> None:
    """A verdict is given on what was seen."""
    async with forge(kind) as f, f.life() as life:
        plan = await life.propose.plan(a_call())
        done = await life.propose.apply(a_call(), plan)
        f.requests[0].update({"changed_files": 0, "changes_count": None})
        with pytest.raises(StepRetry, match="does not show its changes yet"):
            await life.propose.verify(a_call(), plan, done.result)


async def test_a_branch_that_shows_up_late_is_waited_for(kind: str) -> None:
    """A replica that has not heard of it yet is no reason to end."""
    async with forge(kind) as f:
        f.git.hide_branches_for = 4
        done = await f.proposed_by(a_call(), lives=9)
        assert done.result["request"] == 1
        assert (f.made["push"], f.made["open"], len(f.git.own())) == (1, 1, 1)


@pytest.mark.parametrize("knob", ["hide_requests_for", "hide"])
async def test_a_list_that_is_behind_makes_no_second_one(kind: str, knob: str) -> None:
    """The forge's own refusal is what counts, and is waited for."""
    async with forge(kind) as f:
        where = "open" if knob == "hide_requests_for" else ("fork" if kind == "github" else "push")
        f.double.faults.arm(where, Fault.ERROR_AFTER)
        if knob == "hide_requests_for":
            f.part.hide_requests_for = 3
        else:
            f.git.hide_branches_for = 3
        done = await f.proposed_by(a_call(), lives=9)
        assert done.result["request"] == 1
        assert (f.made["push"], f.made["open"], len(f.git.own())) == (1, 1, 1)
        assert f.lives > 1
