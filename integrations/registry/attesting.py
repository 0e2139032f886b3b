"""What is attested of an image, and whether a signature stands behind it.

A statement without a verified signature is only a claim, like a label. Signatures are verified
with the package `sigstore` where it is installed (`pip install runtime-responder[provenance]`),
offline, against its own roots, and only for the identity that the image map allows: the route's
workflow on its branch. Without it nothing is ever called verified.

Bundles: https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto,
statements: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md,
provenance: https://slsa.dev/spec/v1.1/provenance.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from integrations._images import ImageName, is_digest
from integrations._json import decode
from integrations._scans.model import at, objects, word
from integrations.registry.client import Registry
from responder.errors import BadAlert, NotFound, StepFailed
from responder.text import for_terminal

__all__ = [
    "Asked",
    "Attestation",
    "Verify",
    "attestations",
    "attested_by",
    "judged",
    "sigstore_verify",
    "source_of",
]

_LOOKED_AT = 5
_STATEMENT_MAX = 1 << 20
_BUNDLE = "application/vnd.dev.sigstore.bundle"
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.ASCII)
_REPO = re.compile(r"[A-Za-z0-9_.-]{1,100}(?:/[A-Za-z0-9_.-]{1,100}){1,5}", re.ASCII)
_URL = re.compile(
    r"(?:git\+)?(?:https?|ssh|git)://(?:[^@/\s]{1,64}@)?([^/\s:]+)(?::\d+)?/([^\s?#@]+)"
)
_SCP = re.compile(r"[^@/\s]{1,64}@([^/\s:]+):([^\s?#@]+)")

# bundle, identity, issuer -> the signed payload; raises `StepFailed`
Verify = Callable[[bytes, str, str], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """One statement about an image. `refused` says why it is no more than a claim."""

    host: str
    repository: str
    revision: str
    refused: str

    @property
    def verified(self) -> bool:
        """Whether a signature of the allowed identity stands behind it."""
        return not self.refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whose signature counts, and how it is verified; no `verify`: nothing ever counts."""

    identity: str = ""
    issuer: str = ""
    verify: Verify | None = None


def source_of(url: str) -> tuple[str, str]:
    """Host and repository in the address of a source; empty where it is none."""
    m = _URL.match(url.strip()[:512]) or _SCP.match(url.strip()[:512])
    if not m:
        return "", ""
    path = m[2].strip("/").removesuffix(".git")
    return (m[1].lower(), path) if _REPO.fullmatch(path) else ("", "")


async def attestations(registry: Registry, image: ImageName, asked: Asked) -> list[Attestation]:
    """What refers to an image and says where it comes from, at most the first five statements."""
    found = []
    for descriptor in (await registry.referrers(image.repository, image.digest))[:_LOOKED_AT]:
        digest = word(descriptor.get("digest"))
        if not is_digest(digest):
            continue
        try:
            data = await _content(registry, image.repository, digest)
        except (NotFound, StepFailed):
            continue  # what refers to an image may be anybody's, and broken
        if one := await registry.beside(partial(judged, data, image.digest, asked)):
            found.append(one)
    return found


async def attested_by(
    registry: Registry, bundles: Sequence[bytes], digest: str, asked: Asked
) -> list[Attestation]:
    """What a forge's bundles say of an image, at most the first five that are about it.

    A bundle about another image is left out, whatever the forge was asked for.
    """
    looked = [
        await registry.beside(partial(judged, data, digest, asked))
        for data in bundles[: 4 * _LOOKED_AT]
    ]
    return [one for one in looked if one][:_LOOKED_AT]


async def _content(registry: Registry, repository: str, digest: str) -> bytes:
    """The bytes of the first layer of an attestation's manifest."""
    _, manifest = await registry.manifest(repository, digest)
    layer = word(at(manifest, "layers/0/digest"))
    return await registry.blob(repository, layer, "attestation") if is_digest(layer) else b""


def judged(data: bytes, digest: str, asked: Asked) -> Attestation | None:
    """The source that a statement names; nothing where it is no statement on this image."""
    try:
        value = decode(data, _STATEMENT_MAX)
        envelope = at(value, "dsseEnvelope") or value
        payload = at(envelope, "payload")
        plain = base64.b64decode(payload, validate=True) if isinstance(payload, str) else data
        statement = decode(plain, _STATEMENT_MAX)
    except (BadAlert, binascii.Error):
        return None
    subjects = {word(at(one, "digest/sha256")) for one in objects(at(statement, "subject"))}
    if digest.removeprefix("sha256:") not in subjects:
        return None
    host, repository, revision = _source(at(statement, "predicate"))
    refused = _refusal(data, word(at(value, "mediaType")), plain, asked)
    return Attestation(host=host, repository=repository, revision=revision, refused=refused)


def _refusal(data: bytes, kind: str, plain: bytes, asked: Asked) -> str:
    """Why a statement is not verified, or nothing."""
    if not kind.startswith(_BUNDLE):
        return "it carries no Sigstore bundle"
    if asked.verify is None:
        return "the package sigstore is not installed"
    if not asked.identity:
        return "the image map names no identity that may have signed it"
    try:
        signed = asked.verify(data, asked.identity, asked.issuer)
    except StepFailed as error:
        return str(error)
    return "" if signed == plain else "what is signed is not what it says"


def _source(predicate: Any) -> tuple[str, str, str]:
    """Host, repository and commit of a SLSA provenance, 1.0 or 0.2."""
    build = at(predicate, "buildDefinition")
    named = word(at(build, "externalParameters/workflow/repository"))
    listed = [*objects(at(build, "resolvedDependencies")), *objects(at(predicate, "materials"))]
    old = at(predicate, "invocation/configSource")
    sources = [*listed, old] if isinstance(old, dict) else listed
    url = named or next((word(one.get("uri")) for one in sources if word(one.get("uri"))), "")
    commits = [word(at(one, f"digest/{key}")) for one in sources for key in ("gitCommit", "sha1")]
    host, repository = source_of(url)
    return host, repository, next((c for c in commits if _COMMIT.fullmatch(c)), "")


def sigstore_verify() -> Verify | None:
    """The verifier of the package `sigstore`, or nothing where it is not installed."""
    try:
        models = importlib.import_module("sigstore.models")
        verifying = importlib.import_module("sigstore.verify")
        policies = importlib.import_module("sigstore.verify.policy")
    except ImportError:
        return None

    def verify(bundle: bytes, identity: str, issuer: str) -> bytes:
        """The signed payload of a bundle; raises `StepFailed` for every doubt."""
        try:
            read = models.Bundle.from_json(bundle)
            verifier = verifying.Verifier.production(offline=True)
            policy = policies.Identity(identity=identity, issuer=issuer)
            _, payload = verifier.verify_dsse(read, policy)
        except Exception as error:  # the package has several trees of errors of its own
            text = for_terminal(f"{type(error).__name__}", 60)
            raise StepFailed(f"its signature does not hold ({text})") from error
        return bytes(payload)

    return verify
