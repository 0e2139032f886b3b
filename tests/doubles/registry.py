"""An image registry on loopback with the faults that a real one shows on demand only.

The subset of the distribution specification that reads: manifests and blobs, a bearer challenge,
redirects of blobs to another host. Digests are computed from the bytes, never made up.
"""

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class RegistryDouble:
    """One registry; ``host`` is what image names begin with."""

    bearer: str = ""  # when set, only this token is let in
    password: str = ""  # what the token service asks for, as user `robot`
    realm: str = ""  # where the challenge sends to; empty: its own token service
    lie: str = ""  # said in Docker-Content-Digest instead of the truth
    status: int = 0  # answered instead of everything
    host: str = ""
    store_host: str = ""  # another origin where blobs lie, when set
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    referring: dict[str, list[Any]] | None = None  # digest -> descriptors; None: no such API
    seen: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)

    def put_blob(self, data: bytes) -> str:
        """Keep a blob and return its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return digest

    def put(self, reference: str, kind: str, value: Mapping[str, Any]) -> str:
        """Keep a manifest under a tag and its digest; return the digest."""
        data = json.dumps(value).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.manifests[reference] = self.manifests[digest] = (kind, data)
        return digest

    def put_image(self, tag: str, labels: Mapping[str, str], **manifest: Any) -> str:
        """Keep an image that has these labels and no layers; return its digest."""
        config = self.put_blob(json.dumps({"config": {"Labels": dict(labels)}}).encode())
        return self.put(tag, MANIFEST, {"config": {"digest": config}, "layers": [], **manifest})

    def refer(self, digest: str, data: bytes) -> None:
        """Keep something that refers to an image: by the API where it is on, else by its tag."""
        layer = self.put_blob(data)
        kept = self.put(f"kept-{layer[7:19]}", MANIFEST, {"layers": [{"digest": layer}]})
        descriptor = {"digest": kept, "artifactType": "application/vnd.in-toto+json"}
        if self.referring is not None:
            self.referring.setdefault(digest, []).append(descriptor)
        else:
            self.put(digest.replace(":", "-"), INDEX, {"manifests": [descriptor]})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        self.seen.append((request.method, request.path, dict(request.headers)))
        if self.status:
            return web.Response(status=self.status, headers={"Retry-After": "9"})
        if request.path == "/token":
            return self._token(request)
        if self.bearer and request.headers.get("Authorization") != f"Bearer {self.bearer}":
            realm = self.realm or f"http://{self.host}/token"
            says = f'Bearer realm="{realm}",service="double",scope="repository:shop/cart:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": says})
        if request.path == "/v2/":
            return web.json_response({})
        kind, _, reference = request.path.rpartition("/")
        if request.path.endswith("/tags/list"):
            return web.json_response({"tags": [t for t in self.manifests if ":" not in t]})
        if kind.endswith("/referrers") and self.referring is not None:
            named = self.referring.get(reference, [])
            return web.json_response({"mediaType": INDEX, "manifests": named}, content_type=INDEX)
        return self._manifest(reference) if kind.endswith("manifests") else self._blob(reference)

    def _token(self, request: web.Request) -> web.Response:
        import aiohttp

        wanted = aiohttp.encode_basic_auth("robot", self.password)
        if request.headers.get("Authorization") != wanted:
            return web.Response(status=401)
        return web.json_response({"token": self.bearer, "expires_in": 300})

    def _manifest(self, reference: str) -> web.Response:
        if reference not in self.manifests:
            return web.Response(status=404)
        kind, data = self.manifests[reference]
        digest = self.lie or f"sha256:{hashlib.sha256(data).hexdigest()}"
        headers = {"Docker-Content-Digest": digest, "Content-Type": kind}
        return web.Response(body=data, headers=headers)

    def _blob(self, digest: str) -> web.Response:
        if self.store_host:
            headers = {"Location": f"http://{self.store_host}/v2/kept/blobs/{digest}"}
            return web.Response(status=307, headers=headers)
        if digest not in self.blobs:
            return web.Response(status=404)
        return web.Response(body=self.blobs[digest])


@contextlib.asynccontextmanager
async def running_registry(**settings: Any) -> AsyncIterator[RegistryDouble]:
    """Serve a registry in this event loop."""
    double = RegistryDouble(**settings)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", double.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    double.host = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield double
    finally:
        await runner.cleanup()
