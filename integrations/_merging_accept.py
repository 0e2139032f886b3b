"""`change.merge`: have one proposed commit merged, never another, and never unchecked.

A person is asked each time. The commit is pinned in every request for a merge, so that what was
approved is what is merged. What the forge is not ready for is asked again; what only a person may
do there (a review, a queue) is waited for, with the reason.
"""

# ruff: noqa: ARG002 - the ports give these methods their parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from integrations._merging_forge import Repositories, Request, Standing, must_be
from integrations._merging_routes import place_of
from responder.errors import NotFound, StepFailed, StepRetry
from responder.model import Change, Effect, ObjectRef, Plan, Verdict, VerdictLevel
from responder.ports import (
    ActionInfo,
    Call,
    Done,
    ImageChange,
    ImageRoute,
    Param,
    Pending,
    Permission,
)

__all__ = ["MergeChange"]

_UNCHECKED = "the repository's own checks are not waited for: the image map says checks = false"


class MergeChange:
    """The action; see the module for what it promises. It never merges another commit."""

    info = ActionInfo(
        name="change.merge",
        summary="Have a proposed change merged once its checks have passed",
        effect=Effect.CHANGE,
        params={
            "image": Param(type="image", summary="image it is for; left out: the incident's own"),
            "change": Param(type="string", summary="entry of [[images.changes]], as proposed"),
            "request": Param(type="int", summary="number of the request; 0: none", required=True),
            "sha": Param(type="string", summary="the one commit that may be merged", required=True),
        },
        results={
            "request": Param(type="int", summary="number of the request"),
            "url": Param(type="string", summary="its page"),
            "sha": Param(type="string", summary="the commit that was merged"),
            "commit": Param(type="string", summary="what the target branch got"),
        },
        permissions=(
            Permission(
                system="github",
                resource="contents, pull_requests",
                verbs=("read", "write"),
                scope="repository",
                why="to merge the pull request",
            ),
            Permission(
                system="github",
                resource="checks, statuses",
                verbs=("read",),
                scope="repository",
                why="to see that the commit has passed",
            ),
            Permission(
                system="gitlab",
                resource="api",
                verbs=("read", "write"),
                scope="project",
                why="to merge the merge request",
            ),
        ),
        looks_up=True,
        always_asks=True,
        timeout=120.0,
        example={"request": "${{ steps.propose.request }}", "sha": "${{ steps.propose.sha }}"},
    )

    def __init__(self, forges: Mapping[str, Repositories], routes: Sequence[ImageRoute]) -> None:
        self.forges = dict(forges)
        self._routes = tuple(routes)

    async def plan(self, call: Call) -> Plan:
        """Which commit would go into which branch; raises `StepFailed` when it cannot.

        Request 0 is none: `change.propose` had nothing to propose, and nothing is merged.
        """
        place = self._place(call)
        number, sha = int(call.params["request"]), str(call.params["sha"])
        if number == 0:
            return Plan(action=self.info.name, summary="nothing was proposed: nothing to merge")
        forge = self._forge(place)
        try:
            found = await forge.look(place.repo, number)
        except NotFound as error:
            raise StepFailed(f"{place.repo} has no {forge.terms.request} {number}") from error
        must_be(found, sha)
        if found.target != place.branch:
            raise StepFailed(
                f"{forge.terms.request} {number} goes into another branch than {place.branch} of "
                f"the image map: {found.url}"
            )
        ref = ObjectRef(
            kind=forge.terms.kind,
            name=f"{place.repo}#{number}",
            system=f"{place.forge}:{place.repo}",
        )
        return Plan(
            action=self.info.name,
            summary=f"merge {sha[:12]} into {place.branch} of {place.repo}",
            changes=(Change(verb="merge", ref=ref, after={"sha": sha, "into": place.branch}),),
            residual=() if place.checks else (_UNCHECKED,),
            params={"request": number, "sha": sha, "target": place.branch, "change": place.name},
        )

    def _place(self, call: Call) -> ImageChange:
        return place_of(call, self._routes, proposing=False)

    def _forge(self, place: ImageChange) -> Repositories:
        try:
            return self.forges[place.forge]
        except KeyError:
            raise StepFailed(f"[forges.{place.forge}] is no longer in the configuration") from None

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Ask for the merge, pinned to the commit, once the commit's own checks are there.

        Asking twice merges once: the commit is pinned, and what is merged is not merged again.
        Raises `StepRetry` while the forge is not ready, `StepFailed` when it was closed or pushed
        to, or its checks have failed.
        """
        if not plan.changes:
            return Done(result={"request": 0, "url": "", "sha": "", "commit": ""})
        place = self._place(call)
        forge = self._forge(place)
        number, sha = int(plan.params["request"]), str(plan.params["sha"])
        return _seen(forge, place, await forge.merge(place.repo, number, sha, checks=place.checks))

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Look whether it was merged; raises `StepFailed` when it never will be."""
        place = self._place(call)
        forge = self._forge(place)
        number, sha = int(state["request"]), str(state["sha"])
        try:
            standing = await forge.follow(place.repo, number, sha, person=bool(state["person"]))
        except StepRetry as silent:
            return Pending(
                state=dict(state),
                after=max(silent.after, forge.poll),
                waiting_for=f"{forge.terms.request} {number}: {silent}",
                correlation=forge.hint(place.repo, number),
                person=bool(state["person"]),
            )
        return _seen(forge, place, standing)

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """It is merged, with this commit; raises `StepFailed` when not."""
        if not plan.changes:
            return Verdict(level=VerdictLevel.ENFORCED, checks={"merged": "nothing was proposed"})
        place = self._place(call)
        found = await self._forge(place).look(place.repo, int(result["request"]))
        if found.state != "merged" or found.sha != result["sha"]:
            raise StepFailed(f"expected to be merged, is {found.state}: {found.url}")
        return Verdict(
            level=VerdictLevel.ENFORCED,
            residual=() if place.checks else (_UNCHECKED,),
            checks={"merged": found.sha},
        )

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Not possible: raises `StepFailed` that says what can be done instead."""
        raise StepFailed(f"a merge is not taken back; revert it by another one: {result['url']}")


def _seen(forge: Repositories, place: ImageChange, standing: Standing) -> Done | Pending:
    found = standing.request
    if not standing.waiting_for:
        return Done(result=_result(found))
    return Pending(
        state={"request": found.number, "sha": found.sha, "person": standing.person},
        after=forge.poll,
        waiting_for=f"{forge.terms.request} {found.number}: {standing.waiting_for}",
        correlation=forge.hint(place.repo, found.number),
        person=standing.person,
    )


def _result(found: Request) -> dict[str, Any]:
    return {
        "request": found.number,
        "url": found.url,
        "sha": found.sha,
        "commit": found.commit,
    }
