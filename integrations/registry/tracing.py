"""`image.trace`: from a running digest to its source, and how sure each link of the way is.

Labels, annotations, tags and unsigned statements are claims of whoever built the image. They are
used to find and never to trust: the image map alone says which repository may rebuild an image. A
claim that names another one is shown and not followed, and its commit is not taken over. Even a
claim that names the right one does not choose a commit to build: GitHub serves the commits of every
fork under its parent's name, so a label could have a pipeline build a stranger's source. `revision`
is therefore a verified commit or empty.
https://docs.github.com/en/pull-requests/collaborating-with-pull-requests/working-with-forks/about-permissions-and-visibility-of-forks

Traps of a running `imageID` (https://github.com/kubernetes/kubernetes/issues/115199,
https://github.com/containerd/containerd/issues/8408): it may be the digest of the index or of one
platform's manifest, or the id of a configuration, which no registry serves as a manifest.
"""

# ruff: noqa: ARG002 - the ports give these methods their parameters

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from integrations._images import ImageName
from integrations.registry.attesting import (
    Asked,
    Attestation,
    Verify,
    attestations,
    attested_by,
    source_of,
)
from integrations.registry.client import Described, Registries
from integrations.registry.inspecting import PULL, asked
from responder.errors import NotFound, StepFailed, StepRetry
from responder.model import Effect, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, ImageRoute, Param, Pending, Permission
from responder.text import for_terminal

__all__ = [
    "ATTESTED",
    "Bundles",
    "ImageTrace",
    "attested",
    "forge_attested",
    "identity_of",
    "route_of",
]

Bundles = Callable[[ImageRoute, str], Awaitable[Sequence[bytes]]]

_GITHUB_ISSUER = "https://token.actions.githubusercontent.com"
_SOURCES = ("org.opencontainers.image.source", "org.label-schema.vcs-url")
_REVISIONS = ("org.opencontainers.image.revision", "org.label-schema.vcs-ref")
_COMMIT = re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{7,64}", re.ASCII)
_TAGS_ASKED = 20
_FORGE = "attestation at the forge"

PROVEN, VERIFIED, AGREED, CLAIMED, DENIED = (
    "proven",
    "verified",
    "agreed",
    "claimed",
    "not followed",
)

ATTESTED = Permission(
    system="github",
    resource="attestations",
    verbs=("read",),
    scope="repository",
    why="to see what the forge itself keeps of an image's origin",
    optional=True,
)
INFO = ActionInfo(
    name="image.trace",
    summary="Find the repository and commit an image was built from, and say how sure that is",
    effect=Effect.READ,
    params={"image": Param(type="image", summary="image to trace; left out: the incident's own")},
    results={
        "image": Param(type="string", summary="repository@digest, as the registry has it"),
        "digest": Param(type="string", summary="digest of the manifest or index"),
        "repository": Param(type="string", summary="the repository that the image map names"),
        "revision": Param(type="string", summary="commit, only where a signature was verified"),
        "sure": Param(type="string", summary="verified, agreed, claimed or nothing"),
        "claimed": Param(type="string", summary="the repository that the image itself names"),
        "claimed_revision": Param(
            type="string",
            summary="commit by a claim about the map's repository; to read, not build",
        ),
        "chain": Param(type="list", summary="every link: what it is, what it says, how sure"),
    },
    permissions=(PULL, ATTESTED),
    example={"image": "${{ target.image }}"},
)


@dataclass(slots=True)
class _Trail:
    """The links as they are found, and the claims of the source among them."""

    links: list[dict[str, str]] = field(default_factory=list)
    claims: list[tuple[str, str, str]] = field(default_factory=list)  # repository, commit, sure

    def add(self, link: str, says: str, sure: str) -> None:
        """One more link; its words come from outside and are made harmless."""
        self.links.append({"link": link, "says": for_terminal(says, 300), "sure": sure})


class ImageTrace:
    """The action; see the module for what it promises."""

    info = INFO

    def __init__(
        self,
        registries: Registries,
        routes: Sequence[ImageRoute],
        verify: Verify | None,
        bundles: Bundles | None = None,
    ) -> None:
        self._registries = registries
        self._routes = tuple(routes)
        self._verify = verify
        self._bundles = bundles

    async def plan(self, call: Call) -> Plan:
        """An empty plan; raises `StepFailed` when the registry may not be asked."""
        image = asked(call)
        self._registries.of(image)
        return Plan(
            action=INFO.name,
            summary=f"trace image {image.name} to its source",
            params={"image": f"{image.name}@{image.reference}"},
        )

    async def apply(self, call: Call, plan: Plan) -> Done:
        """The chain; raises `NotFound` when the registry has neither the digest nor the tag."""
        image = asked(call)
        route = route_of(self._routes, image)
        trail = _Trail()
        found, image = await self._found(image, trail)
        _labels(found, route, trail)
        await self._tags(image, found, route, trail)
        await self._attested(image, route, trail)
        return Done(result=_result(image, found, route, trail))

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: a look-up ends at once."""
        raise StepFailed("image.trace has nothing to wait for")

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Proven only where a signature was verified; else what the way rests on stays open."""
        sure = str(result["sure"])
        residual = {
            VERIFIED: (),
            AGREED: ("the commit is the image's own claim: no signature was verified",),
        }.get(sure, ("the source is not known: the image map and the image's claims do not meet",))
        level = VerdictLevel.PROVEN if sure == VERIFIED else VerdictLevel.APPLIED
        return Verdict(level=level, residual=residual, checks={"sure": sure or "nothing"})

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Nothing was changed."""
        return Done()

    # ------------------------------------------------------------------ links

    async def _found(self, image: ImageName, trail: _Trail) -> tuple[Described, ImageName]:
        """The image in its registry, by digest; by its tag where the digest is no manifest."""
        registry = self._registries.of(image)
        try:
            found = await registry.described(image)
        except NotFound:
            if not (image.digest and image.tag):
                raise
            found = await registry.described(replace(image, digest=""))
            if image.digest not in found.digests:
                raise NotFound(
                    f"registry {image.host}: no {image.digest} in {image.repository}, and the tag "
                    f"{image.tag} means {found.digest}"
                ) from None
            says = f"{image.digest} is the configuration of {found.digest}, by the tag {image.tag}"
            trail.add("running image", says, PROVEN)
            return found, replace(image, digest=found.digest)
        if image.digest:
            kind = "an index" if len(found.digests) > 2 else "a manifest"  # noqa: PLR2004
            says = f"{found.digest} is {kind} in {image.name}, by the hash of its bytes"
            trail.add("running image", says, PROVEN)
        else:
            says = f"the tag {image.reference} means {found.digest} now; it may have meant another"
            trail.add("running image", says, CLAIMED)
        return found, replace(image, digest=found.digest)

    async def _tags(
        self, image: ImageName, found: Described, route: ImageRoute | None, trail: _Trail
    ) -> None:
        """Tags that mean this image; one that holds a whole commit is a claim of it."""
        registry = self._registries.of(image)
        try:
            listed = await registry.tags(image.repository)
        except (NotFound, StepFailed):
            return  # some registries list no tags to anybody
        first = sorted(listed, key=lambda tag: (tag != image.tag, not _COMMIT.search(tag)))
        means = []
        for tag in first[:_TAGS_ASKED]:
            try:
                digest, _ = await registry.manifest(image.repository, tag)
            except (NotFound, StepFailed):
                continue
            if digest == found.digest:
                means.append(tag)
        if means:
            trail.add("tags", f"{', '.join(means)} in {image.name}", PROVEN)
        for tag in means:
            if route and (m := _COMMIT.search(tag)):
                trail.add("commit in a tag", m[0], CLAIMED)
                trail.claims.append(("", m[0], CLAIMED))

    async def _attested(self, image: ImageName, route: ImageRoute | None, trail: _Trail) -> None:
        """Statements that refer to the image, each with how far it is verified."""
        _attest(trail, "attestation", await attested(self._registries, image, route, self._verify))
        if self._bundles is None or route is None:
            return
        asked = forge_attested(self._registries, image, route, self._verify, self._bundles)
        try:
            _attest(trail, _FORGE, await asked)
        except (NotFound, StepFailed, StepRetry) as error:  # the rest of the way is told anyway
            trail.add(_FORGE, f"{route.forge} could not be asked: {error}", CLAIMED)


def _attest(trail: _Trail, link: str, found: Sequence[Attestation]) -> None:
    for one in found:
        says = f"{one.repository or 'no repository'} at {one.revision or 'no commit'}"
        sure = VERIFIED if one.verified else CLAIMED
        trail.add(link, says if one.verified else f"{says}; not verified: {one.refused}", sure)
        trail.claims.append((one.repository, one.revision, sure))


async def attested(
    registries: Registries, image: ImageName, route: ImageRoute | None, verify: Verify | None
) -> list[Attestation]:
    """The statements on an image, verified against the identity that its route allows."""
    return await attestations(registries.of(image), image, _wanted(route, verify))


async def forge_attested(
    registries: Registries,
    image: ImageName,
    route: ImageRoute,
    verify: Verify | None,
    bundles: Bundles,
) -> list[Attestation]:
    """As `attested`, of what the route's own forge keeps; no other repository is asked.

    Raises `NotFound`, `StepFailed` and `StepRetry` where the forge cannot be asked.
    """
    found = await bundles(route, image.digest)
    return await attested_by(registries.of(image), found, image.digest, _wanted(route, verify))


def _wanted(route: ImageRoute | None, verify: Verify | None) -> Asked:
    identity = identity_of(route)
    return Asked(identity=identity, issuer=_GITHUB_ISSUER if identity else "", verify=verify)


def route_of(routes: Sequence[ImageRoute], image: ImageName) -> ImageRoute | None:
    """The line of the image map that an image falls under; nothing else ever chooses one."""
    return next((one for one in routes if fnmatchcase(image.name, one.match)), None)


def identity_of(route: ImageRoute | None) -> str:
    """Who may have signed a GitHub build of this route: its workflow on its branch.

    https://docs.sigstore.dev/certificate_authority/oidc-in-fulcio/
    """
    if route is None:
        return ""
    name = route.workflow.rpartition("/")[2]
    return f"https://github.com/{route.repo}/.github/workflows/{name}@refs/heads/{route.ref}"


def _labels(found: Described, route: ImageRoute | None, trail: _Trail) -> None:
    """What the image says of itself, in its configuration and on its manifest."""
    for link, said in (("labels", found.labels), ("annotations", found.annotations)):
        url = next((said[key] for key in _SOURCES if said.get(key)), "")
        commit = next((said[key] for key in _REVISIONS if said.get(key)), "")
        if not url and not commit:
            continue
        host, repository = source_of(url)
        sure = CLAIMED
        if repository and route:
            sure = AGREED if _same(repository, route) else DENIED
        shown = f"{host}/{repository}" if repository else url or "no repository"
        trail.add(link, f"{shown} at {commit or 'no commit'}", sure)
        trail.claims.append((repository, commit if _HEX.fullmatch(commit) else "", sure))


def _same(repository: str, route: ImageRoute) -> bool:
    return repository.lower() == route.repo.lower()


def _result(
    image: ImageName, found: Described, route: ImageRoute | None, trail: _Trail
) -> dict[str, Any]:
    """The answer: the map's repository always, commits only from claims about that one."""
    claimed = next((repository for repository, _, _ in trail.claims if repository), "")
    allowed = [
        (commit, VERIFIED if sure == VERIFIED else AGREED)
        for repository, commit, sure in trail.claims
        if route and repository and _same(repository, route)
    ]
    best = sorted(allowed, key=lambda one: (one[1] != VERIFIED, not one[0]))
    revision, sure = best[0] if best else ("", CLAIMED if claimed else "")
    if route is None:
        trail.add("image map", "no line of [[images]] matches: no pipeline may rebuild it", PROVEN)
    else:
        says = f"{route.repo}, {route.workflow} on {route.ref}, of forge {route.forge}"
        trail.add("image map", says, PROVEN)
    return {
        "image": f"{image.name}@{found.digest}",
        "digest": found.digest,
        "repository": route.repo if route else "",
        "revision": revision if sure == VERIFIED else "",
        "claimed_revision": revision,
        "sure": sure,
        "claimed": for_terminal(claimed, 200),
        "chain": trail.links,
    }
