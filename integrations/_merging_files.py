"""What changes in a file that names an image: pure, one function for each kind of file.

Only the places that name the image, or the base, are changed; every other byte of the file stays.
What cannot be found, or names another image than the one that was asked for, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from integrations._images import ImageName, is_digest, is_tag, parse_image
from integrations._merging_yaml import Value, steps_of, values_at, with_value
from responder.errors import StepFailed

__all__ = ["KINDS", "Wish", "edited", "pairs"]

# Lines that choose a base: FROM, and ARG with a default (https://docs.docker.com/reference/dockerfile/)
_CHOOSES = re.compile(r"^\s*(FROM|ARG)\s", re.IGNORECASE)
_IMAGE_LINE = re.compile(
    r"^\s*(?:- +)*image:\s+(?P<quote>[\"']?)(?P<ref>[^\s\"'#]+)(?P=quote)\s*(?:#.*)?$"
)
_ELEMENTS = 200  # entries of a kustomization that are looked through


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a file shall say: for a Dockerfile another base, for all others an image's digest."""

    kind: str
    file: str
    key: str = ""
    image: ImageName
    digest: str = ""
    base: str = ""
    instead_of: str = ""

    @property
    def wanted(self) -> str:
        """What the file names afterwards, for a person."""
        return self.base or f"{self.image.name}@{self.digest}"


def edited(text: str, wish: Wish) -> str:
    """The text as it shall be; the same text where it says so already.

    Raises `StepFailed` when the file does not name what was asked for, or cannot be read safely.
    """
    try:
        return KINDS[wish.kind](text, wish)
    except StepFailed as error:
        raise StepFailed(f"{wish.file}: {error}") from error


def pairs(before: str, after: str) -> list[tuple[str, str]]:
    """The lines that differ; no kind of change adds or removes one."""
    both = zip(before.splitlines(), after.splitlines(), strict=True)
    return [(old, new) for old, new in both if old != new]


def _dockerfile(text: str, wish: Wish) -> str:
    """The base where a line chooses one; `base:1` is no part of `base:1.2`."""
    old = re.compile(rf"(?<![\w./:@-]){re.escape(wish.instead_of)}(?![\w./:@-])")
    new = re.compile(rf"(?<![\w./:@-]){re.escape(wish.base)}(?![\w./:@-])")
    lines = text.splitlines(keepends=True)
    changed = [old.sub(lambda _: wish.base, s) if _CHOOSES.match(s) else s for s in lines]
    if changed == lines and not any(_CHOOSES.match(s) and new.search(s) for s in lines):
        raise StepFailed(f"it builds on no {wish.instead_of}; look at instead_of")
    return "".join(changed)


def _manifest(text: str, wish: Wish) -> str:
    """The reference at the key, or every `image:` line that names the image."""
    if wish.key:
        return _at_key(text, wish)
    lines = text.splitlines(keepends=True)
    found = 0
    for at, line in enumerate(lines):
        match = _IMAGE_LINE.match(line.rstrip("\r\n"))
        if match is not None and _names(match["ref"], wish.image):
            found += 1
            lines[at] = line[: match.start("ref")] + wish.wanted + line[match.end("ref") :]
    if not found:
        raise StepFailed(f"no image: line of it names {wish.image.name}")
    return "".join(lines)


def _at_key(text: str, wish: Wish) -> str:
    """One value; its last name says what is written there: `digest`, `tag`, or the whole."""
    path, last = wish.key, wish.key.rpartition(".")[2]
    found = values_at(text, steps_of(path))
    if last not in {"digest", "tag"}:
        found = [value for value in found if _names(value.text, wish.image)]
    if len(found) != 1:
        where = "no place" if not found else f"{len(found)} places"
        raise StepFailed(f"{path}: {where} that names {wish.image.name}, expected one")
    [value] = found
    if last in {"digest", "tag"}:
        _same_image(text, path, wish.image)
    return with_value(text, value, _written(last, value, wish))


def _written(last: str, value: Value, wish: Wish) -> str:
    """What stands at the key; a tag keeps its name: `REPOSITORY:TAG@DIGEST` is a reference."""
    if last == "digest":
        if value.text and not is_digest(value.text):
            raise StepFailed(f"line {value.line + 1} holds no digest")
        return wish.digest
    if last == "tag":
        tag = value.text.partition("@")[0]
        if not is_tag(tag):
            raise StepFailed(f"line {value.line + 1} holds no tag")
        return f"{tag}@{wish.digest}"
    return wish.wanted


def _same_image(text: str, path: str, image: ImageName) -> None:
    """Raises `StepFailed` when the values beside a digest or tag name another repository."""
    base = path.rpartition(".")[0]

    def beside(name: str) -> str:
        found = values_at(text, steps_of(f"{base}.{name}")) if base else []
        return found[0].text if found else ""

    repository = beside("repository")
    if not repository:
        return
    whole = f"{beside('registry')}/{repository}" if beside("registry") else repository
    if not _names(whole, image):
        raise StepFailed(f"{base}.repository names another image than {image.name}")


def _kustomize(text: str, wish: Wish) -> str:
    """The digest of the image's entry in `images`; a `newTag` becomes the digest.

    https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/images/
    """
    for number in range(_ELEMENTS):
        entry = {
            name: found[0]
            for name in ("name", "newName", "newTag", "digest")
            if (found := values_at(text, steps_of(f"images[{number}].{name}")))
        }
        if not entry:
            break
        if not _is_entry(entry, wish):
            continue
        if "digest" in entry:
            return with_value(text, entry["digest"], wish.digest)
        if "newTag" in entry:
            return _renamed(text, entry["newTag"], wish.digest)
        raise StepFailed(f"the entry of {wish.image.name} has no newTag and no digest to change")
    raise StepFailed(f"no entry in images is {wish.key or wish.image.name}")


def _is_entry(entry: Mapping[str, Value], wish: Wish) -> bool:
    named = entry["name"].text if "name" in entry else ""
    becomes = entry["newName"].text if "newName" in entry else ""
    if wish.key and named != wish.key:
        return False
    return _names(becomes or named, wish.image) or bool(wish.key and not becomes)


def _renamed(text: str, value: Value, digest: str) -> str:
    lines = text.splitlines(keepends=True)
    line = lines[value.line]
    tail = line[value.end :]
    lines[value.line] = line[: value.start].replace("newTag", "digest", 1) + digest + tail
    return "".join(lines)


def _names(reference: str, image: ImageName) -> bool:
    try:
        return parse_image(reference).name == image.name
    except StepFailed:
        return False


KINDS: Mapping[str, Callable[[str, Wish], str]] = {
    "dockerfile": _dockerfile,
    "manifest": _manifest,
    "values": _at_key,
    "kustomize": _kustomize,
}
