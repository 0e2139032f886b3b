"""`change.propose`: ask a repository's people to take another digest, once.

Nothing is merged here, and nothing is pushed to a branch of others. What is changed is one file
that the image map names, and in it only the places that name the image or the base. How nothing is
proposed twice, whatever is lost on the way:

1. The branch's name comes from incident, file, its content and what shall be there. Whoever asks
   for the same, another attempt, another life or another step, means the same branch.
2. A forge takes one branch of a name, and one open request of a branch. Each write is looked for
   before it is made, and a refusal because it is there already counts as found.
3. What is found is compared before it is used: a branch that holds another text than this change
   is nobody's but its maker's.

Title and text hold the incident's number, the image and the file, all checked words: nothing that
came with an alert, no credential.

The forges behind it speak `Repositories`; they decide nothing.
"""

# ruff: noqa: ARG002 - the ports give these methods their parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from integrations._images import is_digest, parse_image
from integrations._merging_files import Wish, edited, pairs
from integrations._merging_forge import Order, Repositories, Request
from integrations._merging_routes import image_of, place_of
from responder.errors import Conflict, NotFound, StepFailed, StepRetry, Uncertain
from responder.model import Change, Effect, ObjectRef, Plan, Verdict, VerdictLevel, digest_of
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
from responder.text import slug

__all__ = ["ProposeChange"]

_UNMERGED = "nothing is built or rolled out from it before it is merged"


class ProposeChange:
    """The action; see the module for what it promises. The image map alone chooses the file."""

    info = ActionInfo(
        name="change.propose",
        summary="Propose another digest, or another base, in the file that the image map names",
        effect=Effect.CHANGE,
        params={
            "image": Param(type="image", summary="image it is about; left out: the incident's own"),
            "digest": Param(type="string", summary="new digest, where the file names the image"),
            "change": Param(
                type="string", summary="entry of [[images.changes]]; left out: the only one"
            ),
            "base": Param(type="image", summary="new base by digest, for a Dockerfile"),
            "instead_of": Param(type="string", summary="base as the Dockerfile names it now"),
            "file": Param(
                type="string", summary="Dockerfile of the image's own repository", default=""
            ),
        },
        results={
            "request": Param(type="int", summary="number of the request; 0: it is there already"),
            "url": Param(type="string", summary="its page"),
            "sha": Param(type="string", summary="the one commit that it proposes"),
            "branch": Param(type="string", summary="its branch"),
            "change": Param(type="string", summary="entry of the image map, for change.merge"),
            "repo": Param(type="string", summary="repository it was proposed to"),
        },
        permissions=(
            Permission(
                system="github",
                resource="contents, pull_requests",
                verbs=("read", "write"),
                scope="repository",
                why="to commit to a branch of its own and open the pull request",
            ),
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
        example={"change": "production", "digest": f"sha256:{'a' * 64}"},
    )

    def __init__(self, forges: Mapping[str, Repositories], routes: Sequence[ImageRoute]) -> None:
        self.forges = dict(forges)
        self._routes = tuple(routes)

    # ------------------------------------------------------------------ plan

    async def plan(self, call: Call) -> Plan:
        """Read the file at its branch, and say which lines would change.

        Raises `StepFailed` when no entry fits, or the file does not name what shall be replaced.
        A file that says it already gives a plan without a change.
        """
        place = place_of(call, self._routes)
        forge = self._forge(place)
        wish = _wish(call, place)
        try:
            head = await forge.head(place.repo, place.branch)
            found = await forge.file(place.repo, place.file, head)
        except NotFound as error:
            raise StepFailed(f"{place.repo} has no {place.file} at {place.branch}") from error
        lines = pairs(found.text, edited(found.text, wish))
        branch = _branch(call, place, wish, found.blob)
        ref = ObjectRef(
            kind=forge.terms.kind,
            name=f"{place.repo}/{branch}",
            system=f"{place.forge}:{place.repo}",
        )
        change = Change(
            verb="create",
            ref=ref,
            before={place.file: [before for before, _ in lines]},
            after={place.file: [after for _, after in lines]},
            precondition={"commit": head, "file": found.blob},
        )
        return Plan(
            action=self.info.name,
            summary=f"propose {wish.wanted} in {place.file} of {place.repo}"
            if lines
            else f"nothing: {place.file} of {place.repo} names {wish.wanted} already",
            changes=(change,) if lines else (),
            residual=(_UNMERGED,) if lines else (),
            undo=f"close the {forge.terms.request}" if lines else "",
            params={
                "branch": branch,
                "target": place.branch,
                "file": place.file,
                "change": place.name,
                "wanted": wish.wanted,
            },
        )

    def _forge(self, place: ImageChange) -> Repositories:
        try:
            return self.forges[place.forge]
        except KeyError:
            raise StepFailed(f"[forges.{place.forge}] is no longer in the configuration") from None

    # ------------------------------------------------------------------ apply

    async def apply(self, call: Call, plan: Plan) -> Done:
        """Make the branch with its commit, then the request; what is there already is adopted.

        Raises `Conflict` when the file has changed since the plan, `StepRetry` when an answer was
        lost (the next try looks first), `StepFailed` when a person closed the request.
        """
        place = place_of(call, self._routes)
        if not plan.changes:
            return Done(result=_result(plan, place, None))
        forge, wish = self._forge(place), _wish(call, place)
        branch = str(plan.params["branch"])
        try:
            found = await forge.request_of(place.repo, branch)
            if found is None:
                order = await self._order(call, forge, place, plan, wish)
                await forge.commit(order)
                await self._is_ours(forge, order)
                found = await forge.open(order)
        except Uncertain as lost:
            raise StepRetry(f"{lost}; the next try looks whether it was made") from lost
        except NotFound as missing:  # planned on a moment ago, or made here: not shown yet
            raise StepRetry(f"{missing}; it is looked for again") from missing
        if found.state == "closed":
            raise StepFailed(f"the {forge.terms.request} was closed by somebody: {found.url}")
        if found.state == "merged":
            await self._still_there(forge, place, wish, found)
        return Done(result=_result(plan, place, found))

    async def _order(
        self, call: Call, forge: Repositories, place: ImageChange, plan: Plan, wish: Wish
    ) -> Order:
        """What is written. The text comes from the commit that was planned on, by its own hash."""
        seen = plan.changes[0].precondition
        old = await forge.file(place.repo, place.file, seen["commit"])
        order = Order(
            repo=place.repo,
            branch=str(plan.params["branch"]),
            target=place.branch,
            start=seen["commit"],
            file=place.file,
            blob=old.blob,
            text=edited(old.text, wish),
            title=_title(wish),
            body=_body(call, wish, place),
        )
        if await forge.has(place.repo, order.branch):
            return order
        now = await forge.file(place.repo, place.file, await forge.head(place.repo, place.branch))
        if now.blob != seen["file"] or old.blob != seen["file"]:
            raise Conflict(f"{place.file} of {place.repo} has changed since the plan")
        return order

    @staticmethod
    async def _is_ours(forge: Repositories, order: Order) -> None:
        """The branch holds this change. Raises `StepRetry` (not yet), `StepFailed` (another's)."""
        found = await forge.file(order.repo, order.file, await forge.head(order.repo, order.branch))
        if found.text == order.text:
            return
        if found.blob == order.blob:
            raise StepRetry(f"{order.branch} of {order.repo} does not show the commit yet")
        raise StepFailed(
            f"branch {order.branch} of {order.repo} holds another text of {order.file} than this "
            "change; delete the branch when nobody needs it"
        )

    @staticmethod
    async def _still_there(
        forge: Repositories, place: ImageChange, wish: Wish, found: Request
    ) -> None:
        now = await forge.file(place.repo, place.file, await forge.head(place.repo, place.branch))
        if edited(now.text, wish) != now.text:
            raise StepFailed(f"it was merged once and taken back since by somebody: {found.url}")

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: `apply` ends it."""
        raise StepFailed("change.propose waits for nothing")

    # ------------------------------------------------------------------ afterwards

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """The request is there and proposes our text and nothing else; it is not merged yet."""
        place = place_of(call, self._routes)
        forge, wish = self._forge(place), _wish(call, place)
        if not plan.changes:
            return Verdict(level=VerdictLevel.ENFORCED, checks={place.file: wish.wanted})
        found = await forge.look(place.repo, int(result["request"]))
        if found.state == "closed":
            raise StepFailed(f"the {forge.terms.request} is closed: {found.url}")
        if found.sha != result["sha"]:
            raise StepFailed(f"somebody has pushed to {result['branch']}: {found.url}")
        seen = plan.changes[0].precondition
        old = await forge.file(place.repo, place.file, seen["commit"])
        new = await forge.file(place.repo, place.file, found.sha)
        if not found.files:
            raise StepRetry(f"{forge.terms.request} {found.number} does not show its changes yet")
        if new.text != edited(old.text, wish) or found.files > 1:
            raise StepFailed(f"it proposes more than {place.file} with {wish.wanted}: {found.url}")
        residual = () if found.state == "merged" else (_UNMERGED,)
        checks = {forge.terms.request: found.state, "sha": found.sha}
        return Verdict(level=VerdictLevel.APPLIED, residual=residual, checks=checks)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Close it; the branch stays. Raises `Conflict` when it was merged or pushed to."""
        if not plan.changes:
            return Done(result=dict(result))
        place = place_of(call, self._routes)
        forge = self._forge(place)
        found = await forge.look(place.repo, int(result["request"]))
        if found.state == "closed":
            return Done(result=dict(result))
        if found.state != "open" or found.sha != result["sha"]:
            raise Conflict(
                f"the {forge.terms.request} is {found.state}, with {found.sha[:12]}, not as we "
                f"left it: {found.url}"
            )
        try:
            await forge.close(place.repo, found.number)
        except Uncertain as lost:
            raise StepRetry(str(lost)) from lost
        return Done(result=dict(result))


# --------------------------------------------------------------------------- words


def _wish(call: Call, place: ImageChange) -> Wish:
    """What the file shall say; checked, because it gets into a commit."""
    image = image_of(call)
    if place.kind != "dockerfile":
        digest = str(call.params.get("digest") or "")
        if not is_digest(digest):
            raise StepFailed("digest: expected sha256: and 64 hex digits")
        return Wish(kind=place.kind, file=place.file, key=place.key, image=image, digest=digest)
    base = parse_image(str(call.params.get("base") or ""))
    if not base.digest:
        raise StepFailed("base: expected a reference with a digest: a tag may move")
    old = str(call.params.get("instead_of") or "")
    parse_image(old)
    return Wish(
        kind=place.kind,
        file=place.file,
        image=image,
        base=f"{base.name}@{base.digest}",
        instead_of=old,
    )


def _branch(call: Call, place: ImageChange, wish: Wish, blob: str) -> str:
    """One name for one change: whoever wants the same in this incident means the same branch."""
    meaning = [call.incident, place.forge, place.repo, place.branch, place.file, blob, place.key]
    meaning += [wish.wanted, wish.instead_of]
    name = slug(wish.image.repository.rpartition("/")[2])
    return f"responder/{call.incident}-{name}-{digest_of(meaning)[:12]}"


def _title(wish: Wish) -> str:
    return f"Build on {wish.base}" if wish.base else f"Run {wish.wanted}"


def _body(call: Call, wish: Wish, place: ImageChange) -> str:
    what = (
        f"Replaces {wish.instead_of}" if wish.base else f"Changes the digest of {wish.image.name}"
    )
    return f"{what} in {place.file}, for incident #{call.incident} of the responder."


def _result(plan: Plan, place: ImageChange, found: Request | None) -> dict[str, Any]:
    return {
        "request": found.number if found else 0,
        "url": found.url if found else "",
        "sha": found.sha if found else "",
        "branch": str(plan.params["branch"]) if found else "",
        "change": place.name,
        "repo": place.repo,
    }
