"""`image.gate` through a registry's double and an incident's evidence: digests, origin, reports."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from integrations.registry import setup
from integrations.registry.gating import ImageGate
from responder.clock import World
from responder.errors import StepFailed
from responder.model import Target, VerdictLevel
from responder.ports import Call, Kit
from tests.adapters.scans.reports import Seen, Weak, openvex, report
from tests.doubles.registry import INDEX, RegistryDouble, running_registry

CVE = Weak(id="CVE-2026-1000")
ALSO = Weak(id="CVE-2026-2000", package="zlib1g", fixed="", severity="low")
REVISION = "org.opencontainers.image.revision"


@dataclass
class Shelf:
    """Evidence in memory; the rows are what the store would say."""

    rows: list[Mapping[str, Any]] = field(default_factory=list)
    data: dict[str, bytes] = field(default_factory=dict)

    def keep(self, name: str, data: bytes, *, run: str = "run_1", at: int = 1) -> None:
        """Keep one artefact."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.data[sha256] = data
        self.rows.append(
            {"name": name, "sha256": sha256, "size": len(data), "run": run, "at": at, "origin": {}}
        )

    async def put(self, call: Call, name: str, data: bytes, origin: Mapping[str, Any]) -> str:
        """Refuse: a gate keeps nothing."""
        raise AssertionError("image.gate keeps nothing")

    async def list(self, incident: int) -> list[Mapping[str, Any]]:
        """Return what incident 7 has."""
        return self.rows if incident == 7 else []

    async def read(self, sha256: str) -> bytes:
        """Return the bytes."""
        return self.data[sha256]


@dataclass
class Stage:
    """One gate with an old and a new image in its registry."""

    double: RegistryDouble
    shelf: Shelf
    gate: ImageGate
    old: str
    new: str

    def call(self, **params: Any) -> Call:
        """Return the call of the step."""
        name = f"{self.double.host}/shop/cart"
        return Call(
            action="image.gate",
            key="run_1/gate",
            incident=7,
            run="run_1",
            step="gate",
            params={"image": f"{name}@{self.new}", **params},
            target=Target(image=f"{name}:1.4", digest=self.old),
        )

    def scanned(self, *weak: Weak, **changes: Any) -> None:
        """Keep the reports of both images; the new one has these findings."""
        before = Seen(digest=self.old, weak=(CVE, ALSO))
        self.shelf.keep("scan-old.json", report("trivy", before))
        after = replace(Seen(digest=self.new, weak=(*weak, ALSO)), **changes)
        self.shelf.keep("scan-new.json", report("trivy", after))

    async def refusal(self, **params: Any) -> str:
        """Return the sentence that the gate refuses with."""
        call = self.call(**params)
        with pytest.raises(StepFailed) as refused:
            await self.gate.apply(call, await self.gate.plan(call))
        return str(refused.value)


@contextlib.asynccontextmanager
async def stage(*, reads: bool = True) -> AsyncIterator[Stage]:
    """Set a gate up before a registry that holds both images."""
    async with running_registry() as double:
        old = double.put_image("1.4", {})
        new = double.put_image("1.5", {REVISION: "abc123"})
        shelf = Shelf()
        kit = Kit(evidence=shelf, artefact=shelf.read if reads else None)
        made = setup({double.host: {"insecure": True}}, World(), kit)
        gate = next(one for one in made.actions if isinstance(one, ImageGate))
        try:
            yield Stage(double, shelf, gate, old, new)
        finally:
            assert made.close
            await made.close()


async def test_a_repaired_image_passes_and_says_what_it_rests_on() -> None:
    """The result names the image by digest and the finding that is gone; the verdict is proven."""
    async with stage() as s:
        s.scanned()
        call = s.call(digest=s.new, tag="1.5", revision="abc123", findings=["CVE-2026-1000"])
        plan = await s.gate.plan(call)
        done = await s.gate.apply(call, plan)
        verdict = await s.gate.verify(call, plan, done.result)

        assert plan.changes == ()
        assert done.result["image"] == f"{s.double.host}/shop/cart@{s.new}"
        assert done.result["repaired"] == ["CVE-2026-1000 in openssl"]
        assert verdict.level is VerdictLevel.PROVEN


async def test_a_finding_that_stays_is_refused_by_name() -> None:
    """The sentence names image, finding, package and both versions."""
    async with stage() as s:
        s.scanned(CVE)
        text = await s.refusal()

        assert f"image gate refuses {s.double.host}/shop/cart@{s.new}: CVE-2026-1000" in text
        assert "expected 3.0.11-1~deb12u2 or later, got 3.0.9-1" in text


async def test_each_digest_that_differs_is_refused() -> None:
    """The pipeline's word, the registry's tag and the label of the commit each have a sentence."""
    other = f"sha256:{'f' * 64}"
    async with stage() as s:
        s.scanned()
        text = await s.refusal(digest=other, tag="1.4", revision="ffff")

        assert f"the pipeline pushed another digest: expected {s.new}, got {other}" in text
        assert f"the tag 1.4 is not it: expected {s.new}, got {s.old}" in text
        assert "another revision: expected ffff, its label says abc123" in text
        assert "the tag 9 is not it" in await s.refusal(tag="9")


async def test_the_old_image_under_a_new_name_is_refused() -> None:
    """An index round the very same manifest is no new image."""
    async with stage() as s:
        platform = {"os": "linux", "architecture": "amd64"}
        entry = {"digest": s.old, "platform": platform}
        s.new = s.double.put("1.6", INDEX, {"manifests": [entry]})
        s.scanned()

        assert "the new image is the old one: both are sha256:" in await s.refusal()


async def test_a_digest_that_the_registry_lacks_is_refused() -> None:
    """What nobody can pull is not rolled out."""
    async with stage() as s:
        s.scanned()
        s.new = f"sha256:{'f' * 64}"

        assert f"the registry has no {s.new}" in await s.refusal()


async def test_missing_reports_are_refused_and_named() -> None:
    """No report is no proof, and a report that cannot be read is none."""
    async with stage() as s:
        assert "has no scan-old.json among its evidence" in await s.refusal()
        s.shelf.keep("scan-old.json", report("trivy", Seen(digest=s.old, weak=(CVE,))))
        assert "has no scan-new.json among its evidence" in await s.refusal()
    async with stage(reads=False) as s:
        s.scanned()
        assert "evidence cannot be read here" in await s.refusal()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xff\x00", "scan-new.json cannot be read: body is not JSON"),
        (b"[]", "expected a JSON object, got list"),
        (b"{}", "is no scan report that is known"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "nesting deeper than 64 levels"),
        (b'{"runs": [], "x\x1b": NaN}', "cannot be read: "),
        (b" " * ((8 << 20) + 1), "has 8388609 bytes, at most 8388608"),
        (b'{"runs": [7, {"results": [{"ruleId": 9}]}]}', "does not say of which digest"),
        (b'{"matches": [1, {"vulnerability": []}]}', "does not say of which digest"),
        (b'{"SchemaVersion": 2, "ArtifactName": 1, "Results": 3}', "does not say of which digest"),
    ],
)
async def test_a_hostile_report_ends_in_one_harmless_sentence(data: bytes, text: str) -> None:
    """Whatever the bytes are: a refusal, printable, and no other error."""
    async with stage() as s:
        s.shelf.keep("scan-old.json", report("trivy", Seen(digest=s.old, weak=(CVE,))))
        s.shelf.keep("scan-new.json", data)
        found = await s.refusal()

        assert text in found
        assert found.isprintable()


async def test_this_runs_own_and_newest_report_counts() -> None:
    """An earlier report of this run, and a later one of another run, are left alone."""
    async with stage() as s:
        s.scanned()
        late = report("trivy", Seen(digest=s.new, weak=(CVE, ALSO)))
        s.shelf.keep("scan-new.json", late, run="run_0", at=9)
        call = s.call()
        assert (await s.gate.apply(call, await s.gate.plan(call))).result["repaired"]
        s.shelf.keep("scan-new.json", late, at=9)
        assert "CVE-2026-1000" in await s.refusal()


async def test_an_excuse_counts_with_its_reason_and_lowers_the_verdict() -> None:
    """What a VEX document excuses is shown as such and is not called proven."""
    async with stage() as s:
        s.scanned(CVE)
        reason = "vulnerable_code_not_present"
        s.shelf.keep("vex.json", openvex(s.new, CVE.id, "not_affected", justification=reason))
        call = s.call()
        plan = await s.gate.plan(call)
        done = await s.gate.apply(call, plan)
        verdict = await s.gate.verify(call, plan, done.result)

        assert verdict.level is VerdictLevel.APPLIED
        assert f"excused: CVE-2026-1000 in openssl: not_affected, {reason}" in verdict.residual


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"image": "registry.example/shop/cart:1.5"}, "the new image .* is not named by digest"),
        ({"old": "registry.example/shop/cart:1.4"}, "the old image .* is not named by digest"),
        ({"threshold": "hihg"}, 'threshold "hihg": did you mean "high"'),
        ({"findings": "CVE-1"}, "findings: expected a list of ids, got str"),
        ({"image": f"other.example/x@sha256:{'a' * 64}"}, r'no \[registries."other.example"\]'),
    ],
)
async def test_what_cannot_be_compared_is_refused_when_planned(
    params: dict[str, Any], text: str
) -> None:
    """Nothing is read before the question makes sense."""
    async with stage() as s:
        s.scanned()
        with pytest.raises(StepFailed, match=text):
            await s.gate.plan(s.call(**params))
        assert s.double.seen == []
