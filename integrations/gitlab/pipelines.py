"""GitLab's pipelines as a forge of `pipeline.run`.

A project must name its pipelines `workflow: {name: "… $[[ inputs.correlation_id ]]"}`, declare the
inputs (`spec:inputs`, GitLab 17.11), and leave `build.json` among the artifacts of the job that
the settings name. Everything else that `pipeline.run` promises is in `integrations._pipeline`.

Results are read from the jobs of *this* pipeline and of those that it started. "The latest of a
branch" may be another run's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from integrations._artifacts import (
    MEMBER_MAX,
    REPORTS_ZIP_MAX,
    Build,
    keep_reports,
    read_build_json,
)
from integrations._forge import Outcome, Run, State
from integrations.gitlab.artifacts import Downloads
from integrations.gitlab.client import Client, project_path
from integrations.gitlab.resources import queue
from integrations.gitlab.states import (
    TERMS,
    Bridge,
    Job,
    Started,
    bridge_of,
    by_hand,
    hint_of,
    job_of,
    run_of,
)
from responder.clock import iso
from responder.errors import NotFound, StepFailed, StepRetry
from responder.ports import Call, EvidenceSink, ImageRoute

__all__ = ["Pipelines"]

_DEEPEST = 3  # pipelines that start pipelines
_MOST = 20  # pipelines in all that one start may lead to


class Pipelines:
    """One GitLab as `_forge.Forge`. It decides nothing."""

    terms = TERMS

    def __init__(self, client: Client, downloads: Downloads, evidence: EvidenceSink) -> None:
        self._client = client
        self._downloads = downloads
        self._evidence = evidence
        self._settings = client.settings
        self.poll = client.settings.poll
        self.settle = client.settings.settle

    async def ready(self, route: ImageRoute) -> None:
        """The project shows us the ref that is built; see `_forge.Forge`."""
        path = f"{project_path(route.repo)}/repository/commits/{quote(route.ref, safe='')}"
        try:
            await self._client.get(f"look at {route.ref} of {route.repo}", path)
        except NotFound as error:
            raise StepFailed(
                f"{self._client.name} shows us no {route.ref} of {route.repo}; "
                "check [[images]] and the credential's rights"
            ) from error

    def paused(self) -> float:
        """Seconds that GitLab wants to be left alone."""
        return self._client.brake.left()

    async def start(self, route: ImageRoute, inputs: Mapping[str, str]) -> int:
        """Start one pipeline and return its number; by trigger token where there is one.

        Each request makes a pipeline: nothing here is idempotent, and none is ever sent twice.
        https://docs.gitlab.com/api/pipelines/#create-a-new-pipeline
        """
        repo, secret = route.repo, self._settings.trigger_token
        what = f"start {route.workflow} of {repo}"
        body: dict[str, Any] = {
            "ref": route.ref,
            **self._passed(inputs, triggered=secret is not None),
        }
        path = f"{project_path(repo)}/pipeline"
        if secret is not None:
            path = f"{project_path(repo)}/trigger/pipeline"
            body["token"] = secret.reveal()
        try:
            made = await self._client.post(what, path, body)
        except StepFailed as error:
            raise StepFailed(f"{error}{_advice(str(error), self._source)}") from error
        return int(made["id"])

    def _passed(self, inputs: Mapping[str, str], *, triggered: bool) -> dict[str, Any]:
        """The inputs in the form that each way takes: variables are a list, a map when triggered.

        https://docs.gitlab.com/api/pipeline_triggers/#trigger-a-pipeline-with-a-token
        """
        if self._settings.pass_as == "inputs":  # noqa: S105 - no secret
            return {"inputs": dict(inputs)}
        capitals = {name.upper(): value for name, value in inputs.items()}
        if triggered:
            return {"variables": capitals}
        return {"variables": [{"key": name, "value": value} for name, value in capitals.items()]}

    @property
    def _source(self) -> str:
        return "trigger" if self._settings.trigger_token else "api"

    async def recent(
        self,
        repo: str,
        workflow: str,  # noqa: ARG002 - a project has one
        since: int,
        event: str = "",  # noqa: ARG002 - a GitLab knows no such thing
    ) -> list[Run]:
        """The newest pipelines that were started as we start them: one page, the newest first."""
        listed = await self._client.get(
            f"list pipelines of {repo}",
            f"{project_path(repo)}/pipelines",
            source=self._source,
            updated_after=f"{iso(since)[:19]}Z",
            order_by="id",
            sort="desc",
            per_page=100,
        )
        return [run_of(one) for one in listed]

    async def look(self, repo: str, number: int) -> Run:
        """One pipeline; once it has succeeded, together with what it has started in turn."""
        path = f"{project_path(repo)}/pipelines/{number}"
        run = run_of(await self._client.get(f"look at pipeline {number} of {repo}", path))
        if run.state.more:
            return replace(run, state=await self._who(repo, number, run.state))
        if run.state.outcome is not Outcome.SUCCEEDED:
            return run
        for bridge in (await self._below(repo, number))[1]:
            if (state := _of_bridge(bridge)) is not None:
                return replace(run, state=state)
        return run

    async def _who(self, repo: str, number: int, state: State) -> State:
        """The same wait with the jobs that a person must start, or its resource group, if told."""
        if state.more == "groups":
            return await queue(self._client, repo, number, state)
        path = f"{project_path(repo)}/pipelines/{number}/jobs"
        try:
            listed = await self._client.pages(f"list jobs of pipeline {number}", path)
        except (StepRetry, StepFailed, NotFound):
            return state
        return by_hand(state, listed)

    async def _below(self, repo: str, number: int) -> tuple[list[Started], list[Bridge]]:
        """The pipeline and all that it led to, and every trigger job among them."""
        seen, bridges = [Started(repo, number)], list[Bridge]()
        level = list(seen)
        for _ in range(_DEEPEST + 1):
            found = [bridge for one in level for bridge in await self._bridges(one)]
            bridges += found
            level = [b.started for b in found if b.started and b.started not in seen]
            seen += level
            if len(seen) > _MOST:
                raise StepFailed(f"pipeline {number} of {repo} led to more than {_MOST} others")
            if not level:
                return seen, bridges
        raise StepFailed(f"pipeline {number} of {repo} starts pipelines deeper than {_DEEPEST}")

    async def _bridges(self, one: Started) -> list[Bridge]:
        path = f"{project_path(one.project)}/pipelines/{one.number}/bridges"
        what = f"list what pipeline {one.number} started"
        listed = await self._client.pages(what, path)
        return [bridge_of(item, self._settings.base_url) for item in listed]

    # ------------------------------------------------------------------ results

    async def build(self, repo: str, run: Run) -> Build:
        """What the artifact of the one job with the agreed name says; a retried job is the last."""
        number = run.id
        job = await self._job(repo, number, self._settings.job)
        if job is None:
            raise StepFailed(
                f'pipeline {number} of {repo} has no job "{self._settings.job}" that succeeded'
            )
        place = quote(self._settings.artifact)
        what = f"{self._settings.artifact} of job {job.id}"
        return read_build_json(await self._file(job, f"/{place}", what, MEMBER_MAX))

    async def keep_reports(self, call: Call, repo: str, run: Run) -> None:
        """Keep the scan reports of the job that the settings name for them, if it is there."""
        number = run.id
        if not self._settings.reports:
            return
        job = await self._job(repo, number, self._settings.reports)
        if job is not None and job.size:
            data = await self._file(job, "", f"artifacts of job {job.id}", REPORTS_ZIP_MAX)
            origin = {"system": self._client.name, "repo": repo, "run": str(number)}
            await keep_reports(self._evidence, call, data, origin)

    async def _job(self, repo: str, number: int, name: str) -> Job | None:
        found = []
        for one in (await self._below(repo, number))[0]:
            path = f"{project_path(one.project)}/pipelines/{one.number}/jobs"
            listed = await self._client.pages(f"list jobs of pipeline {one.number}", path)
            found += [job_of(item, one.project) for item in listed if item.get("name") == name]
        found = [job for job in found if job.status == "success"]
        if len(found) > 1:
            raise StepFailed(f'pipeline {number} of {repo} has {len(found)} jobs "{name}"')
        return found[0] if found else None

    async def _file(self, job: Job, place: str, what: str, most: int) -> bytes:
        path = f"{project_path(job.project)}/jobs/{job.id}/artifacts{place}"
        try:
            return await self._downloads.fetch(what, path, most)
        except NotFound as error:
            why = f"it expired at {job.expires}" if job.expires and not job.size else "404"
            raise StepFailed(f"{what} is not there: {why}; run the pipeline again") from error

    def hint(self, repo: str, mark: int | str) -> str:
        """`gitlab:group/project:31`."""
        return hint_of(repo, mark)


def _of_bridge(bridge: Bridge) -> State | None:
    """What a trigger job says against a pipeline that has succeeded; nothing when it is done."""
    outcome = bridge.state.outcome
    if bridge.started is None:
        # A manual or skipped trigger job left the pipeline green: nobody waits for it.
        return None
    what = f"downstream pipeline {bridge.started.number} of {bridge.name}"
    if outcome is Outcome.GOING:
        return replace(bridge.state, words=f"{what}: {bridge.state.words}", more="")
    if outcome is Outcome.SUCCEEDED or bridge.may_fail:
        return None
    return State(Outcome.FAILED, f"succeeded, but its {what} {bridge.state.words}")


def _advice(text: str, source: str) -> str:
    """The way out of a refusal that is a fault of configuration."""
    if "rules" in text or "will not run" in text:
        return f"; its workflow:rules exclude CI_PIPELINE_SOURCE={source}"
    if "set pipeline variables" in text:
        return '; declare spec:inputs and set pass_as = "inputs"'
    return ""
