"""`image.gate`: whether a new image may be rolled out as the repair of the old one.

It looks at four things and refuses with a sentence for each that does not hold: the digest (not the
old image again, and the same in the registry, under its tag and in the pipeline's word), where it
comes from (the revision and provenance that were asked for), the reports of both images, and what a
VEX document excuses. It reads only, and it never believes a report of another image.
"""

# ruff: noqa: ARG002 - the ports give these methods their parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from integrations._images import ImageName, is_digest, parse_image
from integrations._scans.gate import Asked, Ruling, judge
from integrations.registry.attesting import Verify
from integrations.registry.client import Described, Registries
from integrations.registry.inspecting import PULL
from integrations.registry.reports import Reports
from integrations.registry.tracing import ATTESTED, Bundles, attested, forge_attested, route_of
from responder.errors import NotFound, StepFailed
from responder.model import Effect, Plan, Severity, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, ImageRoute, Param, Pending
from responder.text import for_terminal, suggestion

__all__ = ["ImageGate"]

_REVISION = "org.opencontainers.image.revision"
_SHOWN = 20  # refusals in one error; the count of the rest is said
_PATIENCE = 120.0

INFO = ActionInfo(
    name="image.gate",
    summary="Let a new image pass only if its reports show that the findings are repaired",
    effect=Effect.READ,
    stage="gated",
    params={
        "image": Param(type="image", summary="the new image, repository@sha256:…", required=True),
        "old": Param(type="image", summary="the old image; left out: the incident's own"),
        "findings": Param(
            type="list",
            summary="ids to be repaired; left out: all at or above the threshold that have a fix",
        ),
        "threshold": Param(
            type="string",
            summary="nothing new from this severity up: low, medium, high, critical",
            default="high",
        ),
        "digest": Param(type="string", summary="digest that the pipeline says it pushed"),
        "tag": Param(type="string", summary="tag that must mean the new image in the registry"),
        "revision": Param(type="string", summary="commit that the new image must be labelled with"),
        "provenance": Param(
            type="string",
            summary='"required": an attestation that the route\'s own workflow signed',
            default="",
        ),
        "old_report": Param(
            type="string", summary="evidence with the old report", default="scan-old.json"
        ),
        "new_report": Param(
            type="string", summary="evidence with the new report", default="scan-new.json"
        ),
        "vex": Param(type="string", summary="evidence with a VEX document", default="vex.json"),
        "may_shrink": Param(
            type="bool", summary="the new image may have far fewer packages", default=False
        ),
        "any_database": Param(
            type="bool", summary="the reports may rest on different databases", default=False
        ),
    },
    results={
        "image": Param(type="image", summary="the image that passed, repository@digest"),
        "digest": Param(type="string", summary="its digest"),
        "repaired": Param(type="list", summary="findings that are gone or at their fix"),
        "excused": Param(type="list", summary="findings that a VEX document excuses, with reasons"),
        "notes": Param(type="list", summary="what a person should know anyway"),
    },
    permissions=(PULL, ATTESTED),
    timeout=_PATIENCE,
    example={"image": "${{ steps.rebuild.image }}", "digest": "${{ steps.rebuild.digest }}"},
)


class ImageGate:
    """The action; see the module for what it promises."""

    info = INFO

    def __init__(
        self,
        registries: Registries,
        reports: Reports,
        routes: Sequence[ImageRoute] = (),
        verify: Verify | None = None,
        bundles: Bundles | None = None,
    ) -> None:
        self._registries = registries
        self._reports = reports
        self._routes = tuple(routes)
        self._verify = verify
        self._bundles = bundles

    async def plan(self, call: Call) -> Plan:
        """An empty plan; raises `StepFailed` for what cannot be compared at all."""
        old, new = _images(call)
        _asked(call)
        self._registries.of(new)
        return Plan(
            action=INFO.name,
            summary=f"let image {new.name}@{new.digest} pass, or say why not",
            params={"image": f"{new.name}@{new.digest}", "old": f"{old.name}@{old.digest}"},
        )

    async def apply(self, call: Call, plan: Plan) -> Done:
        """Compare; raises `StepFailed` with every refusal, each naming its finding."""
        old, new = _images(call)
        found = await self._found(new)
        ruling = await self._ruling(call, old, new, found)
        refusals = (
            *await self._digests(call, new),
            *_origin(call, found),
            *await self._provenance(call, new),
            *ruling.refusals,
        )
        if refusals:
            raise StepFailed(_refused(new, refusals))
        return Done(
            result={
                "image": f"{new.name}@{new.digest}",
                "digest": new.digest,
                "repaired": list(ruling.repaired),
                "excused": list(ruling.excused),
                "notes": list(ruling.notes),
            }
        )

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: a comparison ends at once."""
        raise StepFailed("image.gate has nothing to wait for")

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Proven where something was repaired and nothing had to be excused."""
        excused = tuple(str(text) for text in result["excused"])
        notes = tuple(str(text) for text in result["notes"])
        proven = result["repaired"] and not excused
        return Verdict(
            level=VerdictLevel.PROVEN if proven else VerdictLevel.APPLIED,
            residual=(*(f"excused: {text}" for text in excused), *notes),
            checks={"repaired": str(len(result["repaired"])), "digest": str(result["digest"])},
        )

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Nothing was changed."""
        return Done()

    # ------------------------------------------------------------------ what is compared

    async def _found(self, new: ImageName) -> Described:
        try:
            return await self._registries.of(new).described(new)
        except NotFound:
            raise StepFailed(
                f"image gate refuses {new.name}: the registry has no {new.digest}"
            ) from None

    async def _names(self, image: ImageName) -> frozenset[str]:
        """Every digest that means the old image; it may be gone from its registry by now."""
        try:
            found = await self._registries.of(image).described(image)
        except NotFound:
            return frozenset({image.digest})
        return found.digests

    async def _ruling(self, call: Call, old: ImageName, new: ImageName, found: Described) -> Ruling:
        try:
            before = await self._reports.scan(call, str(call.params.get("old_report") or _OLD))
            after = await self._reports.scan(call, str(call.params.get("new_report") or _NEW))
        except NotFound as error:
            raise StepFailed(f"image gate refuses {new.name}: {error}") from None
        return judge(
            before,
            after,
            await self._reports.vex(call, str(call.params.get("vex") or _VEX)),
            _asked(call),
            old_digests=await self._names(old),
            new_digests=found.digests,
        )

    async def _digests(self, call: Call, new: ImageName) -> list[str]:
        """What the pipeline and the registry's tag say, where they were asked for."""
        refusals = []
        said = str(call.params.get("digest") or "")
        if said and said != new.digest:
            refusals.append(
                f"the pipeline pushed another digest: expected {new.digest}, got "
                f"{for_terminal(said, 80)}"
            )
        if tag := str(call.params.get("tag") or ""):
            named = parse_image(f"{new.name}:{tag}")
            try:
                means = await self._registries.of(named).digest(named)
            except NotFound:
                means = "nothing"
            if means != new.digest:
                refusals.append(f"the tag {tag} is not it: expected {new.digest}, got {means}")
        return refusals

    async def _provenance(self, call: Call, new: ImageName) -> list[str]:
        """Why the provenance that was asked for is not shown, or nothing."""
        asked_for = str(call.params.get("provenance") or "")
        if not asked_for:
            return []
        route = route_of(self._routes, new)
        found = await attested(self._registries, new, route, self._verify)
        wanted = str(call.params.get("revision") or "")

        def good() -> bool:
            return any(one.verified and wanted in {"", one.revision} for one in found)

        if not good() and route is not None and self._bundles is not None:
            verify = self._verify
            try:
                found += await forge_attested(self._registries, new, route, verify, self._bundles)
            except (NotFound, StepFailed) as error:
                return [f"no attestation was verified: {route.forge} could not be asked: {error}"]
        if good():
            return []
        why = "; ".join(dict.fromkeys(one.refused or "of another revision" for one in found))
        return [f"no attestation was verified: {why or 'the registry has none'}"]


_OLD, _NEW, _VEX = "scan-old.json", "scan-new.json", "vex.json"


def _images(call: Call) -> tuple[ImageName, ImageName]:
    """Both images by digest; raises `StepFailed` where one is only a tag."""
    new = parse_image(str(call.params["image"]))
    old = parse_image(str(call.params.get("old") or call.target.image))
    if not old.digest and not call.params.get("old") and is_digest(call.target.digest):
        old = replace(old, digest=call.target.digest)
    for which, image in (("new", new), ("old", old)):
        if not image.digest:
            raise StepFailed(
                f"the {which} image {image.name} is not named by digest: expected "
                "repository@sha256:…, because a tag may mean another image a moment later"
            )
    return old, new


def _asked(call: Call) -> Asked:
    level = str(call.params.get("threshold") or "high").lower()
    known = [one.name.lower() for one in Severity if one > Severity.INFO]
    if level not in known:
        raise StepFailed(f'threshold "{for_terminal(level, 40)}": {suggestion(level, known)}')
    if (kind := str(call.params.get("provenance") or "")) not in {"", "required"}:
        raise StepFailed(f'provenance "{for_terminal(kind, 40)}": expected "required" or nothing')
    findings = call.params.get("findings")
    if findings is not None and not isinstance(findings, list | tuple):
        raise StepFailed(f"findings: expected a list of ids, got {type(findings).__name__}")
    return Asked(
        targeted=None if findings is None else tuple(map(str, findings)),
        threshold=Severity[level.upper()],
        may_shrink=bool(call.params.get("may_shrink")),
        any_database=bool(call.params.get("any_database")),
    )


def _origin(call: Call, found: Described) -> list[str]:
    """What was asked of where the image comes from. A label is a claim and can only refuse."""
    wanted = str(call.params.get("revision") or "")
    said = found.annotations.get(_REVISION) or found.labels.get(_REVISION, "")
    if wanted and said != wanted:
        text = for_terminal(said, 64) or "nothing"
        asked = for_terminal(wanted, 64)
        return [f"the image is of another revision: expected {asked}, its label says {text}"]
    return []


def _refused(new: ImageName, refusals: tuple[str, ...]) -> str:
    more = f"; and {len(refusals) - _SHOWN} more" if len(refusals) > _SHOWN else ""
    return f"image gate refuses {new.name}@{new.digest}: {'; '.join(refusals[:_SHOWN])}{more}"
