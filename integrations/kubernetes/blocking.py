"""Which images may not start, and the admission policy that refuses them. Pure.

The list is a ConfigMap in our home: `digests`, `refs`, and who asked for each. The policy reads it
as its parameters. It is never deleted, nor is its binding: once the last policy with parameters of
a kind is gone, the API server stops watching that kind for good, and a later policy judges by a
list that never changes again (kubernetes/apiserver, policy_source.go). A second policy that does
nothing, the keeper, sees to it that there is always one.

What a policy sees is the name somebody wrote: a tag that leads to a blocked digest passes, so the
tag has to be blocked as well. Images of static pods are not asked about.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from integrations._images import is_digest, parse_image
from integrations.kubernetes import admission
from integrations.kubernetes.client import Json
from responder.errors import StepFailed

__all__ = [
    "BINDING_ACTIONS",
    "INNOCENT",
    "LIST",
    "Block",
    "config_map",
    "keeper",
    "listed",
    "policies",
    "sample",
    "samples",
    "wanted",
    "with_block",
    "without_block",
]

LIST = "responder-blocked-images"
WARN, DENY = ("Warn", "Audit"), ("Deny", "Audit")
BINDING_ACTIONS = (WARN, DENY)
INNOCENT = "self-test.invalid/innocent@sha256:" + "0" * 64
_BY = "blocked-by"
_MOST = 2000  # entries: far below what a ConfigMap holds and an expression may cost
_DOCKER = ("docker.io", "library/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one step blocks."""

    digests: tuple[str, ...] = ()
    refs: tuple[str, ...] = ()

    @property
    def entries(self) -> tuple[str, ...]:
        """Both, as they stand in the list."""
        return (*self.digests, *self.refs)


def wanted(image: str, digest: str) -> Block:
    """The digest, and every way to write the image's name. Raises `StepFailed` for neither.

    A name that has a digest is not blocked by its tag: the digest says which image was meant.
    """
    if digest and not is_digest(digest):
        raise StepFailed(f"digest {digest!r}: expected sha256: and 64 hex digits")
    if not image:
        if not digest:
            raise StepFailed("no image to block: give `image`, `digest`, or a target that has one")
        return Block(digests=(digest,))
    name = parse_image(image)
    digests = tuple(dict.fromkeys(text for text in (digest, name.digest) if text))
    return Block(digests=digests, refs=() if name.digest else _spellings(image))


def _spellings(image: str) -> tuple[str, ...]:
    """How people write one and the same name: engines put the missing parts in."""
    name = parse_image(image)
    host, library = _DOCKER
    places = [name.name]
    if name.host == host:
        places += [f"index.{host}/{name.repository}", name.repository]
        if name.repository.startswith(library):
            short = name.repository.removeprefix(library)
            places += [short, f"{host}/{short}"]
    tags = [f":{name.tag or 'latest'}", *([""] if name.tag in {"", "latest"} else [])]
    return tuple(sorted({f"{place}{tag}" for place in places for tag in tags} | {image}))


# --------------------------------------------------------------------------- the list


def _lines(data: Mapping[str, str], key: str) -> list[str]:
    return [line for line in data.get(key, "").splitlines() if line]


def _askers(data: Mapping[str, str]) -> dict[str, list[str]]:
    """Who asked for each entry. Raises `StepFailed` when somebody has spoilt it."""
    try:
        found = json.loads(data.get(_BY) or "{}")
        return {str(entry): [str(key) for key in keys] for entry, keys in found.items()}
    except (ValueError, AttributeError, TypeError):
        raise StepFailed(f"ConfigMap {LIST}: its key {_BY} cannot be read: mend it") from None


def with_block(data: Mapping[str, str], block: Block, key: str) -> dict[str, str]:
    """The list with what a step blocks. Never takes anything off. Raises `StepFailed` when full."""
    askers = _askers(data)
    for entry in block.entries:
        askers[entry] = sorted({*askers.get(entry, []), key})
    digests = sorted({*_lines(data, "digests"), *block.digests})
    refs = sorted({*_lines(data, "refs"), *block.refs})
    if len(digests) + len(refs) > _MOST:
        raise StepFailed(f"{len(digests) + len(refs)} images are blocked; at most {_MOST} can be")
    return _data(digests, refs, askers)


def without_block(data: Mapping[str, str], key: str) -> dict[str, str]:
    """The list without what only this step asked for; what nobody asked for by name stays."""
    askers = {entry: [one for one in keys if one != key] for entry, keys in _askers(data).items()}
    gone = {entry for entry, keys in askers.items() if not keys}
    kept = {entry: keys for entry, keys in askers.items() if keys}
    digests = [line for line in _lines(data, "digests") if line not in gone]
    refs = [line for line in _lines(data, "refs") if line not in gone]
    return _data(digests, refs, kept)


def _data(
    digests: Iterable[str], refs: Iterable[str], askers: Mapping[str, list[str]]
) -> dict[str, str]:
    return {
        "digests": "\n".join(digests),
        "refs": "\n".join(refs),
        _BY: json.dumps(askers, sort_keys=True),
    }


def listed(data: Mapping[str, str], block: Block) -> set[str]:
    """The entries of a block that are on the list."""
    return set(block.entries) & {*_lines(data, "digests"), *_lines(data, "refs")}


def config_map(home: str, data: Mapping[str, str]) -> Json:
    """The list as an object."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": LIST, "namespace": home, "labels": dict(admission.MANAGED)},
        "data": dict(data),
    }


# --------------------------------------------------------------------------- the policies


def policies(home: str, actions: Iterable[str]) -> tuple[Json, Json]:
    """The policy and its binding, for every namespace."""
    name = f"{home}-blocked-images"
    # without the list nothing is blocked, rather than every pod of the cluster: verifying tells
    where = {"name": LIST, "namespace": home, "parameterNotFoundAction": "Allow"}
    return (
        admission.policy(name, _spec(home)),
        admission.binding(name, name, actions, paramRef=where),
    )


def _spec(home: str) -> Json:
    of_template = "request.resource.resource == 'podtemplates'"
    images = " + ".join(
        f"(has(variables.spec.{kind}) ? "
        f"variables.spec.{kind}.map(c, has(c.image) ? c.image : '') : [])"
        for kind in ("containers", "initContainers", "ephemeralContainers")
    )
    listed = "has(params.data) && has(params.data.{0}) ? params.data.{0}.split('\\n') : []"
    where = f"see ConfigMap {LIST} in namespace {home}"
    return {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": admission.match(
            admission.rule("", ("pods", "pods/ephemeralcontainers"), "CREATE", "UPDATE"),
            # runs nothing: a pod template is what the policy is tried with
            admission.rule("", ("podtemplates",), "CREATE"),
        ),
        "matchConditions": [
            {
                "name": "new-image",
                "expression": "request.operation == 'CREATE' || object.spec != oldObject.spec",
            },
            {
                "name": "own-template",
                "expression": f"!({of_template}) || request.namespace == {json.dumps(home)}",
            },
        ],
        "variables": [
            {"name": "spec", "expression": f"{of_template} ? object.template.spec : object.spec"},
            {"name": "images", "expression": images},
            {"name": "digests", "expression": listed.format("digests")},
            {"name": "refs", "expression": listed.format("refs")},
        ],
        "validations": [
            {
                "expression": "!variables.images.exists(i, variables.digests.exists(d, "
                "d != '' && i.endsWith('@' + d)))",
                "message": f"this image digest is blocked by an open incident: {where}",
            },
            {
                "expression": "!variables.images.exists(i, i != '' && i in variables.refs)",
                "message": f"this image is blocked by an open incident: {where}",
            },
        ],
    }


def keeper(home: str) -> tuple[Json, Json]:
    """A policy that says yes to everything and is never deleted; see above why."""
    name = f"{home}-keeper"
    spec = {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": admission.match(admission.rule("", ("bindings",), "CREATE")),
        "validations": [{"expression": "true"}],
    }
    where = {"name": LIST, "namespace": home, "parameterNotFoundAction": "Allow"}
    return (
        admission.policy(name, spec),
        admission.binding(name, name, ("Audit",), paramRef=where),
    )


# --------------------------------------------------------------------------- the self-test


def sample(home: str, image: str) -> Json:
    """A pod template to try the policy with; nothing ever runs of one."""
    pod = {"containers": [{"name": "self-test", "image": image}]}
    return {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"name": "responder-self-test", "namespace": home},
        "template": {"metadata": {"labels": {"app": "responder-self-test"}}, "spec": pod},
    }


def samples(block: Block) -> list[str]:
    """Images that the policy must refuse, one for each entry."""
    return [f"self-test.invalid/image@{digest}" for digest in block.digests] + list(block.refs)
