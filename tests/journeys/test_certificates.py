"""Senders that show a certificate: the server checks it, the hook asks for its name.

Falco, Alertmanager, the API server's audit webhook and Quay can do that. Real TLS over loopback,
with certificates made for the test.
"""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from integrations._source import sample_of
from responder.cli.serve import _tls
from responder.web.app import make_app
from responder.web.serving import listening
from responder.wiring import build, load_settings

CONFIG = """
[server]
listen = "127.0.0.1:0"
tls = {{cert = "{folder}/server.pem", key = "{folder}/server.key", client_ca = "{folder}/ca.pem"}}
[store]
url = "sqlite:///{folder}/responder.db"
[playbooks]
folders = ["{folder}/playbooks"]
[hooks.certified]
source = "falco"
auth = {{certificate = {{names = ["falco.sensors"]}}}}
[hooks.plain]
source = "falco"
auth = {{bearer = {{env = "HOOK_SECRET"}}}}
"""


@dataclass(frozen=True)
class Authority:
    """Somebody who signs certificates."""

    name: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def sign(self, folder: Path, name: str, file: str) -> Path:
        """A certificate for a name, with its key beside it."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(name), x509.DNSName("localhost")]
        made = _builder(name, self.name, key, x509.SubjectAlternativeName(names)).sign(
            self.key, hashes.SHA256()
        )
        return _written(folder, file, key, made)


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, more: x509.ExtensionType
) -> x509.CertificateBuilder:
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=3650))
        .not_valid_after(now + dt.timedelta(days=36500))
        .add_extension(more, critical=isinstance(more, x509.BasicConstraints))
    )


def _written(
    folder: Path, file: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> Path:
    path = folder / f"{file}.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{file}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def authority(folder: Path, name: str, file: str) -> Authority:
    """A new authority, its certificate written down."""
    key = ec.generate_private_key(ec.SECP256R1())
    constraint = x509.BasicConstraints(ca=True, path_length=None)
    certificate = _builder(name, name, key, constraint).sign(key, hashes.SHA256())
    _written(folder, file, key, certificate)
    return Authority(name, key, certificate)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """The address of a server with TLS, and the folder of certificates."""
    (tmp_path / "playbooks").mkdir()
    trusted = authority(tmp_path, "ca of senders", "ca")
    trusted.sign(tmp_path, "localhost", "server")
    trusted.sign(tmp_path, "falco.sensors", "falco")
    trusted.sign(tmp_path, "prometheus", "other")
    authority(tmp_path, "ca of nobody", "nobody").sign(tmp_path, "falco.sensors", "forged")
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(folder=tmp_path))
    settings = load_settings(path, environ={"HOOK_SECRET": "s"})
    async with (
        build(settings, anonymous=True) as app,
        listening(make_app(app.service), "127.0.0.1", 0, ssl=_tls(settings)) as url,
    ):
        yield url.replace("http://", "https://").replace("127.0.0.1", "localhost"), tmp_path


async def post(served: tuple[str, Path], hook: str, shown: str = "", **headers: str) -> int:
    """Deliver an event, with a certificate or without."""
    url, folder = served
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if shown:
        context.load_cert_chain(folder / f"{shown}.pem", folder / f"{shown}.key")
    connector = aiohttp.TCPConnector(ssl=context, force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(
            f"{url}/v1/hooks/{hook}",
            data=sample_of("falco"),
            headers={"Content-Type": "application/json", **headers},
        ) as answer,
    ):
        await answer.read()
        return answer.status


async def test_the_right_certificate_opens_the_hook(served: tuple[str, Path]) -> None:
    """Signed by the authority of the configuration, for a name that the hook lists."""
    assert await post(served, "certified", "falco") == 202


async def test_another_name_none_or_a_header_that_claims_it_do_not(
    served: tuple[str, Path],
) -> None:
    """What is not in the handshake is not believed."""
    assert await post(served, "certified", "other") == 401
    assert await post(served, "certified") == 401
    assert await post(served, "certified", **{"X-Client-Subject": "falco.sensors"}) == 401


async def test_a_certificate_of_another_authority_ends_the_handshake(
    served: tuple[str, Path],
) -> None:
    """The same name, signed by somebody else."""
    with pytest.raises(aiohttp.ClientError):
        await post(served, "certified", "forged")


async def test_other_hooks_need_no_certificate_and_none_opens_them(
    served: tuple[str, Path],
) -> None:
    """It is asked for, not demanded; a certificate is no bearer token."""
    assert await post(served, "plain", Authorization="Bearer s") == 202
    assert await post(served, "plain", "falco") == 401
