"""The one door to a Kubernetes API server; the only file that imports the SDK.

`kubernetes.aio` reads configuration, credentials and TLS. Requests go out as raw JSON over an
aiohttp session of our own, because the SDK's call path costs three times the CPU. There is no
retry here: every call has a deadline, a place in a bounded lane, and ends in a failure class.

A write that may have happened raises `Uncertain`; its caller must look before it repeats.
Bodies of answers never get into an error, but for `Status.message`, which is written for people
and goes through `veiled` (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/).
"""

from __future__ import annotations

import asyncio
import json
import os.path
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from integrations._calling import retry_after
from integrations.kubernetes.names import Names
from integrations.kubernetes.settings import ClusterSettings
from integrations.kubernetes.underway import Underway
from responder.clock import World
from responder.errors import (
    ConfigError,
    Conflict,
    NotFound,
    ResponderError,
    StepFailed,
    StepRetry,
    Uncertain,
)
from responder.text import cut, for_terminal, veiled

__all__ = ["MERGE_PATCH", "Api", "Connection", "Json"]

Json = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
FIELD_MANAGER = "responder"
ANSWER_MAX = 64 * 1024 * 1024  # bytes of one JSON answer; a list of 10,000 pods is about 60 MiB
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
_STATUS_MAX = 256 * 1024
_ERROR, _INVALID, _TOO_MANY, _SERVER = 400, 422, 429, 500
_CLASSES: dict[int, type[ResponderError]] = {404: NotFound, 409: Conflict}
_REMEDIES = {
    401: "the API server does not know our account: renew its token",
    403: "give our account that right, or find the admission rule that forbids it",
}


class Connection:
    """One API server: its session, its credentials and its two lanes.

    Containment has a lane of its own, so that a slow listing never delays an isolation. The
    session is opened by the first call. Never shared between event loops.
    """

    def __init__(self, name: str, settings: ClusterSettings, world: World) -> None:
        self.name, self.settings, self.world = name, settings, world
        self.underway = Underway(world.clock)
        self._lanes = {
            lane: asyncio.Semaphore(settings.max_in_flight) for lane in ("containment", "bulk")
        }
        self._opening = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None
        self._configuration: Any = None
        self._base = ""
        self._proxy: str | None = None
        self._server_name: str | None = None
        self._names = Names(name)

    def api(self, lane: str = "bulk") -> Api:
        """The verbs, spoken through one lane: `containment` or `bulk`."""
        return Api(self, self._lanes[lane])

    async def close(self) -> None:
        """End the session; calls in flight fail."""
        if self._session:
            await self._session.close()
            self._session = None
        await self._names.close()

    async def session(self) -> aiohttp.ClientSession:
        """The open session. Raises `StepFailed` when the credentials cannot be used."""
        if self._session is None:
            async with self._opening:
                if self._session is None:
                    await self._open()
        assert self._session is not None  # noqa: S101 - tells the type checker what _open did
        return self._session

    async def headers(self) -> dict[str, str]:
        """The credentials as they are now: a token mounted into a pod is renewed by the hour.

        The token is stripped, because a token file that ends in a line break fails every call.
        """
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        return {"Authorization": token.strip()} if token else {}

    def url(self, path: str, query: Mapping[str, str] | None) -> URL:
        """The address of an API path; the path must be quoted already."""
        tail = f"?{urlencode(query)}" if query else ""
        return URL(f"{self._base}{path}{tail}", encoded=True)

    @property
    def transport(self) -> dict[str, Any]:
        """What every request of this cluster passes on to aiohttp."""
        return {"proxy": self._proxy, "server_hostname": self._server_name}

    async def _open(self) -> None:
        try:
            configuration = await _configuration(self.name, self.settings)
            from kubernetes.aio.client import ApiClient

            context = ApiClient(configuration).rest_client.ssl_context
        except ResponderError:
            raise
        except Exception as error:
            # The SDK's texts may quote the file's content: the class has to do.
            kind = type(error).__name__
            raise StepFailed(
                f"cluster {self.name}: its credentials cannot be used ({kind}); check "
                f"[clusters.{self.name}] and run `responder doctor`"
            ) from error
        self._configuration = configuration
        self._base = configuration.host.rstrip("/")
        self._proxy = configuration.proxy or None
        tls = self._base.startswith("https://")
        self._server_name = (configuration.tls_server_name or None) if tls else None
        connector = aiohttp.TCPConnector(
            limit=2 * self.settings.max_in_flight + 16 + 2 * len(self.settings.namespaces),
            ssl=context if tls else False,
            keepalive_timeout=60,
            ttl_dns_cache=60,
            resolver=self._names,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.settings.request_timeout),
            trust_env=False,
            read_bufsize=2**18,
        )


async def _configuration(name: str, settings: ClusterSettings) -> Any:
    """The SDK's configuration for one cluster, never its global default."""
    from kubernetes.aio.client import Configuration
    from kubernetes.aio.config import load_incluster_config, load_kube_config

    if settings.api:
        ready = Configuration(host=settings.api, ssl_ca_cert=settings.ca or None)
        if settings.bearer:
            ready.api_key = {"BearerToken": f"Bearer {settings.bearer.strip()}"}
        return ready
    ready = Configuration()
    if settings.in_cluster:
        load_incluster_config(client_configuration=ready)
        return ready
    path = os.path.expanduser(settings.kubeconfig)  # noqa: ASYNC240, PTH111 - no file is touched
    if not settings.allow_exec:
        _refuse_programs(name, path, settings.context or None)
    await load_kube_config(
        config_file=path,
        context=settings.context or None,
        client_configuration=ready,
        persist_config=False,
    )
    return ready


def _refuse_programs(name: str, path: str, context: str | None) -> None:
    """Raise `ConfigError` when the kubeconfig would start a program or a log-in plug-in."""
    from kubernetes.aio.config.kube_config import KubeConfigMerger

    config = KubeConfigMerger(path).config
    if config is None:
        raise ConfigError(f"clusters.{name}.kubeconfig: no such file: {path}")
    chosen = config["contexts"].get_with_name(context or config["current-context"])
    wanted = chosen["context"].safe_get("user")
    found = config["users"].get_with_name(wanted, safe=True) if wanted else None
    user = found["user"] if found else {}
    for key in ("exec", "auth-provider"):
        if key in user:
            raise ConfigError(
                f"clusters.{name}.kubeconfig: user {wanted} logs in through {key}, which starts "
                "foreign code; use a service account's token, or set allow_exec = true"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    path: str
    body: Json | None = None
    query: Mapping[str, str] | None = None
    write: bool = False  # it leaves a trace, so a lost answer is not "nothing happened"
    kind: str = "application/json"
    accept: str = ""
    limit: int = ANSWER_MAX
    warned: list[str] | None = None  # where the answer's warnings go


@dataclass(frozen=True, slots=True)
class Api:
    """GET, create, patch and delete on API paths, each bounded in time, place and size."""

    connection: Connection
    lane: asyncio.Semaphore

    @property
    def cluster(self) -> str:
        """The cluster's name in the configuration."""
        return self.connection.name

    async def get(self, path: str, **query: str) -> Json:
        """One object. Raises `NotFound`, `StepRetry`, `StepFailed`."""
        return await self._json(_Request(method="GET", path=path, query=query))

    async def items(
        self, path: str, *, cached: bool = False, outline: bool = False, **query: str
    ) -> list[Json]:
        """The items of a list.

        `cached` takes the API server's watch cache as it is (`resourceVersion=0`), which may be a
        moment old and costs a fiftieth; the proof afterwards must not use it. `outline` asks for
        metadata alone: the rest, such as a secret's data, never leaves the API server.
        """
        if cached:
            query["resourceVersion"] = "0"
        accept = _METADATA_ONLY if outline else ""
        answer = await self._json(_Request(method="GET", path=path, query=query, accept=accept))
        found = answer.get("items")
        return found if isinstance(found, list) else []

    async def ask(self, path: str, body: Json) -> Json:
        """Post a question that leaves no trace, such as an access review."""
        return await self._json(_Request(method="POST", path=path, body=body))

    async def create(self, path: str, body: Json, *, dry_run: bool = False) -> Json:
        """Create an object. Raises `Conflict` when the name is taken."""
        return await self._json(_writing("POST", path, body, dry_run=dry_run))

    async def patch(self, path: str, body: Json, *, dry_run: bool = False) -> Json:
        """Merge-patch an object; put `metadata.uid` and `resourceVersion` in as preconditions.

        Raises `Conflict` when the object is another one, or changed since.
        """
        return await self._json(_writing("PATCH", path, body, dry_run=dry_run, kind=MERGE_PATCH))

    async def delete(self, path: str, uid: str, *, dry_run: bool = False) -> Json:
        """Delete exactly the object with this UID. Raises `NotFound`, `Conflict`."""
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        if dry_run:
            body["dryRun"] = ["All"]  # beside a body, the query's dryRun is not even read
        return await self._json(_Request(method="DELETE", path=path, body=body, write=not dry_run))

    async def warnings(self, path: str, body: Json) -> list[str]:
        """What the API server warns of when it is asked for an object with `dryRun=All`."""
        told: list[str] = []
        await self._json(replace(_writing("POST", path, body, dry_run=True), warned=told))
        return told

    async def text(self, path: str, limit: int, **query: str) -> bytes:
        """At most `limit` bytes of an answer that is no JSON, such as a log."""
        return await self._send(_Request(method="GET", path=path, query=query, limit=limit))

    async def _json(self, request: _Request) -> Json:
        raw = await self._send(request)
        try:
            value = json.loads(raw)
        except ValueError as error:
            raise _lost(f"{self._what(request)}: the answer is not JSON", request) from error
        return value if isinstance(value, dict) else {}

    async def _send(self, request: _Request) -> bytes:
        """One exchange in its lane. Waiting for a place is bounded by the step's own deadline."""
        async with self.lane:
            session = await self.connection.session()
            headers = await self.connection.headers()
            return await self._guarded(session, headers, request)

    async def _guarded(
        self, session: aiohttp.ClientSession, headers: dict[str, str], request: _Request
    ) -> bytes:
        seconds = self.connection.settings.request_timeout
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(session, headers, request)
        except aiohttp.ClientConnectorError as error:
            text = f"{self._what(request)}: cannot connect ({type(error).__name__})"
            raise StepRetry(text) from error
        except TimeoutError as error:
            text = f"{self._what(request)}: no answer within {seconds:g} s"
            raise _lost(text, request) from error
        except (aiohttp.ClientError, OSError) as error:
            text = f"{self._what(request)}: cut off ({type(error).__name__})"
            raise _lost(text, request) from error

    async def _exchange(
        self, session: aiohttp.ClientSession, headers: dict[str, str], request: _Request
    ) -> bytes:
        data = None
        if request.accept:
            headers["Accept"] = request.accept
        if request.body is not None:
            headers["Content-Type"] = request.kind
            data = json.dumps(request.body).encode()
        async with session.request(
            request.method,
            self.connection.url(request.path, request.query),
            data=data,
            headers=headers,
            allow_redirects=False,
            **self.connection.transport,
        ) as answer:
            if answer.status >= _ERROR:
                raise await self._refusal(request, answer, headers)
            if request.warned is not None:
                request.warned.extend(answer.headers.getall("Warning", []))
            return await _bounded(answer, request.limit, self._what(request))

    async def _refusal(
        self, request: _Request, answer: aiohttp.ClientResponse, headers: Mapping[str, str]
    ) -> ResponderError:
        status: Json = {}
        with suppress(ValueError, aiohttp.ClientError):
            value = json.loads(await _up_to(answer, _STATUS_MAX))
            status = value if isinstance(value, dict) else {}
        # admission hooks and proxies write their own sentences, and may repeat what they saw
        credential = headers.get("Authorization", "").rpartition(" ")[2]
        status["message"] = veiled(str(status.get("message") or "no reason given"), credential)
        after = retry_after(dict(answer.headers), self.connection.world.clock.now())
        return _translate(self._what(request), request, answer.status, status, after)

    def _what(self, request: _Request) -> str:
        return f"cluster {self.cluster}: {request.method} {request.path}"


async def _bounded(answer: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    """Read at most `limit` bytes: text is cut there, JSON that does not end is refused."""
    data = await _up_to(answer, limit + 1)
    if len(data) > limit and "json" in answer.content_type:
        raise StepFailed(f"{what}: the answer has more than {limit} bytes")
    return data[:limit]


async def _up_to(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_any():
        parts.append(part)
        size += len(part)
        if size >= limit:
            break
    return b"".join(parts)


def _writing(
    method: str, path: str, body: Json, *, dry_run: bool, kind: str = "application/json"
) -> _Request:
    query = {"fieldManager": FIELD_MANAGER}
    if dry_run:
        query["dryRun"] = "All"
    return _Request(method=method, path=path, body=body, query=query, write=not dry_run, kind=kind)


def _lost(text: str, request: _Request) -> ResponderError:
    """What a missing answer means: a write that left us may have happened."""
    return Uncertain(f"{text}; it may have happened") if request.write else StepRetry(text)


def _translate(
    what: str, request: _Request, code: int, status: Json, after: float | None
) -> ResponderError:
    message = for_terminal(cut(str(status["message"]), 400))
    text = f"{what}: HTTP {code}: {message}"
    if code >= _SERVER:
        return _lost(text, request) if request.write else StepRetry(text, after=after or 2.0)
    if code == _INVALID and _is_other_object(status):
        return Conflict(text)
    if code == _TOO_MANY:
        return StepRetry(text, after=after or 1.0)
    remedy = _REMEDIES.get(code)
    return _CLASSES.get(code, StepFailed)(f"{text}; {remedy}" if remedy else text)


def _is_other_object(status: Json) -> bool:
    """A patch that names another UID is answered with 422: the field is immutable."""
    causes = (status.get("details") or {}).get("causes") or []
    return any(cause.get("field") == "metadata.uid" for cause in causes)
