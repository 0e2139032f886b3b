"""Read the name of an image: registry host, repository, tag and digest.

The grammar is the one of the distribution specification, so that nothing that could leave a URL's
path, start an option or break a line is ever taken for a name.
https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from responder.errors import StepFailed
from responder.text import for_terminal

__all__ = ["ImageName", "is_digest", "is_tag", "parse_image"]

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?(?::[0-9]{1,5})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_HOST_ONLY = re.compile(_HOST, re.ASCII)
_LONGEST = 512


@dataclass(frozen=True, slots=True)
class ImageName:
    """One image by name; `host` is always known, tag and digest may be empty."""

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Host and repository: what the image map compares and a pipeline pushes to."""
        return f"{self.host}/{self.repository}"

    @property
    def reference(self) -> str:
        """What a registry is asked for: the digest when known, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"


def is_digest(text: str) -> bool:
    """Whether the text is a whole SHA-256 digest, `sha256:` and 64 hex digits."""
    return _DIGEST.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether the text is a well-formed tag."""
    return _TAG.fullmatch(text) is not None


def parse_image(text: str) -> ImageName:
    """The parts of an image's name; a name without a host is Docker Hub's, as engines read it.

    Raises `StepFailed` for anything that is not a well-formed name. It never guesses a tag.
    """
    rest, at, digest = text.partition("@")
    first, slash, tail = rest.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    host, path = (first, tail) if is_host else ("docker.io", rest)
    path, colon, tag = path.partition(":")
    if host == "docker.io" and path and "/" not in path:
        path = f"library/{path}"
    well = (
        len(text) <= _LONGEST
        and _HOST_ONLY.fullmatch(host)
        and _REPOSITORY.fullmatch(path)
        and (not colon or _TAG.fullmatch(tag))
        and (not at or is_digest(digest))
    )
    if not well:
        raise StepFailed(
            f'image "{for_terminal(text, 120)}" is no image name; '
            "expected HOST/REPOSITORY[:TAG][@sha256:…]"
        )
    return ImageName(host, path, tag, digest)
