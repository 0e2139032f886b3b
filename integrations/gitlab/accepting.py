"""`gitlab.merge_request`: have a merge request merged when its pipeline has succeeded.

Three traps of GitLab's, each seen in the field:

* Asked before the pipeline of the commit exists, it has merged at once and waited for nothing
  (https://gitlab.com/gitlab-org/gitlab/-/work_items/37292). So it is asked only once there is one,
  and always with the commit that was approved.
* Right after a merge request was made it answers 405
  (https://gitlab.com/gitlab-org/gitlab/-/issues/353984). So its status is waited for first.
* `merge_when_pipeline_succeeds` became `auto_merge` in 17.11
  (https://gitlab.com/gitlab-org/gitlab/-/issues/521291). Both are sent.
"""

# ruff: noqa: ARG002 - the ports give these methods their parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from integrations.gitlab.client import Client, project_path
from integrations.gitlab.merging import route_of
from integrations.gitlab.states import hint_of, judge
from responder.clock import SECOND, World
from responder.errors import Conflict, NotFound, StepFailed, StepRetry, Uncertain
from responder.model import Change, Effect, ObjectRef, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, ImageRoute, Param, Pending, Permission

__all__ = ["MergeRequest"]

# https://docs.gitlab.com/api/merge_requests/#merge-status
_UNSETTLED = {"checking", "unchecked", "preparing", "approvals_syncing"}


class MergeRequest:
    """The action; see the module for what it promises. It never merges another commit."""

    info = ActionInfo(
        name="gitlab.merge_request",
        summary="Have a GitLab merge request merged once its pipeline has succeeded",
        effect=Effect.CHANGE,
        params={
            "image": Param(type="image", summary="image it is for; left out: the incident's own"),
            "request": Param(type="int", summary="number of the merge request", required=True),
            "sha": Param(type="string", summary="the one commit that may be merged", required=True),
        },
        results={
            "request": Param(type="int", summary="number of the merge request"),
            "url": Param(type="string", summary="its page"),
            "sha": Param(type="string", summary="the commit that was merged"),
        },
        permissions=(
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

    def __init__(
        self, clients: Mapping[str, Client], routes: Sequence[ImageRoute], world: World
    ) -> None:
        self._clients = dict(clients)
        self._routes = tuple(routes)
        self._world = world

    async def plan(self, call: Call) -> Plan:
        """Which commit would go into which branch; raises `StepFailed` when it cannot."""
        client, route = route_of(call, self._clients, self._routes)
        number, sha = int(call.params["request"]), str(call.params["sha"])
        try:
            found = await self._look(client, route, number)
        except NotFound as error:
            raise StepFailed(f"{route.repo} has no merge request {number}") from error
        _must_be(found, sha)
        target = str(found["target_branch"])
        ref = ObjectRef(
            kind="MergeRequest",
            name=f"{route.repo}!{number}",
            system=f"{route.forge}:{route.repo}",
        )
        return Plan(
            action=self.info.name,
            summary=f"merge {sha[:12]} into {target} of {route.repo}",
            changes=(Change(verb="merge", ref=ref, after={"sha": sha, "into": target}),),
            params={"request": number, "sha": sha, "target": target},
        )

    async def _look(self, client: Client, route: ImageRoute, number: int) -> Any:
        path = f"{project_path(route.repo)}/merge_requests/{number}"
        return await client.get(f"look at merge request {number}", path)

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Ask for the merge, pinned to the commit, once the commit's own pipeline is there.

        Asking twice merges once: the commit is pinned, and what is merged is not merged again.
        Raises `StepRetry` while GitLab is not ready, `StepFailed` when it was closed or pushed to.
        """
        client, route = route_of(call, self._clients, self._routes)
        number, sha = int(plan.params["request"]), str(plan.params["sha"])
        found = await self._settled(client, route, number, sha)
        if found["state"] == "merged" or found.get("merge_when_pipeline_succeeds"):
            return self._seen(client, route, found)
        order = {"auto_merge": True, "merge_when_pipeline_succeeds": True, "sha": sha}
        path = f"{project_path(route.repo)}/merge_requests/{number}/merge"
        try:
            found = await client.put(f"merge merge request {number}", path, order)
        except (Conflict, Uncertain) as error:
            _must_be(await self._look(client, route, number), sha)
            raise StepRetry(
                f"{error}; it is looked at again", after=client.settings.poll
            ) from error
        return self._seen(client, route, found)

    async def _settled(self, client: Client, route: ImageRoute, number: int, sha: str) -> Any:
        """The merge request once GitLab has made up its mind and the commit has a pipeline."""
        ends = self._world.clock.now() + int(client.settings.settle * SECOND)
        while True:
            found = await self._look(client, route, number)
            _must_be(found, sha)
            head = found.get("head_pipeline") or {}
            status = found.get("detailed_merge_status")
            if found["state"] == "merged" or (head.get("sha") == sha and status not in _UNSETTLED):
                return found
            if self._world.clock.now() >= ends:
                what = f"is {status}" if head else "has no pipeline of this commit yet"
                raise StepRetry(f"merge request {number} {what}", after=client.settings.poll)
            await self._world.clock.sleep(max(0.1, client.settings.settle / 15))

    def _seen(self, client: Client, route: ImageRoute, found: Mapping[str, Any]) -> Done | Pending:
        number, sha = int(found["iid"]), str(found["sha"])
        if found["state"] == "merged":
            return Done(result={"request": number, "url": str(found["web_url"]), "sha": sha})
        state = judge(str((found.get("head_pipeline") or {}).get("status") or ""))
        return Pending(
            state={"request": number, "sha": sha},
            after=client.settings.poll,
            waiting_for=f"merge request {number} (its pipeline: {state.words})",
            correlation=hint_of(route.repo, f"!{number}"),
        )

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Look whether it was merged; raises `StepFailed` when auto-merge was dropped."""
        client, route = route_of(call, self._clients, self._routes)
        found = await self._look(client, route, int(state["request"]))
        _must_be(found, str(state["sha"]))
        if found["state"] == "opened" and not found.get("merge_when_pipeline_succeeds"):
            ended = judge(str((found.get("head_pipeline") or {}).get("status") or ""))
            raise StepFailed(
                f"GitLab gave the merge up, its pipeline {ended.words}: {found['web_url']}"
            )
        return self._seen(client, route, found)

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """It is merged, with this commit; raises `StepFailed` when not."""
        client, route = route_of(call, self._clients, self._routes)
        found = await self._look(client, route, int(result["request"]))
        if found["state"] != "merged" or found["sha"] != result["sha"]:
            raise StepFailed(f"expected to be merged, is {found['state']}: {result['url']}")
        return Verdict(level=VerdictLevel.ENFORCED, checks={"merged": str(found["sha"])})

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Not possible: raises `StepFailed` that says what can be done instead."""
        raise StepFailed(f"a merge is not taken back; revert it by another one: {result['url']}")


def _must_be(found: Mapping[str, Any], sha: str) -> None:
    """Open or merged, and with this commit; raises `StepFailed`."""
    if found["state"] == "closed":
        raise StepFailed(f"the merge request was closed by somebody: {found['web_url']}")
    if found["sha"] != sha:
        raise StepFailed(f"somebody has pushed to the merge request: {found['web_url']}")
