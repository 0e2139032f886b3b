"""Whether what a pipeline says it built may be believed: it must be ours, new, and in the registry.

The pipeline's word is not enough. Never asks a pipeline's own text where to look: the image is the
one that was asked for, and the registry is the configured one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from integrations._artifacts import Build
from integrations._forge import Waiting
from integrations._images import parse_image
from responder.errors import NotFound, StepFailed
from responder.ports import Call

__all__ = ["Digests", "check_claim", "check_registry", "registry_says"]

Digests = Callable[[str], Awaitable[str]]


def check_claim(call: Call, waiting: Waiting, run: str, build: Build) -> None:
    """The artifact belongs to this request, names the image, and is another one than runs now.

    Raises `StepFailed` that says which of these it is not; `run` names the run for a person.
    """
    if build.correlation_id.rpartition("-")[0] != waiting.base:
        raise StepFailed(
            f"artifact of {run} belongs to another request: expected "
            f"correlation_id {waiting.base}-…"
        )
    if build.image != waiting.image:
        raise StepFailed(f"{run} built another image than {waiting.image}")
    asked = parse_image(str(call.params.get("image") or call.target.image))
    if build.digest in {call.target.digest, asked.digest}:
        raise StepFailed(
            f"{run} built {build.digest} again, the image that is running now: nothing was repaired"
        )


async def check_registry(digest_of: Digests | None, waiting: Waiting, build: Build) -> None:
    """The registry has the digest under the tag that the pipeline pushed; raises `StepFailed`."""
    reference = f"{waiting.image}:{build.tag}" if build.tag else f"{waiting.image}@{build.digest}"
    said = await registry_says(digest_of, reference)
    if said != build.digest:
        raise StepFailed(
            f"pipeline and registry disagree on {waiting.image}: the pipeline says "
            f"{build.digest}, the registry says {said}"
        )


async def registry_says(digest_of: Digests | None, reference: str) -> str:
    """The registry's digest of a reference, or words that it has none."""
    if digest_of is None:
        raise StepFailed("no [registries] are configured to check the pipeline's word")
    try:
        return await digest_of(reference)
    except NotFound:
        return f"that it has no {reference}"
