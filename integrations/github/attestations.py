"""What GitHub itself keeps of attestations on an image: Sigstore bundles, handed on unread.

GitHub's own description warns that signature, time and signer must be verified by whoever asks.
Nothing is believed here: what a bundle says, and whether a signature of the allowed identity stands
behind it, is decided where a registry's attestations are. Only the image map's own repository is
asked, whatever an image says of itself.
https://docs.github.com/en/rest/users/attestations, https://docs.github.com/en/rest/repos/attestations
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from integrations.github.client import Forge
from responder.errors import NotFound
from responder.ports import ImageRoute

__all__ = ["RIGHT", "Attestations"]

RIGHT = "attestations: read"
_MOST = 20  # bundles looked at; GitHub lists the newest first
_BUNDLE_MAX = 1 << 20


class Attestations:
    """Asks the forge that the image map names; it never verifies and never chooses."""

    def __init__(self, forges: Mapping[str, Forge]) -> None:
        self._forges = dict(forges)

    async def __call__(self, route: ImageRoute, digest: str) -> Sequence[bytes]:
        """The bundles about a digest in the route's repository; none where there are none.

        Raises `StepFailed` when the credential may not ask, `StepRetry` when nobody answers.
        """
        forge = self._forges.get(route.forge)
        if forge is None:
            return ()
        path = f"/repos/{route.repo}/attestations/{quote(digest, safe=':')}"
        query = {"per_page": str(_MOST), "predicate_type": "provenance"}
        what = f"look for attestations of {route.repo}"
        try:
            answer = await forge.ask(what, "GET", path, query=query, right=RIGHT)
        except NotFound:
            return ()  # nobody attested anything, or a server that keeps none
        listed = answer.get("attestations") if isinstance(answer, Mapping) else None
        found = [
            json.dumps(bundle).encode()
            for one in (listed if isinstance(listed, list) else ())[:_MOST]
            if isinstance(one, Mapping) and isinstance(bundle := one.get("bundle"), Mapping)
        ]
        return [data for data in found if len(data) <= _BUNDLE_MAX]
