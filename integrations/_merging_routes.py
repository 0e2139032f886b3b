"""Where a change of an image may be proposed: the image map's `changes` alone say it.

An alert, a label or a cluster's object never names a repository, a branch or a file. A playbook
names one of the operator's entries, or nothing where there is only one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from integrations._images import ImageName, parse_image
from integrations._merging_files import KINDS
from integrations._merging_yaml import steps_of
from responder.errors import ConfigError, StepFailed
from responder.ports import Call, ImageChange, ImageRoute
from responder.text import for_terminal, suggestion

__all__ = ["SOURCE", "change_of", "check", "image_of", "own_of", "place_of"]

SOURCE = "source"  # the name of the entry that every line has: its own repository
_DOCKERFILE = "Dockerfile"


def image_of(call: Call) -> ImageName:
    """The image a call is about: its parameter, else the incident's own."""
    return parse_image(str(call.params.get("image") or call.target.image))


def place_of(call: Call, routes: Sequence[ImageRoute], *, proposing: bool = True) -> ImageChange:
    """The entry that a call names, of the first line that matches its image.

    Without a name it is the line's own repository for a new base, else the only entry. Where a
    proposal is merged (`proposing` is false) only a line without entries needs no name. Raises
    `StepFailed` with the names there are.
    """
    image = image_of(call)
    route = next((one for one in routes if fnmatchcase(image.name, one.match)), None)
    if route is None:
        raise StepFailed(f"no line of [[images]] matches {image.name}: nothing may be proposed")
    name = str(call.params.get("change") or "")
    own = bool(call.params.get("base")) if proposing else not route.changes
    if name == SOURCE or (not name and own):
        return own_of(route, str(call.params.get("file") or _DOCKERFILE))
    if not name and proposing and len(route.changes) == 1:
        return route.changes[0]
    for one in route.changes:
        if one.name == name:
            return one
    known = ", ".join(one.name for one in route.changes) or "none"
    asked = f'"{for_terminal(name, 60)}" is not there' if name else "name one"
    raise StepFailed(f"change: {asked}; [[images.changes]] of {route.match} has: {known}")


def own_of(route: ImageRoute, file: str) -> ImageChange:
    """A line's own repository as an entry: one Dockerfile. Raises `StepFailed` for a bad path."""
    if not _is_path(file):
        raise StepFailed("file: expected a path inside the repository")
    return ImageChange(
        name=SOURCE,
        forge=route.forge,
        repo=route.repo,
        branch=route.ref,
        file=file,
        kind="dockerfile",
    )


def change_of(routes: Sequence[ImageRoute], image: str, workload: str) -> str:
    """The name of the entry that a workload is deployed from, empty when none or several fit.

    `workload` is CLUSTER/NAMESPACE/KIND/NAME. Entries for Dockerfiles deploy nothing.
    """
    try:
        name = parse_image(image).name
    except StepFailed:
        return ""
    route = next((one for one in routes if fnmatchcase(name, one.match)), None)
    fitting = [
        one.name
        for one in (route.changes if route else ())
        if one.kind != _DOCKERFILE.lower()
        and (not one.workloads or any(fnmatchcase(workload, glob) for glob in one.workloads))
    ]
    return fitting[0] if len(fitting) == 1 else ""


def check(route: ImageRoute, forges: Collection[str]) -> None:
    """Raises `ConfigError` for an entry that could never be used, and names the key."""
    seen = {SOURCE}
    for one in route.changes:
        where = f'[[images]] match = "{route.match}": change "{one.name}"'
        if one.name in seen:
            raise ConfigError(f"{where}: the name is taken")
        seen.add(one.name)
        if one.forge not in forges:
            raise ConfigError(f"{where}: no [forges.{one.forge}]; {suggestion(one.forge, forges)}")
        if "/" not in one.repo or not _is_path(one.repo):
            raise ConfigError(f'{where}: repo: expected OWNER/NAME, got "{one.repo}"')
        if not _is_path(one.file):
            raise ConfigError(f'{where}: file: expected a path in the repository, got "{one.file}"')
        if one.kind not in KINDS:
            raise ConfigError(f'{where}: kind: "{one.kind}" is none; {suggestion(one.kind, KINDS)}')
        _check_key(where, one)


def _check_key(where: str, one: ImageChange) -> None:
    if one.kind == "values" and not one.key:
        raise ConfigError(f'{where}: key: expected where the file names it, such as "image.digest"')
    if one.kind in {"values", "manifest"} and one.key:
        try:
            path = steps_of(one.key)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None
        if path[-1].item:
            raise ConfigError(f"{where}: key: expected to end with a name")


def _is_path(text: str) -> bool:
    return text.isprintable() and not any(part in {"", ".", ".."} for part in text.split("/"))
