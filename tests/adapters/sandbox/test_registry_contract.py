"""The same checks over the sandbox's registry and over a real one."""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import aiohttp
import pytest

from responder.sandbox.world import SandboxWorld
from tests.real.engine import Engine

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class Registry:
    """Plain HTTP to one registry."""

    def __init__(self, session: aiohttp.ClientSession, host: str) -> None:
        self.session, self.root = session, f"http://{host}"

    async def send(
        self, method: str, path: str, data: bytes | None = None, kind: str = ""
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One request; never raises for a status."""
        url = path if path.startswith("http") else self.root + path
        headers = {"Content-Type": kind or "application/octet-stream", "Accept": MANIFEST}
        async with self.session.request(method, url, data=data, headers=headers) as answer:
            return answer.status, _plain(answer.headers), await answer.read()

    async def error(self, method: str, path: str, data: bytes | None = None, kind: str = "") -> str:
        """The status and code of a refusal."""
        status, _, body = await self.send(method, path, data, kind)
        return f"{status} {json.loads(body)['errors'][0]['code']}"

    async def push(self, repo: str, data: bytes) -> str:
        """Push a blob in one piece."""
        name = _digest(data)
        status, headers, _ = await self.send("POST", f"/v2/{repo}/blobs/uploads/")
        assert status == 202
        place = _joined(headers["Location"], name)
        status, headers, _ = await self.send("PUT", place, data)
        assert (status, headers["Docker-Content-Digest"]) == (201, name)
        return name

    async def image(self, repo: str, tag: str) -> str:
        """Push a small image; returns its digest."""
        layer, config = b"layer of " + repo.encode(), b'{"architecture":"amd64","os":"linux"}'
        for data in (layer, config):
            await self.push(repo, data)
        manifest = _manifest(config, layer)
        path = f"/v2/{repo}/manifests/{tag}"
        status, headers, _ = await self.send("PUT", path, manifest, MANIFEST)
        assert (status, headers["Docker-Content-Digest"]) == (201, _digest(manifest))
        return _digest(manifest)


def _plain(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers by their names in one way of writing them."""
    return {str(name).title(): value for name, value in headers.items()}


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _joined(place: str, name: str) -> str:
    return f"{place}{'&' if '?' in place else '?'}digest={name}"


def _manifest(config: bytes, layer: bytes) -> bytes:
    def part(kind: str, data: bytes) -> dict[str, object]:
        return {"mediaType": kind, "digest": _digest(data), "size": len(data)}

    body = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": part(CONFIG, config),
        "layers": [part(LAYER, layer)],
    }
    return json.dumps(body).encode()


async def it_answers_at_its_root(registry: Registry) -> None:
    """The version check answers 200 with the API's version."""
    status, headers, _ = await registry.send("GET", "/v2/")
    assert (status, headers["Docker-Distribution-Api-Version"]) == (200, "registry/2.0")


async def an_image_is_had_by_tag_and_by_digest(registry: Registry) -> None:
    """Manifest and blobs come back byte for byte under their digests."""
    name = await registry.image("check/a", "1.0")
    for reference in ("1.0", name):
        for method in ("HEAD", "GET"):
            path = f"/v2/check/a/manifests/{reference}"
            status, headers, body = await registry.send(method, path)
            assert (status, headers["Docker-Content-Digest"]) == (200, name)
            assert headers["Content-Type"] == MANIFEST
            assert int(headers["Content-Length"]) > 0
            assert method == "HEAD" or _digest(body) == name
    layer = json.loads(body)["layers"][0]["digest"]
    status, headers, data = await registry.send("GET", f"/v2/check/a/blobs/{layer}")
    assert (status, _digest(data)) == (200, layer)
    assert headers["Docker-Content-Digest"] == layer
    assert (await registry.send("HEAD", f"/v2/check/a/blobs/{layer}"))[0] == 200
    status, _, body = await registry.send("GET", "/v2/check/a/tags/list")
    assert json.loads(body) == {"name": "check/a", "tags": ["1.0"]}


async def a_tag_moves_and_the_old_digest_stays(registry: Registry) -> None:
    """Pushing to a tag points it elsewhere and deletes nothing."""
    old = await registry.image("check/b", "1.0")
    config, layer = b'{"os":"linux","architecture":"arm64"}', b"another"
    for data in (config, layer):
        await registry.push("check/b", data)
    manifest = _manifest(config, layer)
    await registry.send("PUT", "/v2/check/b/manifests/1.0", manifest, MANIFEST)
    _, headers, _ = await registry.send("HEAD", "/v2/check/b/manifests/1.0")
    assert headers["Docker-Content-Digest"] == _digest(manifest) != old
    assert (await registry.send("HEAD", f"/v2/check/b/manifests/{old}"))[0] == 200


async def what_is_not_there_is_404(registry: Registry) -> None:
    """Unknown manifests, blobs and names have their codes; there is no referrers API."""
    await registry.image("check/c", "1.0")
    unknown = "sha256:" + "0" * 64
    assert await registry.error("GET", "/v2/check/c/manifests/2.0") == "404 MANIFEST_UNKNOWN"
    assert await registry.error("GET", f"/v2/check/c/manifests/{unknown}") == "404 MANIFEST_UNKNOWN"
    assert (await registry.send("HEAD", f"/v2/check/c/manifests/{unknown}"))[0] == 404
    assert await registry.error("GET", f"/v2/check/c/blobs/{unknown}") == "404 BLOB_UNKNOWN"
    assert await registry.error("GET", "/v2/check/none/tags/list") == "404 NAME_UNKNOWN"
    assert (await registry.send("GET", f"/v2/check/c/referrers/{unknown}"))[0] == 404


async def bytes_that_do_not_fit_their_digest_are_refused(registry: Registry) -> None:
    """A blob is stored only under its true digest."""
    _, headers, _ = await registry.send("POST", "/v2/check/d/blobs/uploads/")
    place = _joined(headers["Location"], _digest(b"other"))
    assert await registry.error("PUT", place, b"these") == "400 DIGEST_INVALID"
    assert (await registry.send("HEAD", f"/v2/check/d/blobs/{_digest(b'these')}"))[0] == 404


async def a_manifest_needs_its_blobs(registry: Registry) -> None:
    """A manifest that names unknown blobs, or is none, is refused."""
    await registry.push("check/e", b"{}")
    manifest = _manifest(b"{}", b"never pushed")
    path = "/v2/check/e/manifests/1.0"
    assert await registry.error("PUT", path, manifest, MANIFEST) == "400 MANIFEST_BLOB_UNKNOWN"
    assert await registry.error("GET", path) == "404 MANIFEST_UNKNOWN"
    assert await registry.error("PUT", path, b"{nope", MANIFEST) == "400 MANIFEST_INVALID"


async def a_blob_may_come_in_pieces(registry: Registry) -> None:
    """An upload in two pieces gives one blob."""
    data = b"first half, second half"
    status, headers, _ = await registry.send("POST", "/v2/check/f/blobs/uploads/")
    assert status == 202
    for piece in (data[:12], data[12:]):
        status, headers, _ = await registry.send("PATCH", headers["Location"], piece)
        assert status == 202
    assert headers["Range"] == f"0-{len(data) - 1}"
    place = _joined(headers["Location"], _digest(data))
    assert (await registry.send("PUT", place))[0] == 201
    status, _, body = await registry.send("GET", f"/v2/check/f/blobs/{_digest(data)}")
    assert (status, body) == (200, data)


async def a_blob_is_shown_only_where_it_was_pushed(registry: Registry) -> None:
    """Another repository does not see it."""
    name = await registry.push("check/g", b"private to g")
    assert await registry.error("GET", f"/v2/check/h/blobs/{name}") == "404 BLOB_UNKNOWN"


CHECKS: tuple[Callable[[Registry], Awaitable[None]], ...] = (
    it_answers_at_its_root,
    an_image_is_had_by_tag_and_by_digest,
    a_tag_moves_and_the_old_digest_stays,
    what_is_not_there_is_404,
    bytes_that_do_not_fit_their_digest_are_refused,
    a_manifest_needs_its_blobs,
    a_blob_may_come_in_pieces,
    a_blob_is_shown_only_where_it_was_pushed,
)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Give a session that ends with the test."""
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_sandbox_registry_keeps_the_contract(
    check: Callable[[Registry], Awaitable[None]], session: aiohttp.ClientSession
) -> None:
    """The sandbox's registry answers as the check says."""
    async with SandboxWorld() as world:
        await check(Registry(session, world.registry))


@pytest.mark.engine
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_real_registry_keeps_the_contract(
    check: Callable[[Registry], Awaitable[None]], session: aiohttp.ClientSession, engine: Engine
) -> None:
    """A real registry answers as the check says: the check itself is right."""
    await check(Registry(session, engine.registry))
