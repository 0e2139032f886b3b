"""The forge's pipeline: really builds a patched image from a base and pushes it over HTTP.

It takes the base's layers, puts a layer with the fixed files over them, then the application's own
layers, and writes a new configuration and manifest. It talks to its one registry and to no other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from responder.errors import StepFailed
from responder.sandbox.images import LAYER, describe, make_image, make_layer
from responder.sandbox.registry import MANIFEST, digest

__all__ = ["BASE_DIGEST", "BASE_NAME", "REVISION", "SOURCE", "Order", "rebuild", "split"]

# https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md
REVISION = "org.opencontainers.image.revision"
SOURCE = "org.opencontainers.image.source"
BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"
_OK = 200
_CREATED = 201


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to build."""

    registry: str  # host:port
    image: str  # the repository to push to, with its host; a tag or digest says what to start from
    source_tag: str  # what to start from when `image` does not say
    tag: str
    revision: str
    source: str
    created: str
    base: str = ""  # empty: the one that the image's labels name
    fix: Mapping[str, bytes]  # files of the layer that repairs the base


def split(image: str) -> tuple[str, str, str]:
    """Host, repository and tag or digest (empty when neither) of an image reference."""
    rest, at, name = image.partition("@")
    host, _, path = rest.partition("/")
    repo, colon, tag = path.partition(":")
    reference = name if at else (tag if colon else "")
    return host, repo, reference


async def rebuild(session: aiohttp.ClientSession, order: Order) -> tuple[str, str, list[str]]:
    """Build and push; returns the image's repository, its digest, and the log.

    Raises `StepFailed` with a reason when the base or image is not there or a push is refused.
    """
    link = _Link(session, order.registry)
    host, repo, reference = split(order.image)
    reference = reference or order.source_tag
    if host != order.registry:
        raise StepFailed(f"image is at {host}, expected {order.registry}: no credentials for it")
    old, old_config = await link.image(repo, reference)
    labels = dict((old_config.get("config") or {}).get("Labels") or {})
    base_repo, base_tag = split(order.base or labels.get(BASE_NAME, ""))[1:]
    if not base_repo:
        raise StepFailed(f"image {repo} names no base, expected the label {BASE_NAME}")
    base, base_config = await link.image(base_repo, base_tag)
    base_bytes = await link.manifest(base_repo, base_tag)
    log = [f"base {base_repo}:{base_tag} {digest(base_bytes)}"]
    fix = make_layer(order.fix)
    known = {layer["digest"] for layer in base["layers"]} | {fix.digest}
    if BASE_DIGEST in labels:
        earlier, _ = await link.image(base_repo, labels[BASE_DIGEST])
        known |= {layer["digest"] for layer in earlier["layers"]}
    own = _own_layers(old, old_config, known)
    layers = [*base["layers"], describe(LAYER, fix.data), *(layer for layer, _ in own)]
    ids = [*base_config["rootfs"]["diff_ids"], fix.diff_id, *(diff for _, diff in own)]
    image = make_image(
        layers,
        ids,
        labels={
            **labels,
            REVISION: order.revision,
            SOURCE: order.source,
            BASE_DIGEST: digest(base_bytes),
        },
        created=order.created,
        run={k: v for k, v in old_config["config"].items() if k != "Labels"},
        history=[{"created": order.created, "created_by": "rebuild", "comment": log[0]}],
    )
    for layer in base["layers"]:
        await link.copy(base_repo, repo, layer["digest"])
    for layer, _ in own:
        await link.copy(repo, repo, layer["digest"])
    await link.push(repo, fix.data)
    await link.push(repo, image.config)
    await link.push_manifest(repo, order.tag, image.manifest)
    log.append(f"pushed {repo}:{order.tag} {image.digest}")
    return f"{order.registry}/{repo}", image.digest, log


def _own_layers(
    old: Mapping[str, Any], config: Mapping[str, Any], known: set[str]
) -> Sequence[tuple[Mapping[str, Any], str]]:
    """The layers that the application brought: those of the image that no base or fix holds."""
    pairs = zip(old["layers"], config["rootfs"]["diff_ids"], strict=True)
    return [(layer, diff) for layer, diff in pairs if layer["digest"] not in known]


class _Link:
    """Calls to one registry."""

    def __init__(self, session: aiohttp.ClientSession, host: str) -> None:
        self._session, self._root = session, f"http://{host}/v2"

    async def manifest(self, repo: str, reference: str) -> bytes:
        return await self._get(f"{repo}/manifests/{reference}")

    async def image(self, repo: str, reference: str) -> tuple[dict[str, Any], dict[str, Any]]:
        manifest = json.loads(await self.manifest(repo, reference))
        config = await self._get(f"{repo}/blobs/{manifest['config']['digest']}")
        return manifest, json.loads(config)

    async def copy(self, source: str, repo: str, name: str) -> None:
        if not await self._has(repo, name):
            await self.push(repo, await self._get(f"{source}/blobs/{name}"))

    async def push(self, repo: str, data: bytes) -> None:
        if await self._has(repo, digest(data)):
            return
        async with self._session.post(f"{self._root}/{repo}/blobs/uploads/") as answer:
            self._expect(answer.status, 202, f"upload to {repo}")
            place = answer.headers["Location"]
        where = place if place.startswith("http") else self._root.removesuffix("/v2") + place
        join = "&" if "?" in where else "?"
        url = f"{where}{join}digest={digest(data)}"
        async with self._session.put(url, data=data) as answer:
            self._expect(answer.status, _CREATED, f"blob for {repo}")

    async def push_manifest(self, repo: str, tag: str, data: bytes) -> None:
        headers = {"Content-Type": MANIFEST}
        url = f"{self._root}/{repo}/manifests/{tag}"
        async with self._session.put(url, data=data, headers=headers) as answer:
            self._expect(answer.status, _CREATED, f"manifest {repo}:{tag}")

    async def _has(self, repo: str, name: str) -> bool:
        async with self._session.head(f"{self._root}/{repo}/blobs/{name}") as answer:
            return answer.status == _OK

    async def _get(self, path: str) -> bytes:
        headers = {"Accept": MANIFEST}
        async with self._session.get(f"{self._root}/{path}", headers=headers) as answer:
            self._expect(answer.status, _OK, path)
            return await answer.read()

    @staticmethod
    def _expect(got: int, wanted: int, what: str) -> None:
        if got != wanted:
            raise StepFailed(f"registry answered {got} for {what}, expected {wanted}")
