"""Ask image registries what they hold: digest, labels, and whether a digest is there.

Configuration, one table per registry that may be asked at all:

    [registries."registry.example:5000"]
    insecure = false                 # true: plain HTTP, for a registry on loopback
    username = "robot"
    password = {env = "REGISTRY_PASSWORD"}
    token = {env = "…"}              # instead: a bearer token of its own
    realm = "https://auth.example"   # the only other origin credentials may go to
    ca = "/etc/ssl/registry.pem"
    timeout = 15

An image's name comes with an alert, so its host is a stranger's word: only hosts that have a
section are ever asked. Credentials go to the registry and to its `realm`, never along a redirect.
Labels are claims of whoever built the image: use them to find, never to trust.

Protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md and, for the
bearer challenge, https://distribution.github.io/distribution/spec/auth/token/.
"""

# ruff: noqa: ARG001, ARG002 - the ports give these methods their parameters

from __future__ import annotations

import hashlib
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, ValidationError

from integrations._calling import Caller
from integrations._fetch import Answer, HttpError, fetch, new_session, own_classifier
from integrations._images import ImageName, is_digest, parse_image
from responder.clock import World
from responder.errors import ConfigError, NotFound, StepFailed
from responder.model import Effect, Plan, Secret, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Integration, Kit, Param, Pending, Permission

__all__ = ["InspectImage", "Registries", "Registry", "RegistrySettings", "setup"]

_ACCEPT = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
_MANIFEST_MAX = 4 << 20  # what the specification asks registries to accept
_BLOB_MAX = 8 << 20
_TOKEN_MAX = 64 << 10
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
        """Labels of the configuration and annotations of the manifest; an index is followed once.

        Of an index the linux/amd64 manifest is read, else the first that is an image.
        """
        _, manifest = await self._manifest(image.repository, image.reference)
        found = _texts(manifest.get("annotations"))
        if "manifests" in manifest:
            _, manifest = await self._manifest(image.repository, _platform(manifest))
            found = _texts(manifest.get("annotations")) | found
        config = str((manifest.get("config") or {}).get("digest", ""))
        if not is_digest(config):
            return found
        blob = await self._ask(
            f"configuration of {image.repository}",
            "GET",
            image.repository,
            f"blobs/{config}",
            _BLOB_MAX,
        )
        _check_hash(blob.body, config, "configuration")
        return _texts((_object(blob.body).get("config") or {}).get("Labels")) | found

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


class InspectImage:
    """`registry.inspect_image`: what the registry says about an image. Reads only."""

    info = ActionInfo(
        name="registry.inspect_image",
        summary="Look up an image's digest and labels in its registry",
        effect=Effect.READ,
        params={
            "image": Param(
                type="image", summary="image to look up; left out: the incident's own image"
            )
        },
        results={
            "image": Param(type="string", summary="repository@digest"),
            "digest": Param(type="string", summary="digest of the manifest or index"),
            "labels": Param(type="map", summary="labels and annotations, claims of the builder"),
        },
        permissions=(
            Permission(
                system="registry", resource="manifests", verbs=("pull",), why="to read the digest"
            ),
        ),
        example={"image": "registry.example/shop/cart:1.4"},
    )

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def plan(self, call: Call) -> Plan:
        """An empty plan; raises `StepFailed` when the registry may not be asked."""
        image = _asked(call)
        self._registries.of(image)
        return Plan(
            action=self.info.name,
            summary=f"look up image {image.name}",
            params={"image": f"{image.name}@{image.reference}"},
        )

    async def apply(self, call: Call, plan: Plan) -> Done:
        """Digest and labels; raises `NotFound` when the image is not there."""
        image = _asked(call)
        registry = self._registries.of(image)
        digest = await registry.digest(image)
        labels = await registry.labels(ImageName(image.host, image.repository, digest=digest))
        return Done(result={"image": f"{image.name}@{digest}", "digest": digest, "labels": labels})

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: a look-up ends at once."""
        raise StepFailed("registry.inspect_image has nothing to wait for")

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """The digest was computed from the bytes read, so nothing is left to check."""
        return Verdict(level=VerdictLevel.PROVEN, checks={"digest": str(result["digest"])})

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Nothing was changed."""
        return Done()


def setup(section: Mapping[str, Any], world: World, kit: Kit) -> Integration:
    """Everything that `[registries]` brings; raises `ConfigError` with the key that is wrong."""
    known = {host: Registry(host, _settings(host, table), world) for host, table in section.items()}
    registries = Registries(known)
    return Integration(
        actions=(InspectImage(registries),),
        checks={f"registry {host}": registry.ping for host, registry in known.items()},
        digest_of=registries.digest,
        close=registries.close,
    )


def _settings(host: str, table: Mapping[str, Any]) -> RegistrySettings:
    where = f'[registries."{host}"]'
    if "/" in host:
        raise ConfigError(f"{where}: expected HOST or HOST:PORT, without a scheme or path")
    try:
        return RegistrySettings.model_validate(dict(table))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"][:1])
        raise ConfigError(f"{where} {key}: {first['msg']}") from None


def _asked(call: Call) -> ImageName:
    """The image named, else the incident's own: by digest where known, since tags move."""
    if named := call.params.get("image"):
        return parse_image(str(named))
    image = parse_image(call.target.image)
    digest = call.target.digest
    return replace(image, digest=digest) if is_digest(digest) else image


def _platform(index: Mapping[str, Any]) -> str:
    """The digest of the manifest to read of an index; attestations are no images."""
    images = [
        entry
        for entry in index["manifests"]
        if (entry.get("platform") or {}).get("architecture") != "unknown"
        and is_digest(str(entry.get("digest", "")))
    ]
    for entry in images:
        platform = entry.get("platform") or {}
        if (platform.get("os"), platform.get("architecture")) == ("linux", "amd64"):
            return str(entry["digest"])
    if not images:
        raise StepFailed("the image's index names no image")
    return str(images[0]["digest"])


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
