"""`registry.inspect_image`: what the registry says about an image."""

# ruff: noqa: ARG002 - the ports give these methods their parameters

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from integrations._images import ImageName, is_digest, parse_image
from integrations.registry.client import Registries
from responder.errors import StepFailed
from responder.model import Effect, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending, Permission

__all__ = ["PULL", "InspectImage", "asked"]

PULL = Permission(
    system="registry", resource="manifests", verbs=("pull",), why="to read the digest"
)


class InspectImage:
    """`registry.inspect_image`: what the registry says about an image. Reads only."""

    info = ActionInfo(
        name="registry.inspect_image",
        summary="Look up an image's digest and labels in its registry",
        effect=Effect.READ,
        params={
            "image": Param(
                type="image", summary="image to look up; left out: the incident's own image"
            )
        },
        results={
            "image": Param(type="string", summary="repository@digest"),
            "digest": Param(type="string", summary="digest of the manifest or index"),
            "labels": Param(type="map", summary="labels and annotations, claims of the builder"),
        },
        permissions=(PULL,),
        example={"image": "registry.example/shop/cart:1.4"},
    )

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def plan(self, call: Call) -> Plan:
        """An empty plan; raises `StepFailed` when the registry may not be asked."""
        image = asked(call)
        self._registries.of(image)
        return Plan(
            action=self.info.name,
            summary=f"look up image {image.name}",
            params={"image": f"{image.name}@{image.reference}"},
        )

    async def apply(self, call: Call, plan: Plan) -> Done:
        """Digest and labels; raises `NotFound` when the image is not there."""
        image = asked(call)
        registry = self._registries.of(image)
        digest = await registry.digest(image)
        labels = await registry.labels(ImageName(image.host, image.repository, digest=digest))
        return Done(result={"image": f"{image.name}@{digest}", "digest": digest, "labels": labels})

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: a look-up ends at once."""
        raise StepFailed("registry.inspect_image has nothing to wait for")

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """The digest was computed from the bytes read, so nothing is left to check."""
        return Verdict(level=VerdictLevel.PROVEN, checks={"digest": str(result["digest"])})

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Nothing was changed."""
        return Done()


def asked(call: Call) -> ImageName:
    """The image named, else the incident's own: by digest where known, since tags move."""
    if named := call.params.get("image"):
        return parse_image(str(named))
    image = parse_image(call.target.image)
    digest = call.target.digest
    return replace(image, digest=digest) if is_digest(digest) else image
