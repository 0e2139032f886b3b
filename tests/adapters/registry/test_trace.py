"""`image.trace`: every link with how sure it is; the image map bounds what a claim can do (C7)."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integrations.registry import setup
from integrations.registry.attesting import Asked, judged, sigstore_verify, source_of
from integrations.registry.client import Registries, Registry, RegistrySettings
from integrations.registry.gating import ImageGate
from integrations.registry.reports import Reports
from integrations.registry.tracing import ImageTrace, identity_of
from responder.clock import World
from responder.errors import NotFound, StepFailed
from responder.model import Target, VerdictLevel
from responder.ports import Call, Done, ImageRoute, Kit
from tests.adapters.github.world import NoEvidence, a_call, bench
from tests.adapters.scans.reports import Seen, Weak, report
from tests.adapters.scans.test_gate_action import Shelf
from tests.doubles.registry import INDEX, RegistryDouble, running_registry
from tests.real.engine import Engine

SOURCE = "org.opencontainers.image.source"
REVISION = "org.opencontainers.image.revision"
COMMIT, OTHER = "a1" * 20, "b2" * 20
OURS = {SOURCE: "https://github.com/Acme/shop.git", REVISION: COMMIT}
FORGED = {SOURCE: "https://github.com/evil/fork", REVISION: OTHER}


def route(host: str) -> ImageRoute:
    """Return the one line of the image map."""
    return ImageRoute(
        match=f"{host}/shop/*", forge="github", repo="acme/shop", workflow="rebuild.yml"
    )


def trusting(bundle: bytes, identity: str, issuer: str) -> bytes:
    """Stand in for a verifier: believes bundles of our workflow whose signature reads `good`."""
    value = json.loads(bundle)
    ours = "https://github.com/acme/shop/.github/workflows/rebuild.yml@refs/heads/main"
    if (identity, issuer) != (ours, "https://token.actions.githubusercontent.com"):
        raise StepFailed("its signature does not hold (Identity)")
    if value["dsseEnvelope"]["signatures"][0]["sig"] != "good":
        raise StepFailed("its signature does not hold (VerificationError)")
    return base64.b64decode(value["dsseEnvelope"]["payload"])


def bundle(digest: str, repository: str, commit: str, sig: str = "good") -> bytes:
    """Return a Sigstore bundle round a SLSA provenance, in its real shape."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "cart", "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "externalParameters": {
                    "workflow": {"repository": repository, "path": ".github/workflows/rebuild.yml"}
                },
                "resolvedDependencies": [
                    {"uri": f"git+{repository}@refs/heads/main", "digest": {"gitCommit": commit}}
                ],
            }
        },
    }
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    envelope = {"payload": payload, "signatures": [{"sig": sig}]}
    kind = "application/vnd.dev.sigstore.bundle.v0.3+json"
    return json.dumps({"mediaType": kind, "dsseEnvelope": envelope}).encode()


@dataclass
class Stage:
    """A tracer and a gate before one registry."""

    double: RegistryDouble
    registries: Registries
    tracer: ImageTrace
    world: World

    async def trace(self, digest: str, tag: str = "1.4") -> dict[str, Any]:
        """Return what is found of a running image."""
        target = Target(image=f"{self.double.host}/shop/cart:{tag}", digest=digest)
        call = a_trace(target)
        return dict((await self.tracer.apply(call, await self.tracer.plan(call))).result)


def a_trace(target: Target) -> Call:
    """Return the call of one trace."""
    return Call(
        action="image.trace",
        key="run_1/trace",
        incident=7,
        run="run_1",
        step="trace",
        params={},
        target=target,
    )


@contextlib.asynccontextmanager
async def stage(
    *, mapped: bool = True, verify: Any = None, api: bool = True
) -> AsyncIterator[Stage]:
    """Set a tracer up before a registry, with or without a line of the map and a verifier."""
    async with running_registry(referring={} if api else None) as double:
        world = World()
        registry = Registry(double.host, RegistrySettings(insecure=True, timeout=3), world)
        registries = Registries({double.host: registry})
        routes = (route(double.host),) if mapped else ()
        try:
            yield Stage(double, registries, ImageTrace(registries, routes, verify), world)
        finally:
            await registries.close()


def links(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the chain as link -> (what it says, how sure)."""
    return {link["link"]: (link["says"], link["sure"]) for link in found["chain"]}


async def test_labels_that_agree_with_the_map_give_the_commit() -> None:
    """Upper case and `.git` are no difference; the result says that it is only agreed."""
    async with stage() as s:
        digest = s.double.put_image("1.4", OURS)
        found = await s.trace(digest)

        assert (found["repository"], found["claimed_revision"]) == ("acme/shop", COMMIT)
        assert found["revision"] == ""
        assert (found["sure"], found["claimed"]) == ("agreed", "Acme/shop")
        assert links(found)["labels"] == (f"github.com/Acme/shop at {COMMIT}", "agreed")
        assert links(found)["running image"][1] == "proven"
        assert links(found)["image map"][1] == "proven"


async def test_a_forged_label_is_shown_and_not_followed() -> None:
    """The map's repository stays, and the commit of the other one is not taken over."""
    async with stage() as s:
        found = await s.trace(s.double.put_image("1.4", FORGED))

        assert (found["repository"], found["claimed_revision"]) == ("acme/shop", "")
        assert (found["revision"], found["sure"], found["claimed"]) == ("", "claimed", "evil/fork")
        assert links(found)["labels"] == (f"github.com/evil/fork at {OTHER}", "not followed")


async def test_a_forged_label_cannot_select_a_pipeline_outside_the_map() -> None:
    """What is dispatched after a trace is the map's workflow in the map's repository."""
    async with stage() as s:
        found = await s.trace(s.double.put_image("1.4", FORGED))
        async with bench(route=route(s.double.host)) as b:
            params = {"image": found["image"], "revision": found["revision"]}
            target = Target(image=found["image"], digest=f"sha256:{'1' * 64}")
            plan = await b.action.plan(a_call(params=params, target=target))

    assert [change.ref.system for change in plan.changes] == ["github:acme/shop"]
    assert "evil" not in json.dumps(plan.to_json())
    assert OTHER not in json.dumps(plan.to_json())


async def test_a_label_of_the_right_repository_does_not_choose_the_commit_either() -> None:
    """A fork's commit lies under its parent's name: only a verified one reaches a pipeline."""
    async with stage() as s:
        found = await s.trace(s.double.put_image("1.4", {SOURCE: OURS[SOURCE], REVISION: OTHER}))
        async with bench(route=route(s.double.host)) as b:
            params = {"image": found["image"], "revision": found["revision"]}
            target = Target(image=found["image"], digest=f"sha256:{'1' * 64}")
            plan = await b.action.plan(a_call(params=params, target=target))

    assert found["claimed_revision"] == OTHER
    assert OTHER not in json.dumps(plan.to_json())


async def test_an_image_outside_the_map_has_a_claim_and_no_repository() -> None:
    """Without a line of the map a label selects nothing at all."""
    async with stage(mapped=False) as s:
        found = await s.trace(s.double.put_image("1.4", OURS))

        assert (found["repository"], found["revision"], found["sure"]) == ("", "", "claimed")
        assert "no pipeline may rebuild it" in links(found)["image map"][0]


async def test_annotations_and_labels_are_told_apart() -> None:
    """A manifest's annotation that is forged beside an honest label is its own link."""
    async with stage() as s:
        digest = s.double.put_image("1.4", OURS, annotations=FORGED)
        found = links(await s.trace(digest))

        assert found["labels"][1] == "agreed"
        assert found["annotations"] == (f"github.com/evil/fork at {OTHER}", "not followed")


async def test_the_id_of_a_configuration_is_resolved_by_the_tag() -> None:
    """Some runtimes report no manifest's digest (containerd#8408)."""
    async with stage() as s:
        digest = s.double.put_image("1.4", OURS)
        config = json.loads(s.double.manifests[digest][1])["config"]["digest"]
        found = await s.trace(config)

        assert found["digest"] == digest
        assert links(found)["running image"][0].startswith(f"{config} is the configuration of")
        with pytest.raises(NotFound, match=r"the tag 1\.4 means"):
            await s.trace(f"sha256:{'9' * 64}")


async def test_the_digest_of_an_index_is_said_to_be_one() -> None:
    """Its platform's manifest is read for labels (kubernetes#115199)."""
    async with stage() as s:
        manifest = s.double.put_image("amd", OURS)
        entry = {"digest": manifest, "platform": {"os": "linux", "architecture": "amd64"}}
        index = s.double.put("1.4", INDEX, {"manifests": [entry]})
        found = await s.trace(index)

        assert "is an index" in links(found)["running image"][0]
        assert found["claimed_revision"] == COMMIT


async def test_a_tag_alone_is_only_a_claim_of_what_runs() -> None:
    """It may have meant another image when the pod started."""
    async with stage() as s:
        s.double.put_image("1.4", OURS)

        assert links(await s.trace(""))["running image"][1] == "claimed"


async def test_tags_that_mean_the_image_are_shown_and_their_commit_is_a_claim() -> None:
    """Another image's tag is not among them."""
    async with stage() as s:
        digest = s.double.put_image("1.4", {})
        s.double.put_image(f"main-{COMMIT}", {})
        s.double.put_image(f"main-{OTHER}", {"other": "image"})
        found = links(await s.trace(digest))

        assert found["tags"][0].startswith(f"1.4, main-{COMMIT} in ")
        assert found["commit in a tag"] == (COMMIT, "claimed")


@pytest.mark.parametrize("api", [True, False], ids=["referrers API", "tag schema"])
async def test_a_verified_attestation_is_the_only_thing_called_verified(*, api: bool) -> None:
    """It beats the labels; the verdict is then proven."""
    async with stage(verify=trusting, api=api) as s:
        digest = s.double.put_image("1.4", {SOURCE: OURS[SOURCE], REVISION: OTHER})
        s.double.refer(digest, bundle(digest, "https://github.com/acme/shop", COMMIT))
        found = await s.trace(digest)
        call = a_trace(Target())
        verdict = await s.tracer.verify(call, await _plan(s, digest), found)

        assert (found["revision"], found["sure"]) == (COMMIT, "verified")
        assert verdict.level is VerdictLevel.PROVEN


async def _plan(s: Stage, digest: str) -> Any:
    return await s.tracer.plan(a_trace(Target(image=f"{s.double.host}/shop/cart", digest=digest)))


@pytest.mark.parametrize(
    ("verify", "sig", "why"),
    [
        (None, "good", "not verified: the package sigstore is not installed"),
        (trusting, "bad", "not verified: its signature does not hold (VerificationError)"),
    ],
)
async def test_an_attestation_that_is_not_verified_says_why(
    verify: Any, sig: str, why: str
) -> None:
    """It is a claim like a label, and agrees with the map at best."""
    async with stage(verify=verify) as s:
        digest = s.double.put_image("1.4", {})
        s.double.refer(digest, bundle(digest, "https://github.com/acme/shop", COMMIT, sig))
        found = await s.trace(digest)

        assert why in links(found)["attestation"][0]
        assert (found["claimed_revision"], found["sure"]) == (COMMIT, "agreed")
        assert found["revision"] == ""


async def test_a_statement_about_another_image_or_by_nobody_is_left_out_or_unverified() -> None:
    """Subjects are compared; a bare statement carries no signature; rubbish is no traceback."""
    async with stage(verify=trusting) as s:
        digest = s.double.put_image("1.4", {})
        url = "https://github.com/acme/shop"
        plain = base64.b64decode(json.loads(bundle(digest, url, COMMIT))["dsseEnvelope"]["payload"])
        for data in (bundle(f"sha256:{'9' * 64}", url, OTHER), b"\xff", b"[]", b'{"payload": "!"}'):
            s.double.refer(digest, data)
        s.double.refer(digest, plain)
        found = await s.trace(digest)
        said = [link for link in found["chain"] if link["link"] == "attestation"]

        assert len(said) == 1
        assert "not verified: it carries no Sigstore bundle" in said[0]["says"]


async def test_nobody_but_the_routes_own_workflow_may_have_signed() -> None:
    """The identity that a verifier is asked for comes from the map alone."""
    named = route("registry.example")
    assert identity_of(named).startswith("https://github.com/acme/shop/.github/workflows/rebuild")
    assert identity_of(None) == ""
    digest = f"sha256:{'1' * 64}"
    data = bundle(digest, "https://github.com/evil/fork", OTHER)
    asked = Asked(identity=identity_of(None), issuer="", verify=trusting)
    one = judged(data, digest, asked)
    assert one is not None
    assert one.refused == "the image map names no identity that may have signed it"


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("https://github.com/acme/shop", ("github.com", "acme/shop")),
        ("git+https://github.com/acme/shop.git@refs/heads/main", ("github.com", "acme/shop")),
        ("git@gitlab.example:group/sub/shop.git", ("gitlab.example", "group/sub/shop")),
        ("ssh://git@git.example:2222/acme/shop", ("git.example", "acme/shop")),
        ("https://github.com/acme/shop/../../evil/x", ("github.com", "acme/shop/../../evil/x")),
        ("javascript:alert(1)", ("", "")),
        ("https://github.com/\x1b[31m/x", ("", "")),
        ("", ("", "")),
    ],
)
def test_the_address_of_a_source_is_read_or_is_none(url: str, source: tuple[str, str]) -> None:
    """A path that climbs equals no repository of the map, and is never followed."""
    assert source_of(url) == source


async def test_a_gate_that_requires_provenance_refuses_what_is_not_verified() -> None:
    """None, an unverified one and one of another commit each have their sentence; a good passes."""
    async with stage(verify=trusting) as s:
        old = s.double.put_image("1.4", {"is": "old"})
        new = s.double.put_image("1.5", {REVISION: COMMIT})
        shelf = Shelf()
        weak = Weak(id="CVE-2026-1000")
        shelf.keep("scan-old.json", report("trivy", Seen(digest=old, weak=(weak,))))
        shelf.keep("scan-new.json", report("trivy", Seen(digest=new)))
        reports = Reports(shelf, shelf.read, s.world)
        gate = ImageGate(s.registries, reports, (route(s.double.host),), trusting)
        name = f"{s.double.host}/shop/cart"
        params = {"image": f"{name}@{new}", "old": f"{name}@{old}", "provenance": "required"}

        async def passes(**more: Any) -> str:
            call = Call(
                action="image.gate",
                key="run_1/gate",
                incident=7,
                run="run_1",
                step="gate",
                params={**params, **more},
                target=Target(),
            )
            try:
                await gate.apply(call, await gate.plan(call))
            except StepFailed as refused:
                return str(refused)
            return ""

        assert "no attestation was verified: the registry has none" in await passes()
        s.double.refer(new, bundle(new, "https://github.com/acme/shop", COMMIT, "bad"))
        assert "no attestation was verified: its signature does not hold" in await passes()
        s.double.refer(new, bundle(new, "https://github.com/acme/shop", COMMIT))
        assert await passes(revision=COMMIT) == ""
        assert "of another revision" in await passes(revision=OTHER)
        assert 'provenance "maybe": expected "required"' in await passes(provenance="maybe")
        reports.close()


def test_without_the_package_nothing_is_verified() -> None:
    """The verifier is there exactly when the package is; a bundle that is none is refused by it."""
    if importlib.util.find_spec("sigstore") is None:
        assert sigstore_verify() is None
        return
    verify = sigstore_verify()
    assert verify is not None
    with pytest.raises(StepFailed, match="its signature does not hold"):
        verify(bundle(f"sha256:{'1' * 64}", "https://github.com/acme/shop", COMMIT), "x", "y")


# --------------------------------------------------------------------------- a real registry


async def test_images_of_a_real_engine_are_traced_in_a_real_registry(
    engine: Engine, tmp_path: Path
) -> None:
    """Repository and commit of an honest image; a forged one leads nowhere but to the map."""
    name = f"{engine.registry}/shop/traced"
    made = setup(
        {engine.registry: {"insecure": True}},
        World(),
        Kit(evidence=NoEvidence(), images=(route(engine.registry),)),
    )
    tracer = next(one for one in made.actions if one.info.name == "image.trace")
    results = {}
    for tag, labels in (("honest", OURS), ("forged", FORGED)):
        digest = pushed(engine, tmp_path / tag, f"{name}:{tag}", labels)
        call = a_trace(Target(image=f"{name}:{tag}", digest=digest))
        done = await tracer.apply(call, await tracer.plan(call))
        assert isinstance(done, Done)
        results[tag] = dict(done.result)
        assert results[tag]["digest"] == digest
    assert made.close
    await made.close()

    honest, forged = results["honest"], results["forged"]
    assert (honest["repository"], honest["claimed_revision"]) == ("acme/shop", COMMIT)
    assert honest["revision"] == ""
    assert links(honest)["labels"] == (f"github.com/Acme/shop at {COMMIT}", "agreed")
    assert "honest in" in links(honest)["tags"][0]
    assert (forged["repository"], forged["claimed_revision"]) == ("acme/shop", "")
    assert links(forged)["labels"][1] == "not followed"


def pushed(engine: Engine, place: Path, image: str, labels: dict[str, str]) -> str:
    """Build an image with labels, push it, and return the digest that the engine reports."""
    place.mkdir()
    (place / "note").write_text(image)
    lines = ["FROM scratch", "COPY note /note", *(f'LABEL {k}="{v}"' for k, v in labels.items())]
    (place / "Dockerfile").write_text("\n".join(lines) + "\n")
    engine.docker("build", "-q", "--network", "none", "-t", image, str(place))
    engine.docker("push", "-q", image)
    said = engine.docker("inspect", "--format", '{{join .RepoDigests " "}}', image).stdout.strip()
    return said.rpartition("@")[2]
