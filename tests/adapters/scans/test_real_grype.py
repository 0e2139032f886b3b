"""The gate on real images with the real Grype: its own JSON, SARIF and CycloneDX (C5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from integrations.registry import setup
from integrations.registry.gating import ImageGate
from responder.clock import World
from responder.errors import StepFailed
from responder.model import Target
from responder.ports import Call, Done, Kit
from tests.adapters.scans.test_gate_action import Shelf
from tests.real.engine import Engine
from tests.real.grype import Entry, Grype, grype

FIX = "3.0.11-1~deb12u2"
ENTRIES = (
    Entry(id="CVE-2026-90001", package="openssl", fixed=FIX, severity="critical"),
    Entry(id="CVE-2026-90002", package="zlib", fixed="", severity="low"),
)
SYSTEM = 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nNAME="Debian"\n'


def pushed(engine: Engine, place: Path, tag: str, openssl: str) -> str:
    """Push an image with a Debian package database; return repository@digest."""
    name = f"{engine.registry}/shop/scanned"
    for file, text in {"os-release": SYSTEM, "status": status(openssl)}.items():
        (place / f"{tag}-{file}").write_text(text)
    (place / f"Dockerfile-{tag}").write_text(
        f"FROM scratch\nCOPY {tag}-os-release /etc/os-release\n"
        f"COPY {tag}-status /var/lib/dpkg/status\n"
    )
    file = str(place / f"Dockerfile-{tag}")
    image = f"{name}:{tag}"
    engine.docker("build", "-q", "--network", "none", "-f", file, "-t", image, str(place))
    engine.docker("push", "-q", image)
    said = engine.docker("inspect", "--format", '{{join .RepoDigests " "}}', image).stdout
    return next(one for one in said.split() if one.startswith(f"{name}@"))


def status(openssl: str) -> str:
    """Return a dpkg status file; without a version, one in which nothing is installed."""
    packages = [("libssl3", "openssl", openssl), ("zlib1g", "zlib", "1:1.2.13.dfsg-1")]
    return "\n".join(
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\n"
        f"Source: {source}\nVersion: {version}\nDescription: made by hand\n"
        for name, source, version in packages
        if openssl
    )


LATER = f"is not repaired: expected {FIX} or later, got 3.0.10-1"


@pytest.mark.parametrize(
    ("form", "stays", "empty"),
    [
        ("json", LATER, "names no package"),
        ("sarif", LATER, "names no package"),
        ("cyclonedx-json", "is still there at 3.0.10-1, and no fix is known", "lists no package"),
    ],
)
async def test_the_gate_reads_what_the_real_scanner_says(
    engine: Engine, tmp_path: Path, form: str, stays: str, empty: str
) -> None:
    """A repaired image passes, the unrepaired and the emptied one are refused by name."""
    scanner: Grype = grype(tmp_path, ENTRIES)
    old = pushed(engine, tmp_path, "old", "3.0.9-1")
    same = pushed(engine, tmp_path, "same", "3.0.10-1")
    new = pushed(engine, tmp_path, "new", FIX)
    bare = pushed(engine, tmp_path, "bare", "")
    shelf = Shelf()
    made = setup(
        {engine.registry: {"insecure": True}},
        World(),
        Kit(evidence=shelf, artefact=shelf.read),
    )
    gate = next(one for one in made.actions if isinstance(one, ImageGate))
    shelf.keep("scan-old.json", scanner.scan(old, form))

    async def passes(image: str, at: int) -> Any:
        shelf.keep("scan-new.json", scanner.scan(image, form), at=at)
        call = Call(
            action="image.gate",
            key="run_1/gate",
            incident=7,
            run="run_1",
            step="gate",
            params={"image": image, "old": old, "findings": ["CVE-2026-90001"]},
            target=Target(),
        )
        done = await gate.apply(call, await gate.plan(call))
        assert isinstance(done, Done)
        return done.result

    assert (await passes(new, 1))["repaired"] == ["CVE-2026-90001 in libssl3"]
    with pytest.raises(StepFailed, match=f"CVE-2026-90001 in libssl3 {stays}"):
        await passes(same, 2)
    with pytest.raises(StepFailed, match=f"the scan of the new image is empty: .* {empty}"):
        await passes(bare, 3)
    assert made.close
    await made.close()
