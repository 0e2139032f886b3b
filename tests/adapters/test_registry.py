"""Registries: digests by hash, labels, challenges, redirects; a double for faults, a real one."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from integrations._images import parse_image
from integrations.registry import InspectImage, Registries, Registry, RegistrySettings, setup
from responder.clock import World
from responder.errors import ConfigError, NotFound, StepFailed, StepRetry
from responder.model import Secret, Target
from responder.ports import Call, Done, Kit
from tests.adapters.github.world import NoEvidence
from tests.doubles.registry import INDEX, MANIFEST, RegistryDouble, running_registry
from tests.real.engine import Engine

OTHER = f"sha256:{'e' * 64}"


@contextlib.asynccontextmanager
async def asking(host: str, **settings: Any) -> AsyncIterator[Registry]:
    """A registry adapter for one host over plain HTTP."""
    registry = Registry(host, RegistrySettings(insecure=True, timeout=3, **settings), World())
    try:
        yield registry
    finally:
        await registry.close()


def a_call(asked: str, **target: str) -> Call:
    """Return the call of one look-up."""
    return Call(
        action="registry.inspect_image",
        key="run_1/look",
        incident=1,
        run="run_1",
        step="look",
        params={"image": asked} if asked else {},
        target=Target(**target),
    )


async def test_a_digest_is_the_hash_of_the_bytes() -> None:
    """By tag and by digest alike; the four manifest types are asked for."""
    async with running_registry() as double, asking(double.host) as registry:
        digest = double.put_image("1.4", {})
        assert await registry.digest(parse_image(f"{double.host}/shop/cart:1.4")) == digest
        assert await registry.digest(parse_image(f"{double.host}/shop/cart@{digest}")) == digest
        accepted = double.seen[0][2]["Accept"].split(", ")
        assert len(accepted) == 4


@pytest.mark.parametrize("how", ["header", "bytes"])
async def test_bytes_that_are_not_what_was_said_are_refused_and_both_are_named(how: str) -> None:
    """A registry that lies in its header, or serves other bytes for a digest, is found out."""
    async with running_registry() as double, asking(double.host) as registry:
        digest = double.put_image("1.4", {})
        if how == "header":
            double.lie = OTHER
            image = parse_image(f"{double.host}/shop/cart:1.4")
        else:
            double.lie = ""
            double.manifests[OTHER] = double.manifests[digest]
            image = parse_image(f"{double.host}/shop/cart@{OTHER}")
        with pytest.raises(StepFailed, match=f"expected bytes of {OTHER}, got {digest}"):
            await registry.digest(image)


async def test_labels_come_from_configuration_and_annotations_through_an_index() -> None:
    """linux/amd64 is read; an attestation in the index is no image."""
    async with running_registry() as double, asking(double.host) as registry:
        amd = double.put_image("amd", {"a": "label", "b": "label"}, annotations={"b": "note"})
        arm = double.put_image("arm", {"a": "wrong"})
        index = {
            "annotations": {"c": "index"},
            "manifests": [
                {"digest": OTHER, "platform": {"os": "unknown", "architecture": "unknown"}},
                {"digest": arm, "platform": {"os": "linux", "architecture": "arm64"}},
                {"digest": amd, "platform": {"os": "linux", "architecture": "amd64"}},
            ],
        }
        digest = double.put("1.4", INDEX, index)
        image = parse_image(f"{double.host}/shop/cart:1.4")
        assert await registry.digest(image) == digest
        assert await registry.labels(image) == {"a": "label", "b": "note", "c": "index"}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (INDEX, {"manifests": []}),
        (INDEX, {"manifests": [{"digest": 7, "platform": None}]}),
        (MANIFEST, {"config": None}),
        (MANIFEST, {"config": ["x"], "annotations": "y"}),
        (INDEX, {"manifests": "all"}),
        (INDEX, {"manifests": [7, [], {"platform": "linux", "digest": []}]}),
        (MANIFEST, {"config": {"digest": "../../x"}, "annotations": [1]}),
    ],
)
async def test_an_odd_manifest_is_no_traceback(kind: str, value: dict[str, Any]) -> None:
    """Either nothing is found or `StepFailed` says what is missing."""
    async with running_registry() as double, asking(double.host) as registry:
        double.put("1.4", kind, value)
        with contextlib.suppress(StepFailed):
            assert await registry.labels(parse_image(f"{double.host}/shop/cart:1.4")) == {}


async def test_a_configuration_that_is_not_its_digest_is_refused() -> None:
    """Labels of swapped bytes are nobody's."""
    async with running_registry() as double, asking(double.host) as registry:
        double.put_image("1.4", {"a": "b"})
        double.blobs = dict.fromkeys(double.blobs, b'{"config": {"Labels": {"a": "evil"}}}')
        with pytest.raises(StepFailed, match="configuration: expected bytes of"):
            await registry.labels(parse_image(f"{double.host}/shop/cart:1.4"))


async def test_an_unbounded_manifest_is_cut_off() -> None:
    """More than four MiB are never kept in memory."""
    async with running_registry() as double, asking(double.host) as registry:
        double.put("1.4", MANIFEST, {"annotations": {"x": "y" * (5 << 20)}})
        with pytest.raises(StepFailed, match="is longer than 4194304 bytes"):
            await registry.digest(parse_image(f"{double.host}/shop/cart:1.4"))


async def test_a_token_is_fetched_once_from_the_registrys_own_service() -> None:
    """The challenge is followed with the configured password, and the token is kept."""
    async with running_registry(bearer="t0k", password="pw") as double:
        secret = {"username": "robot", "password": Secret("pw")}
        async with asking(double.host, **secret) as registry:
            digest = double.put_image("1.4", {})
            image = parse_image(f"{double.host}/shop/cart:1.4")
            assert await registry.digest(image) == digest
            assert await registry.exists("shop/cart", digest)
            assert [path for _, path, _ in double.seen].count("/token") == 1


async def test_credentials_never_go_to_a_place_that_only_the_challenge_names() -> None:
    """A challenge is the server's word; another origin needs `realm` in the configuration."""
    async with running_registry(bearer="t0k", password="pw") as other:
        settings = {"bearer": "t0k", "realm": f"http://{other.host}/token"}
        async with running_registry(**settings) as double:
            double.put_image("1.4", {})
            image = parse_image(f"{double.host}/shop/cart:1.4")
            secret: dict[str, Any] = {"username": "robot", "password": Secret("pw")}
            async with asking(double.host, **secret) as registry:
                with pytest.raises(StepFailed, match="set realm in"):
                    await registry.digest(image)
            assert other.seen == []
            allowed = {**secret, "realm": f"http://{other.host}"}
            async with asking(double.host, **allowed) as registry:
                assert await registry.digest(image)


async def test_a_redirect_to_another_host_sees_no_credential() -> None:
    """Blobs often lie elsewhere; what follows there is the bare request."""
    async with running_registry() as store, running_registry() as double:
        secret = {"username": "robot", "password": Secret("canary-pw")}
        async with asking(double.host, **secret) as registry:
            double.put_image("1.4", {"a": "b"})
            store.blobs, double.store_host = double.blobs, store.host
            found = await registry.labels(parse_image(f"{double.host}/shop/cart:1.4"))
        assert found == {"a": "b"}
        assert "Authorization" in double.seen[-1][2]
        assert "Authorization" not in store.seen[-1][2]


async def test_redirects_without_end_are_given_up() -> None:
    """Three are followed."""
    async with running_registry() as double, asking(double.host) as registry:
        double.put_image("1.4", {"a": "b"})
        double.store_host = double.host
        with pytest.raises(StepFailed, match="more than 3 redirects"):
            await registry.labels(parse_image(f"{double.host}/shop/cart:1.4"))


@pytest.mark.parametrize(
    ("status", "failure", "text"),
    [
        (404, NotFound, "not there"),
        (401, StepFailed, "check the credentials"),
        (403, StepFailed, "check the credentials"),
        (429, StepRetry, "too many requests"),
        (500, StepRetry, "HTTP 500"),
        (503, StepRetry, "HTTP 503"),
        (400, StepFailed, "HTTP 400"),
    ],
)
async def test_every_bad_answer_has_its_failure_class(
    status: int, failure: type[Exception], text: str
) -> None:
    """Reads are repeated where that may help, and the text holds no body."""
    async with running_registry(status=status) as double, asking(double.host) as registry:
        with pytest.raises(failure, match=text):
            await registry.digest(parse_image(f"{double.host}/shop/cart:1.4"))


async def test_a_registry_that_is_not_there_is_tried_again_later() -> None:
    """Connection refused is `StepRetry`."""
    async with running_registry() as double:
        host = double.host
    async with asking(host) as registry:
        with pytest.raises(StepRetry, match="cannot connect"):
            await registry.digest(parse_image(f"{host}/shop/cart:1.4"))


async def test_only_configured_hosts_are_asked() -> None:
    """An image's name is a stranger's word: no section, no request."""
    action = InspectImage(Registries({}))
    with pytest.raises(StepFailed, match=r'no \[registries."169.254.169.254"\]'):
        await action.plan(a_call("169.254.169.254/latest/meta-data"))


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"insecur": True}, r'\[registries."r.example"\] insecur: Extra inputs'),
        ({"password": "canary"}, "password: Input should be an instance of Secret"),
        ({"timeout": 0}, "timeout: "),
    ],
)
def test_a_wrong_table_names_the_key_and_shows_no_value(table: dict[str, Any], text: str) -> None:
    """Strict, and silent about what was written there."""
    with pytest.raises(ConfigError, match=text) as caught:
        setup({"r.example": table}, World(), Kit(evidence=NoEvidence()))
    assert "canary" not in str(caught.value)


def test_a_registry_is_named_without_scheme() -> None:
    """`https://…` as a section would never match an image."""
    with pytest.raises(ConfigError, match="without a scheme"):
        setup({"https://r.example": {}}, World(), Kit(evidence=NoEvidence()))


@pytest.mark.parametrize(
    ("text", "name", "reference"),
    [
        ("nginx", "docker.io/library/nginx", "latest"),
        ("shop/cart:2", "docker.io/shop/cart", "2"),
        ("localhost/cart", "localhost/cart", "latest"),
        ("r.example:5000/a/b/c:1.0@" + OTHER, "r.example:5000/a/b/c", OTHER),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app", "latest"),
    ],
)
def test_image_names_are_read_as_engines_read_them(text: str, name: str, reference: str) -> None:
    """Host, library prefix, tag and digest."""
    image = parse_image(text)
    assert (image.name, image.reference) == (name, reference)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        ":",
        "/",
        "UPPER/case:1",
        "r.example/../x",
        "r.example/a//b",
        "r.example/a b",
        "r.example/a:" + "t" * 200,
        "r.example/a@sha256:short",
        "r.example/a\n",
        "user@r.example/a",
        "r.example/a?x=1",
        "r.example:99999999/a",
        "-r.example/a",
        "r.example/" + "a" * 600,
        "sha256:" + "e" * 64,
    ],
)
def test_what_is_no_image_name_is_refused(text: str) -> None:
    """Nothing that could leave a URL's path is taken for a name."""
    if text.startswith("sha256:"):  # a bare id reads as repository and tag, and matches no route
        assert parse_image(text).name == "docker.io/library/sha256"
        return
    with pytest.raises(StepFailed, match="is no image name"):
        parse_image(text)


async def test_the_action_reads_the_incidents_own_image_by_digest() -> None:
    """Without a parameter the target's image is looked up, by its digest where that is known."""
    async with running_registry() as double:
        digest = double.put_image("1.4", {"org.opencontainers.image.revision": "abc"})
        kit = Kit(evidence=NoEvidence())
        brought = setup({double.host: {"insecure": True}}, World(), kit)
        action = brought.actions[0]
        call = a_call("", image=f"{double.host}/shop/cart", digest=digest)
        plan = await action.plan(call)
        done = await action.apply(call, plan)
        assert isinstance(done, Done)
        assert plan.changes == ()
        assert done.result["image"] == f"{double.host}/shop/cart@{digest}"
        assert done.result["labels"] == {"org.opencontainers.image.revision": "abc"}
        assert (await action.verify(call, plan, done.result)).level == "proven"
        assert await brought.checks[f"registry {double.host}"]() == "ok"
        assert brought.close
        await brought.close()


async def push(host: str, double: RegistryDouble, tag: str) -> str:
    """Push an image of the double into a real registry by its own protocol; return the digest."""
    kind, data = double.manifests[tag]
    async with aiohttp.ClientSession() as session:
        for blob, body in double.blobs.items():
            start = await session.post(f"http://{host}/v2/shop/cart/blobs/uploads/")
            place = start.headers["Location"]
            joint = "&" if "?" in place else "?"
            done = await session.put(f"{place}{joint}digest={blob}", data=body)
            assert done.status == 201
        put = await session.put(
            f"http://{host}/v2/shop/cart/manifests/{tag}", data=data, headers={"Content-Type": kind}
        )
        assert put.status == 201, await put.text()
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def test_a_real_registry_says_the_same(engine: Engine) -> None:
    """Digest, labels, existence and absence on docker-registry."""
    double = RegistryDouble()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Labels": {"org.opencontainers.image.revision": "abc"}},
        }
    ).encode()
    value = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "size": len(config),
            "digest": double.put_blob(config),
        },
        "layers": [],
    }
    double.put("real", MANIFEST, value)
    digest = await push(engine.registry, double, "real")
    async with asking(engine.registry) as registry:
        image = parse_image(f"{engine.registry}/shop/cart:real")
        assert await registry.digest(image) == digest
        assert await registry.labels(image) == {"org.opencontainers.image.revision": "abc"}
        assert await registry.exists("shop/cart", digest)
        assert not await registry.exists("shop/cart", OTHER)
        with pytest.raises(NotFound):
            await registry.digest(parse_image(f"{engine.registry}/shop/cart:none"))


async def test_names_are_looked_up_in_the_registrys_own_pool() -> None:
    """The loop's default pool stays unused, so that slow DNS stalls only this registry."""
    async with running_registry() as double:
        host = double.host.replace("127.0.0.1", "localhost")
        digest = double.put_image("1.4", {})
        async with asking(host) as registry:
            assert await registry.digest(parse_image(f"{host}/shop/cart:1.4")) == digest
        assert getattr(asyncio.get_running_loop(), "_default_executor", None) is None
