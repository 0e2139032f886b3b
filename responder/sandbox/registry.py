"""The sandbox's registry: OCI distribution over HTTP, content-addressed in memory.

It stores what it is given only when the digest agrees with the bytes, and a manifest only when
all it names is there. It never fetches anything from elsewhere.
https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from aiohttp import web

from responder.clock import World
from responder.errors import ResponderError
from responder.sandbox.effects import Effects

__all__ = ["MANIFEST", "Registry", "digest"]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_PATH = re.compile(
    r"^/v2/(?P<repo>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)/(?P<what>manifests|blobs|tags)/(?P<rest>.*)$"
)
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_TAG = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")
_BODY_MAX = 64 * 1024 * 1024


class _Refused(ResponderError):
    def __init__(self, status: int, code: str, message: str, detail: Any = None) -> None:
        super().__init__(message)
        error = {"code": code, "message": message, "detail": detail}
        self.status, self.body = status, {"errors": [error]}


def digest(data: bytes) -> str:
    """`sha256:` and the hash."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """One registry; `app` is served by whoever owns it."""

    def __init__(self, world: World, effects: Effects | None = None) -> None:
        self._world, self._effects = world, effects or Effects()
        self._blobs: dict[str, bytes] = {}
        self._linked: set[tuple[str, str]] = set()  # which repository may show which blob
        self._manifests: dict[str, dict[str, tuple[str, bytes]]] = {}
        self._tags: dict[str, dict[str, str]] = {}
        self._uploads: dict[str, tuple[str, bytearray]] = {}
        self.app = web.Application(client_max_size=_BODY_MAX)
        self.app.router.add_route("*", "/{path:.*}", self._serve)

    def put_blob(self, repo: str, data: bytes) -> str:
        """Store bytes for a repository; returns their digest."""
        name = digest(data)
        self._blobs[name] = data
        self._linked.add((repo, name))
        return name

    def put_manifest(self, repo: str, tag: str, media_type: str, data: bytes) -> str:
        """Store a manifest and, when a tag is given, point the tag at it; returns its digest."""
        name = digest(data)
        self._manifests.setdefault(repo, {})[name] = (media_type, data)
        if tag:
            self._tags.setdefault(repo, {})[tag] = name
        return name

    def resolve(self, repo: str, reference: str) -> str:
        """The digest of a tag or digest, empty when there is none."""
        name = self._tags.get(repo, {}).get(reference, reference)
        return name if name in self._manifests.get(repo, {}) else ""

    def config(self, repo: str, name: str) -> dict[str, Any]:
        """The configuration of the image with this manifest; empty when it has none."""
        manifest = json.loads(self._manifests[repo][name][1])
        data = self._blobs.get((manifest.get("config") or {}).get("digest", ""))
        return dict(json.loads(data)) if data else {}

    async def _serve(self, request: web.Request) -> web.Response:
        try:
            answer = await self._answer(request)
        except _Refused as refused:
            answer = web.json_response(refused.body, status=refused.status)
        answer.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
        return answer

    async def _answer(self, request: web.Request) -> web.Response:
        if request.path in {"/v2/", "/v2"}:
            return web.json_response({})
        found = _PATH.match(request.path)
        if not found:
            raise _Refused(404, "NAME_UNKNOWN", "repository name not known to registry")
        repo, what, rest = found["repo"], found["what"], found["rest"]
        if what == "manifests":
            return await self._manifest(request, repo, rest)
        if what == "tags" and rest == "list":
            return self._list(repo)
        if what == "blobs" and rest.startswith("uploads/"):
            return await self._upload(request, repo, rest.removeprefix("uploads/"))
        if what == "blobs" and request.method in {"GET", "HEAD"}:
            return self._blob(repo, rest)
        raise _Refused(405, "UNSUPPORTED", "The operation is unsupported.")

    def _list(self, repo: str) -> web.Response:
        if repo not in self._manifests:
            detail = {"name": repo}
            raise _Refused(404, "NAME_UNKNOWN", "repository name not known to registry", detail)
        return web.json_response({"name": repo, "tags": sorted(self._tags.get(repo, {}))})

    def _blob(self, repo: str, name: str) -> web.Response:
        if not _DIGEST.match(name):
            raise _Refused(404, "DIGEST_INVALID", "provided digest did not match uploaded content")
        if (repo, name) not in self._linked:
            raise _Refused(404, "BLOB_UNKNOWN", "blob unknown to registry", name)
        headers = {"Docker-Content-Digest": name, "Content-Type": "application/octet-stream"}
        return web.Response(body=self._blobs[name], headers=headers)

    async def _manifest(self, request: web.Request, repo: str, reference: str) -> web.Response:
        if not (_DIGEST.match(reference) or _TAG.match(reference)):
            raise _Refused(400, "TAG_INVALID", "manifest tag did not match URI")
        if request.method == "PUT":
            return self._take(request, repo, reference, await request.read())
        if request.method not in {"GET", "HEAD"}:
            raise _Refused(405, "UNSUPPORTED", "The operation is unsupported.")
        name = self.resolve(repo, reference)
        if not name:
            word = "unknown manifest" if _DIGEST.match(reference) else "manifest unknown"
            raise _Refused(404, "MANIFEST_UNKNOWN", word, {"Tag": reference})
        media_type, data = self._manifests[repo][name]
        headers = {
            "Docker-Content-Digest": name,
            "Content-Type": media_type,
            "Etag": f'"{name}"',
        }
        return web.Response(body=data, headers=headers)

    def _take(self, request: web.Request, repo: str, reference: str, data: bytes) -> web.Response:
        name = digest(data)
        by_digest = bool(_DIGEST.match(reference))
        if by_digest and reference != name:
            raise _Refused(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        try:
            manifest = json.loads(data)
            named = [
                manifest["config"]["digest"],
                *(layer["digest"] for layer in manifest["layers"]),
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise _Refused(400, "MANIFEST_INVALID", "manifest invalid") from error
        for blob in named:
            if (repo, blob) not in self._linked:
                text = "blob unknown to registry"
                raise _Refused(400, "MANIFEST_BLOB_UNKNOWN", text, {"digest": blob})
        fresh = name not in self._manifests.get(repo, {})
        media_type = request.headers.get("Content-Type", MANIFEST)
        self.put_manifest(repo, "" if by_digest else reference, media_type, data)
        if fresh:
            self._effects.count("pushes", f"{repo}@{name}")
        headers = {"Docker-Content-Digest": name, "Location": f"/v2/{repo}/manifests/{name}"}
        return web.Response(status=201, headers=headers)

    async def _upload(self, request: web.Request, repo: str, upload: str) -> web.Response:
        data = await request.read()
        wanted = request.query.get("digest", "")
        if request.method == "POST":
            if not wanted:
                upload = self._world.ids.new("up", self._world.clock.now())
                self._uploads[upload] = (repo, bytearray())
                return self._open(repo, upload)
            return self._finish(repo, data, wanted)
        if self._uploads.get(upload, ("", b""))[0] != repo:
            raise _Refused(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        held = self._uploads[upload][1]
        held += data
        if request.method == "PATCH":
            return self._open(repo, upload)
        if request.method == "PUT":
            del self._uploads[upload]
            return self._finish(repo, bytes(held), wanted)
        raise _Refused(405, "UNSUPPORTED", "The operation is unsupported.")

    def _open(self, repo: str, upload: str) -> web.Response:
        size = len(self._uploads[upload][1])
        headers = {
            "Location": f"/v2/{repo}/blobs/uploads/{upload}",
            "Range": f"0-{max(0, size - 1)}",
            "Docker-Upload-UUID": upload,
        }
        return web.Response(status=202, headers=headers)

    def _finish(self, repo: str, data: bytes, wanted: str) -> web.Response:
        if digest(data) != wanted:
            raise _Refused(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        name = self.put_blob(repo, data)
        headers = {"Docker-Content-Digest": name, "Location": f"/v2/{repo}/blobs/{name}"}
        return web.Response(status=201, headers=headers)
