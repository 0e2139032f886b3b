"""`pipeline.run`: rebuild an image by the pipeline that the image map names, once.

How it is never dispatched twice, whatever is lost on the way:

1. The start carries a correlation id made from the step's key, and the run's name shows it. What
   follows needs no memory of the call.
2. A start is one POST. When its answer is lost (5xx, reset, time-out, a crash of ours), the
   forge is asked for a run of this step for as long as one may take to show up.
3. Found: it is followed. Surely not there: it may be dispatched again. Cannot know (the forge does
   not answer, or shows runs that may be ours under titles without any id): a person is asked.

What a pipeline must do, on every forge: take the inputs `image`, `revision` and `correlation_id`,
show the last in its run's name, push the image, and hand over `build.json` as an artifact:
{"image", "digest", "revision", "correlation_id"} and, better, "tag".

Which forge it is, the image map says. The forges behind it speak `_forge.Forge`.

The pipeline's word is not enough: the digest must be what the registry says too. Whether the fix
is one is for a scan to say, so the verdict never claims it.
"""

# ruff: noqa: ARG002 - the ports give these methods their parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from integrations import _forge as runs
from integrations._built import Digests, check_claim, check_registry, registry_says
from integrations._forge import Forge, Outcome, Run, Waiting
from integrations._images import ImageName, parse_image
from integrations._pipeline_info import INFO
from responder.clock import SECOND, World
from responder.errors import NotFound, StepFailed, StepRetry, Uncertain
from responder.model import Change, ObjectRef, Plan, Verdict, VerdictLevel
from responder.ports import Call, Done, ImageRoute, Pending

__all__ = ["PipelineRun"]

_LOOK_PAUSE = 1.0  # seconds until the first look for a run that may not be listed yet
_APPEARS_WITHIN = 300 * SECOND  # an accepted dispatch without a run after this needs a person
_SUPERSEDED_PAUSE = 15.0  # doubles with each attempt: two incidents must not chase each other
_LONGEST_SUPERSEDED = 300.0
_MOST_CANCELLED = 4  # runs of one step: more often it is somebody's will, not a queue's
_NOT_SCANNED = "the new image was not scanned: that the weakness is gone is not proven"


class PipelineRun:
    """The action; see the module for what it promises. It never picks a pipeline by a label."""

    info = INFO

    def __init__(
        self,
        forges: Mapping[str, Forge],
        routes: Sequence[ImageRoute],
        digest_of: Digests | None,
        world: World,
    ) -> None:
        self.forges = dict(forges)
        self._routes = tuple(routes)
        self._digest_of = digest_of
        self._world = world

    # ------------------------------------------------------------------ plan

    async def plan(self, call: Call) -> Plan:
        """Which workflow would be dispatched with which inputs; reads the workflow's state.

        Raises `StepFailed` when no route matches, no registry can check the result, or the
        workflow is missing or switched off.
        """
        image, route = self._route(call)
        if self._digest_of is None:
            raise StepFailed(
                "no [registries] are configured: a pipeline's word alone is not enough, "
                f"add one for {image.host}"
            )
        forge = self.forges[route.forge]
        await forge.ready(route)
        inputs = self._inputs(call, image, route, runs.correlation_base(call.key))
        after: dict[str, Any] = {"ref": route.ref, "inputs": inputs}
        if route.event:  # it runs on the default branch, whichever that is
            after = {"event": route.event, "inputs": inputs}
        ref = ObjectRef(
            kind=forge.terms.kind,
            name=f"{route.repo}/{route.workflow}",
            system=f"{route.forge}:{route.repo}",
        )
        return Plan(
            action=self.info.name,
            summary=f"rebuild image {image.name} by {route.workflow} of {route.repo}",
            changes=(Change(verb="dispatch", ref=ref, after=after),),
            residual=(_NOT_SCANNED,),
            params={"image": image.name, **after},
        )

    def _route(self, call: Call) -> tuple[ImageName, ImageRoute]:
        """The image and the first route whose pattern matches it; nothing else chooses."""
        image = parse_image(str(call.params.get("image") or call.target.image))
        for route in self._routes:
            if fnmatchcase(image.name, route.match) and route.forge in self.forges:
                return image, route
        raise StepFailed(
            f"no route in [[images]] matches {image.name}; add one that names its repository "
            "and workflow"
        )

    @staticmethod
    def _inputs(
        call: Call, image: ImageName, route: ImageRoute, correlation: str
    ) -> dict[str, str]:
        given = {
            **route.inputs,
            "image": image.name,
            "revision": str(call.params.get("revision") or ""),
            "correlation_id": correlation,
        }
        if route.digest_input:
            given[route.digest_input] = image.digest or call.target.digest
            if not given[route.digest_input]:
                raise StepFailed(
                    f"{route.workflow} of {route.repo} needs the digest of the image that runs, "
                    f"and nothing says it for {image.name}: name the image with its digest, or a "
                    "pod"
                )
        return given

    # ------------------------------------------------------------------ apply

    async def apply(self, call: Call, plan: Plan) -> Pending:
        """Dispatch once and say what is waited for; an earlier dispatch of this step is adopted.

        Raises `StepRetry` (certainly not dispatched), `Uncertain` (cannot know), `StepFailed`.
        """
        image, route = self._route(call)
        forge = self.forges[route.forge]
        started = call.started or self._world.clock.now()
        waiting = Waiting(
            forge=route.forge,
            repo=route.repo,
            workflow=route.workflow,
            image=image.name,
            base=runs.correlation_base(call.key),
            since=started,
            event=route.event,
        )
        correlation = runs.correlation_id(call.key, call.attempt)
        if call.resumed or call.attempt > 1:
            found = await self._settled(forge, waiting, correlation, self._world.clock.now())
            if found:
                return self._pending(forge, waiting, found)
        inputs = self._inputs(call, image, route, correlation)
        return await self._dispatch(forge, waiting, route, inputs)

    async def _dispatch(
        self, forge: Forge, waiting: Waiting, route: ImageRoute, inputs: Mapping[str, str]
    ) -> Pending:
        left = self._world.clock.now()
        try:
            run_id = await forge.start(route, inputs)
        except Uncertain as lost:
            meant = replace(waiting, since=left)
            found = await self._settled(forge, meant, inputs["correlation_id"], left)
            if found is None:
                raise StepRetry(f"{lost}; no run of it showed up, so it was not started") from lost
            return self._pending(forge, waiting, found)
        except NotFound as error:
            raise StepFailed(str(error)) from error
        return Pending(
            state=replace(waiting, run_id=run_id, since=left).to_json(),
            after=forge.poll if run_id else _LOOK_PAUSE,
            waiting_for=forge.terms.words(run_id, "dispatched"),
            correlation=forge.hint(waiting.repo, run_id or inputs["correlation_id"]),
        )

    async def _settled(
        self, forge: Forge, waiting: Waiting, correlation: str, last: int
    ) -> Run | None:
        """The run of this step to follow, or nothing once one had enough time to show up.

        `last` is the latest moment at which a start may have left: after a crash that is now.
        Raises `Uncertain` when it cannot be known: nobody answers, or nameless runs may be ours.
        """
        ends, pause = last + int(forge.settle * SECOND), max(0.1, forge.settle / 15)
        while True:
            seen, silent = await self._heard(forge, waiting)
            if seen.run and runs.adopts(seen.run, correlation):
                return seen.run
            if self._world.clock.now() >= ends:
                break
            await self._world.clock.sleep(pause)
            pause = min(pause * 2, max(0.1, forge.settle / 4))
        text = f"{waiting.workflow} of {waiting.repo} may have been dispatched"
        if silent:
            raise Uncertain(f"{text}, and it cannot be looked up: {silent}") from silent
        if seen.doubtful:
            raise Uncertain(
                f"{text}: run {seen.doubtful[0]} shows no correlation id in its name; add it to "
                f"{forge.terms.naming}"
            )
        return None

    async def _heard(self, forge: Forge, waiting: Waiting) -> tuple[runs.Search, StepRetry | None]:
        """What one look through the runs shows, or why there was no answer to it.

        A forge that pauses us is asked when it may be: `StepRetry`, and the next attempt, which
        always looks first, finds what has been started.
        """
        text = f"{waiting.workflow} of {waiting.repo} may have been dispatched"
        try:
            return await self._search(forge, waiting), None
        except StepRetry as silent:
            if wait := forge.paused():
                raise StepRetry(f"{text}; looked up first: {silent}", after=wait) from None
            return runs.Search(), silent
        except (StepFailed, NotFound) as error:
            raise Uncertain(f"{text}, and it cannot be looked up: {error}") from error

    async def _search(self, forge: Forge, waiting: Waiting) -> runs.Search:
        since = waiting.since - runs.CLOCK_MARGIN
        listed = await forge.recent(waiting.repo, waiting.workflow, since, waiting.event)
        return runs.ours(listed, waiting.base, waiting.since)

    # ------------------------------------------------------------------ poll

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Look at the run; it never starts one.

        A forge that does not answer is no end: the look is repeated, and the step's own time-out
        bounds it. Raises `StepFailed` with the run's address when it ended badly, `StepRetry` when
        it was superseded, `Uncertain` when an accepted dispatch never became a run.
        """
        waiting = Waiting.from_json(state)
        forge = self._of(waiting.forge)
        try:
            run = await self._look(forge, waiting)
            if run is None:
                return self._unseen(call, forge, waiting)
            if run.state.outcome is Outcome.GOING:
                return self._pending(forge, waiting, run)
            if run.state.outcome is Outcome.SUCCEEDED:
                return await self._finish(call, forge, waiting, run)
        except StepRetry as silent:
            return Pending(
                state=waiting.to_json(),
                after=max(silent.after, forge.poll),
                waiting_for=f"{forge.terms.words(waiting.run_id, 'last seen going')}: {silent}",
                correlation=_hint(call, forge, waiting),
                person=waiting.person,
            )
        if run.state.outcome is Outcome.CANCELLED:
            return await self._superseded(call, forge, waiting, run)
        raise StepFailed(f"{forge.terms.run} {run.id} {run.state.words}: {run.url}")

    def _of(self, name: str) -> Forge:
        try:
            return self.forges[name]
        except KeyError:
            raise StepFailed(f"[forges.{name}] is no longer in the configuration") from None

    async def _look(self, forge: Forge, waiting: Waiting) -> Run | None:
        if not waiting.run_id:
            return (await self._search(forge, waiting)).run
        try:
            return await forge.look(waiting.repo, waiting.run_id)
        except NotFound as error:
            # A run that was just made may be unknown to a replica; one that is deleted stays so.
            if self._world.clock.now() < waiting.since + _APPEARS_WITHIN:
                raise StepRetry(str(error), after=_LOOK_PAUSE) from error
            raise StepFailed(f"{forge.terms.run} {waiting.run_id} was deleted") from error

    def _unseen(self, call: Call, forge: Forge, waiting: Waiting) -> Pending:
        if self._world.clock.now() > waiting.since + _APPEARS_WITHIN:
            raise Uncertain(
                f"{waiting.workflow} of {waiting.repo} was dispatched and no run bears "
                f"{waiting.base} in its name; look at its runs, and at its {forge.terms.naming}"
            )
        return Pending(
            state=waiting.to_json(),
            after=_LOOK_PAUSE * 2,
            waiting_for=forge.terms.words(0, "not listed yet"),
            correlation=_hint(call, forge, waiting),
        )

    async def _superseded(self, call: Call, forge: Forge, waiting: Waiting, run: Run) -> Pending:
        """A cancelled run is no failed patch: follow a living one of ours, else start again."""
        since = (call.started or waiting.since) - runs.CLOCK_MARGIN  # every attempt's run counts
        words = run.state.words
        try:
            listed = await forge.recent(waiting.repo, waiting.workflow, since, waiting.event)
        except StepRetry:
            listed = []
        other = runs.ours(listed, waiting.base, waiting.since).run
        if other and not other.ended_badly:
            return self._pending(forge, waiting, other)
        if after := runs.newer(listed, run):
            words = f"was superseded: run {after.id} of {waiting.workflow} came after it"
        times = runs.cancelled(listed, waiting.base)
        text = f"{forge.terms.run} {run.id} {words}: {run.url}"
        if times >= _MOST_CANCELLED:
            raise StepFailed(f"{text} ({times} runs of this step were cancelled)")
        pause = min(_SUPERSEDED_PAUSE * 2.0 ** max(times - 1, 0), _LONGEST_SUPERSEDED)
        spread = 1 + self._world.rng.random() / 2
        raise StepRetry(text, after=pause * spread, anew=True)

    @staticmethod
    def _pending(forge: Forge, waiting: Waiting, run: Run) -> Pending:
        words, person = run.state.words, run.state.person
        if run.attempt > 1:
            words += f"; attempt {run.attempt}: run again" + (f" by {run.by}" if run.by else "")
        seen = replace(waiting, run_id=run.id, attempt=run.attempt, person=person)
        return Pending(
            state=seen.to_json(),
            after=forge.poll * run.state.looks,
            waiting_for=forge.terms.words(run.id, words),
            correlation=forge.hint(waiting.repo, run.id),
            person=person,
        )

    # ------------------------------------------------------------------ result

    async def _finish(self, call: Call, forge: Forge, waiting: Waiting, run: Run) -> Done | Pending:
        """The result of the attempt that was watched; one that has begun since is followed."""
        try:
            return await self._result(call, forge, waiting, run)
        except StepFailed:
            now = await forge.look(waiting.repo, run.id)
            if now.attempt <= run.attempt:
                raise
            return self._pending(forge, waiting, now)

    async def _result(self, call: Call, forge: Forge, waiting: Waiting, run: Run) -> Done:
        build = await forge.build(waiting.repo, run)
        check_claim(call, waiting, f"{forge.terms.run} {run.id}", build)
        await check_registry(self._digest_of, waiting, build)
        await forge.keep_reports(call, waiting.repo, run)
        return Done(
            result={
                "image": f"{waiting.image}@{build.digest}",
                "digest": build.digest,
                "run": run.id,
                "attempt": run.attempt,
                "url": run.url,
            }
        )

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Ask the registry once more for the digest; residual: nobody has scanned it."""
        image = str(result["image"])
        said = await registry_says(self._digest_of, image)
        if said != result["digest"]:
            raise StepFailed(f"{image}: expected in the registry, which says {said}")
        return Verdict(
            level=VerdictLevel.ENFORCED,
            residual=(_NOT_SCANNED,),
            checks={"registry": said, "run": str(result["url"])},
        )

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Not possible: raises `StepFailed` that says what can be done instead."""
        _, route = self._route(call)
        what = f"{self.forges[route.forge].terms.run} {result.get('run', '')}"
        raise StepFailed(
            f"{what} cannot be taken back: the pushed image stays in "
            "the registry and changes nothing that runs; undo the redeploy instead"
        )


def _hint(call: Call, forge: Forge, waiting: Waiting) -> str:
    """What is listened for: the run's number, or the name that it must bear when it shows up."""
    return forge.hint(waiting.repo, waiting.run_id or runs.correlation_id(call.key, call.attempt))
