"""GitHub's own attestations as a link of `image.trace` and of the gate: verified, or claims.

The statements are made and signed here with a key of our own, over the bytes that DSSE signs
(https://github.com/secure-systems-lab/dsse/blob/master/protocol.md); the verifier checks that
signature for real and knows whom the key belongs to, as Sigstore's certificate would say.
"""

import base64
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from integrations.github.attestations import Attestations
from integrations.github.client import Forge
from integrations.github.settings import read
from integrations.registry.client import Registries, Registry, RegistrySettings
from integrations.registry.gating import ImageGate
from integrations.registry.reports import Reports
from integrations.registry.tracing import ImageTrace
from responder.clock import World
from responder.errors import StepFailed, StepRetry
from responder.model import Secret, Target
from responder.ports import Call, ImageRoute
from tests.adapters.github.world import a_call
from tests.adapters.scans.reports import Seen, Weak, report
from tests.adapters.scans.test_gate_action import Shelf
from tests.doubles.faults import Fault
from tests.doubles.github import GitHubDouble, running
from tests.doubles.github_deployments import Deployed
from tests.doubles.registry import RegistryDouble, running_registry

COMMIT, OTHER = "a1" * 20, "b2" * 20
OURS = "https://github.com/acme/shop"
WORKFLOW = f"{OURS}/.github/workflows/rebuild.yml@refs/heads/main"
ISSUER = "https://token.actions.githubusercontent.com"
TYPE = "application/vnd.in-toto+json"


def _signed_bytes(payload: bytes) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(TYPE), TYPE.encode(), len(payload), payload)


@dataclass
class Signer:
    """A workflow with a key of its own."""

    identity: str

    def __post_init__(self) -> None:
        """Make the key."""
        self.key = ec.generate_private_key(ec.SECP256R1())

    def bundle(self, digest: str, repository: str = OURS, commit: str = COMMIT) -> dict[str, Any]:
        """Return a signed provenance of an image, in the shape that GitHub hands out."""
        payload = json.dumps(statement(digest, repository, commit)).encode()
        sig = self.key.sign(_signed_bytes(payload), ec.ECDSA(SHA256()))
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"certificate": {"rawBytes": "AA=="}},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": TYPE,
                "signatures": [{"sig": base64.b64encode(sig).decode()}],
            },
        }

    def verify(self, bundle: bytes, identity: str, issuer: str) -> bytes:
        """The payload, when this workflow signed it and is the one that may have."""
        envelope = json.loads(bundle)["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"])
        sig = base64.b64decode(envelope["signatures"][0]["sig"])
        if (identity, issuer) != (self.identity, ISSUER):
            raise StepFailed("its signature does not hold (Identity)")
        try:
            self.key.public_key().verify(sig, _signed_bytes(payload), ec.ECDSA(SHA256()))
        except InvalidSignature:
            raise StepFailed("its signature does not hold (InvalidSignature)") from None
        return payload


def statement(digest: str, repository: str, commit: str) -> dict[str, Any]:
    """Return a SLSA provenance statement."""
    workflow = {"repository": repository, "path": ".github/workflows/rebuild.yml"}
    source = {"uri": f"git+{repository}@refs/heads/main", "digest": {"gitCommit": commit}}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "cart", "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "externalParameters": {"workflow": workflow},
                "resolvedDependencies": [source],
            }
        },
    }


@dataclass
class Bench:
    """A registry, a forge that keeps attestations, and a tracer between them."""

    registry: RegistryDouble
    forge: GitHubDouble
    deployed: Deployed
    signer: Signer
    attestations: Attestations
    registries: Registries
    tracer: ImageTrace
    route: ImageRoute

    async def trace(self, digest: str) -> dict[str, Any]:
        """Return what is found of a running image."""
        call = Call(
            action="image.trace",
            key="run_1/trace",
            incident=7,
            run="run_1",
            step="trace",
            params={},
            target=Target(image=f"{self.registry.host}/shop/cart:1.4", digest=digest),
        )
        return dict((await self.tracer.apply(call, await self.tracer.plan(call))).result)


@contextlib.asynccontextmanager
async def bench(*, mapped: bool = True) -> AsyncIterator[Bench]:
    """Set a tracer up before a registry and a forge."""
    part, world, signer = Deployed(), World(), Signer(WORKFLOW)
    async with running_registry() as double, running(parts=(part,)) as forge:
        table = {"base_url": forge.base_url, "token": Secret(forge.token), "timeout": 2}
        client = Forge("github", read("github", table), world)
        attestations = Attestations({"github": client})
        registry = Registry(double.host, RegistrySettings(insecure=True, timeout=3), world)
        registries = Registries({double.host: registry})
        route = ImageRoute(
            match=f"{double.host}/shop/*", forge="github", repo="acme/shop", workflow="rebuild.yml"
        )
        routes = (route,) if mapped else ()
        tracer = ImageTrace(registries, routes, signer.verify, attestations)
        try:
            yield Bench(double, forge, part, signer, attestations, registries, tracer, route)
        finally:
            client.close()
            await registries.close()
        assert not forge.wrong_requests, forge.wrong_requests
        assert not forge.wrong_answers, forge.wrong_answers


def said(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the forge's own links say, and how sure."""
    links = found["chain"]
    return [(x["says"], x["sure"]) for x in links if x["link"] == "attestation at the forge"]


async def test_a_signed_provenance_that_the_forge_keeps_gives_the_commit() -> None:
    """It is verified as a registry's is, and is one more link of the way."""
    async with bench() as b:
        digest = b.registry.put_image("1.4", {})
        b.deployed.bundles[digest] = [b.signer.bundle(digest)]
        found = await b.trace(digest)
        assert said(found) == [(f"acme/shop at {COMMIT}", "verified")]
        assert (found["revision"], found["sure"]) == (COMMIT, "verified")


async def test_a_bundle_about_another_image_never_counts() -> None:
    """The signature holds, but its subject is another digest than the one that was asked for."""
    async with bench() as b:
        digest = b.registry.put_image("1.4", {})
        b.deployed.bundles[digest] = [b.signer.bundle(f"sha256:{'9' * 64}")]
        found = await b.trace(digest)
        assert said(found) == []
        assert (found["revision"], found["sure"]) == ("", "")


def _forged_subject(bundle: dict[str, Any], digest: str) -> dict[str, Any]:
    """The same signature under a statement whose subject was exchanged."""
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64encode(json.dumps(statement(digest, OURS, OTHER)).encode()).decode()
    return {**bundle, "dsseEnvelope": {**envelope, "payload": payload}}


@pytest.mark.parametrize(
    ("forge_it", "why"),
    [
        ("subject", "InvalidSignature"),
        ("key", "InvalidSignature"),
        ("none", "it carries no Sigstore bundle"),
    ],
)
async def test_a_forged_bundle_is_a_claim_and_chooses_no_commit(forge_it: str, why: str) -> None:
    """An exchanged subject, another's key, or no bundle at all: shown with the reason."""
    async with bench() as b:
        digest = b.registry.put_image("1.4", {})
        made = {
            "subject": _forged_subject(b.signer.bundle(f"sha256:{'9' * 64}"), digest),
            "key": Signer(WORKFLOW).bundle(digest, commit=OTHER),
            "none": {**b.signer.bundle(digest, commit=OTHER), "mediaType": "text/plain"},
        }
        b.deployed.bundles[digest] = [made[forge_it]]
        found = await b.trace(digest)
        [(says, sure)] = said(found)
        assert why in says
        assert sure == "claimed"
        assert found["revision"] == ""


async def test_a_verified_statement_about_another_repository_is_not_followed() -> None:
    """Our workflow signed it, and it names another source: the map's repository stays."""
    async with bench() as b:
        digest = b.registry.put_image("1.4", {})
        other = b.signer.bundle(digest, "https://github.com/evil/fork", OTHER)
        b.deployed.bundles[digest] = [other]
        found = await b.trace(digest)
        assert (found["repository"], found["revision"]) == ("acme/shop", "")


async def test_only_the_maps_own_repository_is_asked() -> None:
    """Without a line of the map nobody is asked; another kind's line asks no GitHub."""
    async with bench(mapped=False) as b:
        digest = b.registry.put_image(
            "1.4", {"org.opencontainers.image.source": "https://github.com/acme/shop"}
        )
        b.deployed.bundles[digest] = [b.signer.bundle(digest)]
        found = await b.trace(digest)
        assert said(found) == []
        assert b.forge.asked["attestations"] == 0
        lab = ImageRoute(match="*", forge="lab", repo="acme/shop", workflow=".gitlab-ci.yml")
        assert list(await b.attestations(lab, digest)) == []


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "does not hold"), (403, "it needs attestations: read"), (404, ""), (422, "HTTP 422")],
)
async def test_a_forge_that_says_no_costs_its_own_link_only(status: int, words: str) -> None:
    """The rest of the way is told; what could not be asked is said, a 404 is simply none."""
    async with bench() as b:
        digest = b.registry.put_image("1.4", {"org.opencontainers.image.source": OURS})
        b.deployed.denies["attestations"] = status
        found = await b.trace(digest)
        assert [words in says for says, _ in said(found)] == ([True] if words else [])
        assert found["sure"] == "agreed"


async def test_a_forge_that_does_not_answer_costs_its_own_link_only() -> None:
    """A trace is no reason to wait; whoever requires provenance tries again."""
    async with bench() as b:
        digest = b.registry.put_image("1.4", {})
        b.forge.faults.arm("attestations", Fault.ERROR_BEFORE, times=20)
        [(says, sure)] = said(await b.trace(digest))
        assert ("could not be asked" in says, sure) == (True, "claimed")
        with pytest.raises(StepRetry):
            await b.attestations(b.route, digest)


@pytest.mark.parametrize(
    "rubbish",
    [
        {},
        {"dsseEnvelope": {}},
        {"dsseEnvelope": {"payload": "!"}},
        {"dsseEnvelope": {"payload": 7}},
        {"mediaType": "x", "dsseEnvelope": {"payload": base64.b64encode(b"[" * 9999).decode()}},
        {"dsseEnvelope": {"payload": base64.b64encode(b'{"subject": 7}').decode()}},
    ],
)
async def test_rubbish_among_the_bundles_is_no_traceback(rubbish: dict[str, Any]) -> None:
    """What is no statement is left out, and a good one after it is found."""
    async with bench() as b:
        digest = b.registry.put_image("1.4", {})
        b.deployed.bundles[digest] = [rubbish, b.signer.bundle(digest)]
        assert [sure for _, sure in said(await b.trace(digest))] == ["verified"]


async def test_a_gate_that_requires_provenance_takes_what_the_forge_keeps() -> None:
    """The registry has none: the forge is asked, and only a verified one opens the gate."""
    async with bench() as b:
        old, new = b.registry.put_image("1.4", {"is": "old"}), b.registry.put_image("1.5", {})
        shelf = Shelf()
        shelf.keep("scan-old.json", report("trivy", Seen(digest=old, weak=(Weak(id="CVE-1"),))))
        shelf.keep("scan-new.json", report("trivy", Seen(digest=new)))
        reports = Reports(shelf, shelf.read, World())
        gate = ImageGate(b.registries, reports, (b.route,), b.signer.verify, bundles=b.attestations)
        name = f"{b.registry.host}/shop/cart"
        params = {"image": f"{name}@{new}", "old": f"{name}@{old}", "provenance": "required"}

        async def passes() -> str:
            call = replace(
                a_call(), action="image.gate", incident=7, params=params, target=Target()
            )
            try:
                await gate.apply(call, await gate.plan(call))
            except StepFailed as refused:
                return str(refused)
            return ""

        assert "no attestation was verified" in await passes()
        b.deployed.bundles[new] = [Signer(WORKFLOW).bundle(new)]
        assert "its signature does not hold" in await passes()
        b.deployed.bundles[new].append(b.signer.bundle(new))
        assert await passes() == ""
        b.deployed.denies["attestations"] = 403
        assert "it needs attestations: read" in await passes()
        reports.close()
