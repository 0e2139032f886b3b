"""`github.answer_deployment`: approve or reject one waiting deployment, once, or say why neither.

See `protection` for what decides. The verdict's comment is our own words with a mark made from the
step's key: that is how an answer whose reply was lost is found again.
"""

# ruff: noqa: ARG002 - the ports give these methods their parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from integrations._forge import correlation_base
from integrations.github.client import Forge
from integrations.github.protection import NONE, WAIT, Ruling, place_of, ruling
from responder.clock import SECOND, World
from responder.errors import Conflict, NotFound, StepFailed, StepRetry, Uncertain
from responder.model import Change, Effect, ObjectRef, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, ImageRoute, Kit, Param, Pending, Permission
from responder.text import for_terminal

__all__ = ["AnswerDeployment"]

_RIGHT = "deployments: write"
_AGAIN = 30.0  # seconds until a gate is looked for again
_UNDECIDED = ("wait", "reject")
_OTHERS = "other rules of the environment, and people, decide for themselves"

INFO = ActionInfo(
    name="github.answer_deployment",
    summary="Approve or reject a deployment that waits at GitHub, by what the incidents know",
    effect=Effect.CHANGE,
    stage="answered",
    params={
        "callback": Param(type="string", summary="address in the delivery", required=True),
        "environment": Param(type="string", summary="environment that it waits for", required=True),
        "repository": Param(type="string", summary="repository that the delivery names"),
        "digests": Param(type="list", summary="digests it claims to deploy: they reject at most"),
        "undecided": Param(
            type="string", summary="while our own gate is open: wait or reject", default="wait"
        ),
    },
    results={
        "answer": Param(type="string", summary="approved, rejected, or none"),
        "why": Param(type="string", summary="the reason"),
        "run": Param(type="int", summary="number of the run"),
        "url": Param(type="string", summary="its page"),
    },
    permissions=(
        Permission(
            system="github",
            resource="deployments",
            verbs=("read", "write"),
            scope="repository",
            why="to answer as the App whose protection rule it is; no other token may",
        ),
        Permission(
            system="github",
            resource="actions",
            verbs=("read",),
            scope="repository",
            why="to look at the run and at what it waits for",
        ),
    ),
    undoable=False,
    looks_up=True,
    timeout=120.0,
    example={
        "callback": "${{ alert.fields.callback }}",
        "environment": "${{ alert.fields.environment }}",
    },
)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A run and the environment that it waits for, as the API shows them."""

    forge: Forge
    route: ImageRoute
    run: int
    environment: str
    commit: str
    url: str
    pending: bool

    @property
    def path(self) -> str:
        """Of the run, at our own API."""
        return f"/repos/{self.route.repo}/actions/runs/{self.run}"

    @property
    def what(self) -> str:
        """For a person."""
        return f"run {self.run} of {self.route.repo}"


class AnswerDeployment:
    """The action; see the module for what it promises. It answers no run that it cannot tie."""

    info = INFO

    def __init__(self, forges: Mapping[str, Forge], kit: Kit, world: World) -> None:
        self._forges = dict(forges)
        self._routes: Sequence[ImageRoute] = kit.images
        self._knows = kit.knows
        self._world = world

    async def plan(self, call: Call) -> Plan:
        """What would be answered and why; no changes where nothing is.

        Raises `StepFailed` for an address or repository that is not the operator's, `StepRetry`
        while a gate of ours has not spoken.
        """
        found = await self._find(call)
        rule = await self._ruling(call, found)
        if rule.answer == WAIT:
            raise StepRetry(f"{found.what} waits: {rule.why} yet", after=_AGAIN)
        says = {"answer": rule.answer, "why": rule.why}
        params = {"run": found.run, "environment": found.environment, **says}
        if rule.answer == NONE:
            summary = f"leave {found.what} unanswered: {rule.why}"
            return Plan(action=INFO.name, summary=for_terminal(summary, 300), params=params)
        ref = ObjectRef(
            kind="DeploymentReview",
            name=f"{found.route.repo}#{found.run} {found.environment}",
            system=f"{found.route.forge}:{found.route.repo}",
        )
        return Plan(
            action=INFO.name,
            summary=f"have {found.what} {rule.answer} for {found.environment}",
            changes=(Change(verb="answer", ref=ref, before="waiting", after=says),),
            residual=(_OTHERS,),
            params=params,
            data={"incident": rule.incident},
        )

    async def _find(self, call: Call) -> _Waiting:
        """The run, looked up at our own API; raises `StepFailed` when it is not the operator's."""
        callback, environment = str(call.params["callback"]), str(call.params["environment"])
        if not environment or len(environment) > 255 or not environment.isprintable():  # noqa: PLR2004
            raise StepFailed("environment: expected a name")
        forge, route, run = self._place(callback, str(call.params.get("repository") or ""))
        path, what = f"/repos/{route.repo}/actions/runs/{run}", f"run {run} of {route.repo}"
        try:
            seen = await forge.ask(f"look at {what}", "GET", path)
        except NotFound as error:
            raise StepFailed(f"{error}; nothing is answered") from error
        pending = await _pending(forge, path, what)
        return _Waiting(
            forge=forge,
            route=route,
            run=run,
            environment=environment,
            # anybody may dispatch a run at a commit of ours; only a push deploys what was merged
            commit=str(seen["head_sha"]) if seen.get("event") == "push" else "",
            url=str(seen.get("html_url") or ""),
            pending=environment in pending,
        )

    def _place(self, callback: str, said: str) -> tuple[Forge, ImageRoute, int]:
        """Forge, line of the image map and run; the map's own spelling is what is called."""
        wrong = StepFailed("no [forges] of kind github is set up")
        for name, forge in self._forges.items():
            try:
                repo, run = place_of(callback, forge.settings.base_url)
            except StepFailed as error:
                wrong = error
                continue
            if said and said.lower() != repo.lower():
                raise StepFailed("the delivery's repository is not that of its callback")
            for route in self._routes:
                if route.forge == name and route.repo.lower() == repo.lower():
                    return forge, route, run
            wrong = StepFailed(f"no line of [[images]] names {repo}: it is not ours to answer")
        raise wrong

    async def _ruling(self, call: Call, found: _Waiting) -> Ruling:
        undecided = str(call.params.get("undecided") or "wait")
        if undecided not in _UNDECIDED:
            raise StepFailed("undecided: expected wait or reject")
        if not found.pending:
            return Ruling(answer=NONE, why=f"nothing waits for {found.environment} any more")
        if self._knows is None:
            raise StepFailed("nothing is known of incidents here, so nothing is answered")
        system = f"{found.route.forge}:{found.route.repo}"
        known = await self._knows(system, found.run, found.commit)
        claims = [str(one) for one in call.params.get("digests") or ()]
        return ruling(claims, known, undecided=undecided)

    # ------------------------------------------------------------------ apply

    async def apply(self, call: Call, plan: Plan) -> Done:
        """Answer by one request; what was answered already is not answered again.

        Raises `Conflict` when the verdict would be another one now, `StepRetry` when an answer was
        lost and the run still waits.
        """
        result = {name: plan.params[name] for name in ("answer", "why", "run")}
        found = await self._find(call)
        result["url"] = found.url
        if not plan.changes:
            return Done(result=result)
        mark = correlation_base(call.key)
        if await self._answered(found, mark):
            return Done(result=result)
        if not found.pending:
            gone = "somebody else answered, or the run has ended"
            return Done(result={**result, "answer": NONE, "why": gone})
        if (await self._ruling(call, found)).answer != plan.params["answer"]:
            raise Conflict(f"{found.what}: the incidents say something else since the plan")
        await self._answer(found, plan, mark)
        return Done(result=result)

    async def _answer(self, found: _Waiting, plan: Plan, mark: str) -> None:
        words = f"responder: {plan.params['why']} ({mark})"
        order = {
            "environment_name": found.environment,
            "state": plan.params["answer"],
            "comment": for_terminal(words, 500),
        }
        path = f"{found.path}/deployment_protection_rule"
        try:
            await found.forge.ask(f"answer {found.what}", "POST", path, body=order, right=_RIGHT)
        except Uncertain as lost:
            ends = self._world.clock.now() + int(found.forge.settings.settle * SECOND)
            while not await self._over(found, mark):
                if self._world.clock.now() >= ends:
                    raise StepRetry(f"{lost}; it still waits") from lost
                await self._world.clock.sleep(max(0.1, found.forge.settings.settle / 15))

    async def _answered(self, found: _Waiting, mark: str) -> bool:
        """Whether the run's reviews show our verdict."""
        listed = await found.forge.ask(
            f"list reviews of {found.what}", "GET", f"{found.path}/approvals"
        )
        return any(mark in str(one.get("comment") or "") for one in listed)

    async def _over(self, found: _Waiting, mark: str) -> bool:
        waiting = await _pending(found.forge, found.path, found.what)
        return found.environment not in waiting or await self._answered(found, mark)

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: `apply` ends it."""
        raise StepFailed("github.answer_deployment waits for nothing")

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """GitHub took the verdict; raises `StepFailed` when it still waits for ours."""
        if result["answer"] == NONE:
            why = f"not answered: {result['why']}"
            return Verdict(level=VerdictLevel.RESIDUAL, residual=(why,))
        found = await self._find(call)
        if not await self._over(found, correlation_base(call.key)):
            raise StepFailed(f"{found.what} still waits for our answer: {found.url}")
        checks = {"answer": str(result["answer"]), "run": str(result["run"])}
        return Verdict(level=VerdictLevel.ENFORCED, residual=(_OTHERS,), checks=checks)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Not possible: raises `StepFailed` that says what can be done instead."""
        raise StepFailed(f"a verdict is not taken back; cancel or run it again: {result['url']}")


async def _pending(forge: Forge, path: str, what: str) -> set[str]:
    """The environments that a run waits for now."""
    listed = await forge.ask(f"list what {what} waits for", "GET", f"{path}/pending_deployments")
    return {str((one.get("environment") or {}).get("name") or "") for one in listed}
