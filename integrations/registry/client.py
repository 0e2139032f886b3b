"""Ask image registries what they hold: digests, labels, tags, and what refers to an image.

An image's name comes with an alert, so its host is a stranger's word: only hosts that have a
section are ever asked. Credentials go to the registry and to its `realm`, never along a redirect.
Labels are claims of whoever built the image: use them to find, never to trust.

Protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md and, for the
bearer challenge, https://distribution.github.io/distribution/spec/auth/token/.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, InstanceOf

from integrations._calling import Caller
from integrations._fetch import Answer, HttpError, fetch, new_session, own_classifier
from integrations._images import ImageName, is_digest, is_tag, parse_image
from integrations._scans.model import at, objects
from responder.clock import World
from responder.errors import NotFound, StepFailed
from responder.model import Secret

T = TypeVar("T")

__all__ = ["Described", "Registries", "Registry", "RegistrySettings"]

_ACCEPT = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
_MANIFEST_MAX = 4 << 20  # what the specification asks registries to accept
_BLOB_MAX = 8 << 20
_TOKEN_MAX = 64 << 10
_TAGS_MAX = 1000
_REDIRECTS = 3
_TOKEN_LIFE = 60.0  # the protocol's default when `expires_in` is absent
_CHALLENGE = re.compile(r'([a-z]+)="([^"]*)"')
_HUB = "registry-1.docker.io"  # where docker.io images really are


class RegistrySettings(BaseModel):
    """One `[registries."HOST"]` table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    insecure: bool = False
    username: str = ""
    password: InstanceOf[Secret] | None = None
    token: InstanceOf[Secret] | None = None
    realm: str = ""
    ca: str = ""
    timeout: float = Field(15.0, gt=0, le=300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One image as its registry has it. Labels and annotations are the builder's claims."""

    digest: str  # of the manifest or index that was asked for
    digests: frozenset[str]  # that, its platforms', and the read configuration's
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


class Registry:
    """One registry; every method reads and none writes."""

    def __init__(self, host: str, settings: RegistrySettings, world: World) -> None:
        self.host = host
        self._settings = settings
        self._world = world
        self._caller = Caller(
            f"registry {host}",
            world,
            classify=own_classifier(world),
            threads=2,
            deadline=settings.timeout,
        )
        scheme = "http" if settings.insecure else "https"
        self._base = f"{scheme}://{_HUB if host == 'docker.io' else host}"
        self._session: aiohttp.ClientSession | None = None
        self._tokens: dict[str, tuple[float, str]] = {}

    async def digest(self, image: ImageName) -> str:
        """The registry's digest of a reference, proved by hashing the manifest's bytes.

        Raises `NotFound` when the registry has no such manifest.
        """
        return (await self._manifest(image.repository, image.reference))[0]

    async def exists(self, repository: str, digest: str) -> bool:
        """Whether a manifest of this digest is there (HEAD)."""
        try:
            await self._ask(f"{repository}@{digest}", "HEAD", repository, f"manifests/{digest}", 0)
        except NotFound:
            return False
        return True

    async def labels(self, image: ImageName) -> dict[str, str]:
        """Labels of the configuration and annotations of the manifest; annotations come first."""
        found = await self.described(image)
        return dict(found.labels) | dict(found.annotations)

    async def described(self, image: ImageName) -> Described:
        """Everything that a registry says of an image; an index is followed once.

        Of an index the linux/amd64 manifest is read, else the first that is an image.
        """
        digest, manifest = await self._manifest(image.repository, image.reference)
        notes, digests = _texts(manifest.get("annotations")), {digest}
        if "manifests" in manifest:
            digests |= set(_images_of(manifest))
            _, manifest = await self._manifest(image.repository, _platform(manifest))
            notes = _texts(manifest.get("annotations")) | notes
        config = str(at(manifest, "config/digest") or "")
        labels: Mapping[str, str] = {}
        if is_digest(config):
            digests.add(config)
            body = await self.blob(image.repository, config, "configuration")
            labels = _texts(at(_object(body), "config/Labels"))
        return Described(
            digest=digest, digests=frozenset(digests), labels=labels, annotations=notes
        )

    async def blob(self, repository: str, digest: str, what: str) -> bytes:
        """The bytes of a blob, at most 8 MiB, proved by their hash; `what` names it in an error."""
        text = f"{what} of {repository}"
        answer = await self._ask(text, "GET", repository, f"blobs/{digest}", _BLOB_MAX)
        _check_hash(answer.body, digest, what)
        return answer.body

    async def tags(self, repository: str) -> list[str]:
        """The first thousand tags of a repository; what is no tag is left out."""
        what = f"tags of {repository}"
        answer = await self._ask(what, "GET", repository, "tags/list?n=1000", _MANIFEST_MAX)
        found = _object(answer.body).get("tags")
        listed = found if isinstance(found, list) else []
        return [tag for tag in listed if isinstance(tag, str) and is_tag(tag)][:_TAGS_MAX]

    async def referrers(self, repository: str, digest: str) -> list[dict[str, Any]]:
        """Descriptors of what refers to a digest: attestations, signatures, bills of materials.

        A registry without the API is asked for the tag that stands for it
        (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers).
        """
        what = f"referrers of {repository}@{digest}"
        try:
            answer = await self._ask(what, "GET", repository, f"referrers/{digest}", _MANIFEST_MAX)
            found = _object(answer.body)
        except NotFound:
            try:
                tag = digest.replace(":", "-")
                _, found = await self._manifest(repository, tag)
            except NotFound:
                return []
        listed = found.get("manifests")
        return (
            [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
        )

    async def manifest(self, repository: str, reference: str) -> tuple[str, dict[str, Any]]:
        """Digest and content of a manifest; raises `NotFound`."""
        return await self._manifest(repository, reference)

    async def beside(self, call: Callable[[], T]) -> T:
        """Run something that computes for a while in this registry's own pool."""
        return await self._caller.in_pool(call)

    async def ping(self) -> str:
        """`ok` when the registry answers its base path; for the doctor."""
        await self._ask("base path", "GET", "", "", _TOKEN_MAX)
        return "ok"

    async def close(self) -> None:
        """Close connections and pool."""
        if self._session:
            await self._session.close()
        self._caller.close()

    async def _manifest(self, repository: str, reference: str) -> tuple[str, dict[str, Any]]:
        what = f"manifest {repository}@{reference}"
        answer = await self._ask(what, "GET", repository, f"manifests/{reference}", _MANIFEST_MAX)
        actual = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        for said in (answer.headers.get("docker-content-digest", ""), reference):
            if is_digest(said) and said != actual:
                raise StepFailed(
                    f"registry {self.host}: {what}: expected bytes of {said}, got {actual}"
                )
        return actual, _object(answer.body)

    async def _ask(self, what: str, method: str, repository: str, path: str, limit: int) -> Answer:
        url = f"{self._base}/v2/{repository}/{path}" if repository else f"{self._base}/v2/"

        async def once() -> Answer:
            answer = await self._authorised(method, url, repository, limit)
            if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
                raise HttpError(answer.status, answer.headers)
            return answer

        return await self._caller.awaiting(what, once)

    async def _authorised(self, method: str, url: str, repository: str, limit: int) -> Answer:
        headers = {"Accept": _ACCEPT, **self._credentials(repository)}
        answer = await self._follow(method, url, headers, limit)
        challenge = answer.headers.get("www-authenticate", "")
        if answer.status == HTTPStatus.UNAUTHORIZED and challenge.lower().startswith("bearer "):
            token = await self._new_token(challenge, repository)
            headers["Authorization"] = f"Bearer {token}"
            answer = await self._follow(method, url, headers, limit)
        return answer

    async def _follow(
        self, method: str, url: str, headers: Mapping[str, str], limit: int
    ) -> Answer:
        """Ask, and follow redirects; another origin than the registry's sees no credential."""
        for _ in range(_REDIRECTS):
            own = _origin(url) == _origin(self._base)
            sent = {k: v for k, v in headers.items() if own or k != "Authorization"}
            answer = await fetch(self._open(), method, url, limit=limit or 1, headers=sent)
            target = answer.headers.get("location", "")
            if answer.status not in {301, 302, 303, 307, 308} or not target:
                return answer
            url = urljoin(url, target)
            if not url.startswith("https://") and not self._settings.insecure:
                raise StepFailed(f"registry {self.host}: redirected to a place without TLS")
        raise StepFailed(f"registry {self.host}: more than {_REDIRECTS} redirects")

    def _credentials(self, repository: str) -> dict[str, str]:
        ends, token = self._tokens.get(repository, (0.0, ""))
        if token and ends > self._world.clock.monotonic():
            return {"Authorization": f"Bearer {token}"}
        if self._settings.token:
            return {"Authorization": f"Bearer {self._settings.token.reveal()}"}
        return self._basic()

    def _basic(self) -> dict[str, str]:
        known = self._settings
        if not (known.username and known.password):
            return {}
        pair = aiohttp.encode_basic_auth(known.username, known.password.reveal())
        return {"Authorization": pair}

    async def _new_token(self, challenge: str, repository: str) -> str:
        said = dict(_CHALLENGE.findall(challenge))
        realm = said.get("realm", "")
        if _origin(realm) not in {_origin(self._base), _origin(self._settings.realm)}:
            raise StepFailed(
                f"registry {self.host}: sends for a token to another place than its own; "
                f'set realm in [registries."{self.host}"] if that is right'
            )
        scope = said.get("scope") or f"repository:{repository}:pull"
        query = urlencode({"service": said.get("service", ""), "scope": scope})
        answer = await fetch(
            self._open(), "GET", f"{realm}?{query}", limit=_TOKEN_MAX, headers=self._basic()
        )
        if answer.status != HTTPStatus.OK:
            raise HttpError(answer.status, answer.headers)
        body = _object(answer.body)
        token = str(body.get("token") or body.get("access_token") or "")
        if not token:
            raise StepFailed(f"registry {self.host}: its token service gave no token")
        life = body.get("expires_in")
        seconds = float(life) if isinstance(life, int | float) else _TOKEN_LIFE
        ends = self._world.clock.monotonic() + max(0.0, min(seconds, 3600.0) - 10.0)
        self._tokens[repository] = (ends, token)
        return token

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            context: ssl.SSLContext | bool = True
            if self._settings.ca:
                context = ssl.create_default_context(cafile=self._settings.ca)
            self._session = new_session(self._caller, timeout=self._settings.timeout, ssl=context)
        return self._session


class Registries:
    """The configured registries, found by the host in an image's name. Others are never asked."""

    def __init__(self, known: Mapping[str, Registry]) -> None:
        self._known = dict(known)

    def of(self, image: ImageName) -> Registry:
        """The registry of an image; raises `StepFailed` when no section allows that host."""
        try:
            return self._known[image.host]
        except KeyError:
            raise StepFailed(
                f'no [registries."{image.host}"] in the configuration, so {image.name} '
                "cannot be looked up"
            ) from None

    async def digest(self, reference: str) -> str:
        """The registry's digest of an image reference; see `Registry.digest`."""
        image = parse_image(reference)
        return await self.of(image).digest(image)

    async def close(self) -> None:
        """Close all of them."""
        for registry in self._known.values():
            await registry.close()


def _images_of(index: Mapping[str, Any]) -> list[str]:
    """The digests of an index's images; attestations are none."""
    return [
        str(entry["digest"])
        for entry in objects(index.get("manifests"))
        if at(entry, "platform/architecture") != "unknown"
        and is_digest(str(entry.get("digest", "")))
    ]


def _platform(index: Mapping[str, Any]) -> str:
    """The digest of the manifest to read of an index; attestations are no images."""
    images = _images_of(index)
    for entry in objects(index.get("manifests")):
        said = (at(entry, "platform/os"), at(entry, "platform/architecture"))
        if said == ("linux", "amd64") and entry.get("digest") in images:
            return str(entry["digest"])
    if not images:
        raise StepFailed("the image's index names no image")
    return images[0]


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise StepFailed("a registry's answer is no JSON object")
    return value


def _check_hash(body: bytes, digest: str, what: str) -> None:
    actual = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if actual != digest:
        raise StepFailed(f"{what}: expected bytes of {digest}, got {actual}")


def _texts(value: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}


def _origin(url: str) -> tuple[str, str] | None:
    parts = urlsplit(url)
    return (parts.scheme, parts.netloc.lower()) if parts.scheme in {"http", "https"} else None
