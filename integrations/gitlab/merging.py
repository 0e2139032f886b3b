"""`gitlab.open_merge_request`: propose another base image, once.

Nothing is merged here and nothing is pushed to a branch of others. Branch and commit are made in
one request, under a name that comes from the step's key, so that GitLab itself refuses a second
one; and it takes one open merge request per branch only. So each write may be repeated safely, and
what an earlier attempt has made is found first.

https://docs.gitlab.com/api/commits/#create-a-commit-with-multiple-files-and-actions
https://docs.gitlab.com/api/merge_requests/#create-mr
"""

# ruff: noqa: ARG002 - the ports give these methods their parameters

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

from integrations._forge import correlation_base
from integrations._images import parse_image
from integrations.gitlab.client import Client, project_path
from responder.errors import Conflict, NotFound, StepFailed, StepRetry, Uncertain
from responder.model import Change, Effect, ObjectRef, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, ImageRoute, Param, Pending, Permission

__all__ = ["OpenMergeRequest", "route_of"]

_FILE_MAX = 256 << 10
_UNMERGED = "nothing is built on it before a person has merged it"
# Lines that choose a base: FROM, and ARG with a default (https://docs.docker.com/reference/dockerfile/)
_CHOOSES = re.compile(r"^\s*(FROM|ARG)\s", re.IGNORECASE)


class OpenMergeRequest:
    """The action; see the module for what it promises. The image map alone chooses the project."""

    info = ActionInfo(
        name="gitlab.open_merge_request",
        summary="Propose another base image to the GitLab project that the image map names",
        effect=Effect.CHANGE,
        params={
            "image": Param(type="image", summary="image to mend; left out: the incident's own"),
            "file": Param(type="string", summary="file that names the base", default="Dockerfile"),
            "base": Param(type="image", summary="new base, by digest", required=True),
            "instead_of": Param(
                type="string", summary="base as the file names it now", required=True
            ),
        },
        results={
            "request": Param(type="int", summary="number of the merge request in its project"),
            "url": Param(type="string", summary="its page"),
            "sha": Param(type="string", summary="the one commit that it proposes"),
            "branch": Param(type="string", summary="its branch"),
        },
        permissions=(
            Permission(
                system="gitlab",
                resource="api",
                verbs=("read", "write"),
                scope="project",
                why="to commit to a branch of its own and open the merge request",
            ),
        ),
        undoable=True,
        looks_up=True,
        timeout=120.0,
        example={
            "base": f"registry.example/base@sha256:{'a' * 64}",
            "instead_of": "registry.example/base:1",
        },
    )

    def __init__(self, clients: Mapping[str, Client], routes: Sequence[ImageRoute]) -> None:
        self._clients = dict(clients)
        self._routes = tuple(routes)

    async def plan(self, call: Call) -> Plan:
        """Read the file at the route's ref, and say which lines would change.

        Raises `StepFailed` when no route matches, or the file does not name the old base.
        """
        client, route = self._route(call)
        file, base, old = self._asked(call)
        found = await self._read(client, route, file)
        pairs = zip(
            found.text.splitlines(), _bumped(found.text, old, base).splitlines(), strict=True
        )
        lines = [(before, after) for before, after in pairs if before != after]
        if not lines:
            raise StepFailed(f"{file} of {route.repo} builds on no {old}; look at instead_of")
        branch = f"responder/{correlation_base(call.key)}"
        ref = ObjectRef(
            kind="MergeRequest",
            name=f"{route.repo}/{branch}",
            system=f"{route.forge}:{route.repo}",
        )
        change = Change(
            verb="create",
            ref=ref,
            before={file: [before for before, _ in lines]},
            after={file: [after for _, after in lines]},
            precondition={"commit": found.commit, "file": found.changed},
        )
        return Plan(
            action=self.info.name,
            summary=f"propose {base} as base of {route.repo}",
            changes=(change,),
            residual=(_UNMERGED,),
            params={"branch": branch, "target": route.ref, "file": file, "base": base, "old": old},
        )

    def _route(self, call: Call) -> tuple[Client, ImageRoute]:
        return route_of(call, self._clients, self._routes)

    @staticmethod
    def _asked(call: Call) -> tuple[str, str, str]:
        """File, new base, old base; checked, because they get into a commit."""
        file = str(call.params.get("file") or "Dockerfile")
        if any(part in {"", ".", ".."} for part in file.split("/")) or not file.isprintable():
            raise StepFailed("file: expected a path inside the repository")
        base = parse_image(str(call.params.get("base") or ""))
        if not base.digest:
            raise StepFailed("base: expected a reference with a digest: a tag may move")
        old = str(call.params.get("instead_of") or "")
        parse_image(old)
        return file, f"{base.name}@{base.digest}", old

    async def _read(self, client: Client, route: ImageRoute, file: str) -> _File:
        place = f"{project_path(route.repo)}/repository/files/{quote(file, safe='')}"
        try:
            found = await client.get(f"read {file} of {route.repo}", place, ref=route.ref)
        except NotFound as error:
            raise StepFailed(f"{route.repo} has no {file} at {route.ref}") from error
        if int(found.get("size") or 0) > _FILE_MAX:
            raise StepFailed(f"{file} of {route.repo} is longer than {_FILE_MAX} bytes")
        try:
            text = base64.b64decode(str(found["content"]), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise StepFailed(f"{file} of {route.repo} is no text") from error
        return _File(text, str(found["commit_id"]), str(found["last_commit_id"]))

    # ------------------------------------------------------------------ apply

    async def apply(self, call: Call, plan: Plan) -> Done:
        """Make the branch with its commit, then the merge request; what is there is adopted.

        Raises `Conflict` when the file has changed since the plan, `StepRetry` when an answer was
        lost (the next try looks first), `StepFailed` when a person closed the merge request.
        """
        client, route = self._route(call)
        branch = str(plan.params["branch"])
        try:
            found = await self._opened(client, route, branch)
            if found is None:
                await self._branch(client, route, plan)
                found = await self._open(client, route, plan)
        except Uncertain as lost:
            raise StepRetry(f"{lost}; the next try looks whether it was made") from lost
        if found["state"] == "closed":
            raise StepFailed(f"the merge request was closed by somebody: {found['web_url']}")
        return Done(
            result={
                "request": int(found["iid"]),
                "url": str(found["web_url"]),
                "sha": str(found["sha"]),
                "branch": branch,
            }
        )

    async def _opened(self, client: Client, route: ImageRoute, branch: str) -> Any:
        path = f"{project_path(route.repo)}/merge_requests"
        what = f"look for the merge request of {branch}"
        listed = await client.get(what, path, source_branch=branch, state="all")
        return listed[0] if listed else None

    async def _branch(self, client: Client, route: ImageRoute, plan: Plan) -> None:
        base, branch = project_path(route.repo), str(plan.params["branch"])
        try:
            await client.get(
                f"look for {branch}", f"{base}/repository/branches/{quote(branch, safe='')}"
            )
        except NotFound:
            file = str(plan.params["file"])
            found = await self._read(client, route, file)
            if found.changed != plan.changes[0].precondition["file"]:
                raise Conflict(f"{file} of {route.repo} has changed since the plan") from None
            action = {
                "action": "update",
                "file_path": file,
                "content": _bumped(found.text, str(plan.params["old"]), str(plan.params["base"])),
                "last_commit_id": found.changed,
            }
            order = {
                "branch": branch,
                "start_sha": found.commit,
                "commit_message": _title(plan),
                "actions": [action],
            }
            await client.post(f"commit to {branch}", f"{base}/repository/commits", order)

    async def _open(self, client: Client, route: ImageRoute, plan: Plan) -> Any:
        branch = str(plan.params["branch"])
        order = {
            "source_branch": branch,
            "target_branch": str(plan.params["target"]),
            "title": _title(plan),
            "description": f"Replaces {plan.params['old']} in {plan.params['file']}.",
            "remove_source_branch": True,
        }
        path = f"{project_path(route.repo)}/merge_requests"
        try:
            return await client.post(f"open the merge request of {branch}", path, order)
        except Conflict:  # there is one: GitLab takes one open request per branch
            found = await self._opened(client, route, branch)
            if found is None:
                raise
            return found

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: `apply` ends it."""
        raise StepFailed("gitlab.open_merge_request waits for nothing")

    # ------------------------------------------------------------------ afterwards

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """The merge request is there and proposes our commit still; nothing is built on it yet."""
        client, route = self._route(call)
        found = await self._now(client, route, result)
        if found["state"] not in {"opened", "merged", "locked"}:
            raise StepFailed(f"the merge request is {found['state']}: {result['url']}")
        if found["sha"] != result["sha"]:
            raise StepFailed(f"somebody has pushed to {result['branch']}: {result['url']}")
        residual = () if found["state"] == "merged" else (_UNMERGED,)
        checks = {"merge request": str(found["state"]), "sha": str(found["sha"])}
        return Verdict(level=VerdictLevel.APPLIED, residual=residual, checks=checks)

    async def _now(self, client: Client, route: ImageRoute, result: Mapping[str, Any]) -> Any:
        path = f"{project_path(route.repo)}/merge_requests/{result['request']}"
        return await client.get(f"look at merge request {result['request']}", path)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Close it; the branch stays. Raises `Conflict` when it was merged or pushed to."""
        client, route = self._route(call)
        found = await self._now(client, route, result)
        if found["state"] == "closed":
            return Done(result=dict(result))
        if found["state"] != "opened" or found["sha"] != result["sha"]:
            raise Conflict(f"the merge request is {found['state']}, not as we left it")
        path = f"{project_path(route.repo)}/merge_requests/{result['request']}"
        what = f"close merge request {result['request']}"
        try:
            await client.put(what, path, {"state_event": "close"})
        except Uncertain as lost:
            raise StepRetry(str(lost)) from lost
        return Done(result=dict(result))


def route_of(
    call: Call, clients: Mapping[str, Client], routes: Sequence[ImageRoute]
) -> tuple[Client, ImageRoute]:
    """The GitLab and the image map's line for a call's image; raises `StepFailed` without one."""
    image = parse_image(str(call.params.get("image") or call.target.image))
    for route in routes:
        if fnmatchcase(image.name, route.match) and route.forge in clients:
            return clients[route.forge], route
    raise StepFailed(f"no route in [[images]] leads from {image.name} to a GitLab project")


class _File:
    """A file as the forge has it: its text, the commit it was read at, and its own last one."""

    __slots__ = ("changed", "commit", "text")

    def __init__(self, text: str, commit: str, changed: str) -> None:
        self.text, self.commit, self.changed = text, commit, changed


def _bumped(text: str, old: str, base: str) -> str:
    """The text with the new base where a line chooses one; `base:1` is no part of `base:1.2`."""
    whole = re.compile(rf"(?<![\w./:@-]){re.escape(old)}(?![\w./:@-])")
    lines = text.splitlines(keepends=True)
    return "".join(
        whole.sub(lambda _: base, line) if _CHOOSES.match(line) else line for line in lines
    )


def _title(plan: Plan) -> str:
    return f"Build on {plan.params['base']}"
