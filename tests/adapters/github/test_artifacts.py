"""What a pipeline hands over is hostile until read: limits, members, expiry, whose it is."""

import io
import json
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from integrations._artifacts import (
    MEMBER_MAX,
    REPORT_MAX,
    ZIP_MAX,
    read_build,
    read_reports,
)
from responder.errors import NotFound, StepFailed
from responder.ports import Call
from tests.adapters.github.world import a_call, bench
from tests.doubles.executors import Immediate, build_json, zipped
from tests.doubles.shapes import DoubleRun

GOOD = {
    "image": "registry.example/shop/cart",
    "digest": f"sha256:{'a' * 64}",
    "revision": "r1",
    "correlation_id": "rr-1",
}


def packed(value: object) -> bytes:
    """Return the zip of one build.json."""
    return zipped({"build.json": json.dumps(value).encode()})


def lying() -> bytes:
    """Return a zip whose member unpacks to more than its header says."""
    bomb = zipped({"build.json": b" " * (MEMBER_MAX * 4)})
    said, truth = (MEMBER_MAX - 1).to_bytes(4, "little"), (MEMBER_MAX * 4).to_bytes(4, "little")
    return bomb.replace(truth, said)


def encrypted() -> bytes:
    """Return a zip whose member claims to be encrypted."""
    plain = bytearray(packed(GOOD))
    plain[6] |= 1  # general purpose flag of the local header
    plain[plain.index(b"PK\x01\x02") + 8] |= 1  # and of the central directory
    return bytes(plain)


def special(mode: int) -> bytes:
    """Return a zip whose build.json is no plain file: a link, a device, a pipe."""
    buffer = io.BytesIO()
    member = zipfile.ZipInfo("build.json")
    member.external_attr = (mode | 0o777) << 16
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, "/etc/passwd")
    return buffer.getvalue()


def squeezed(method: int) -> bytes:
    """Return a zip that is packed in a way whose unpacking cannot be bounded."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("build.json", json.dumps(GOOD))
    return buffer.getvalue()


def claiming(size: int) -> bytes:
    """Return a zip whose one member claims in the central directory to have that size."""
    plain = bytearray(packed(GOOD))
    at = plain.index(b"PK\x01\x02") + 24
    plain[at : at + 4] = size.to_bytes(4, "little")
    return bytes(plain)


def doubled() -> bytes:
    """Return a zip that holds the agreed name twice."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("build.json", json.dumps(GOOD))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("build.json", json.dumps(GOOD))
    return buffer.getvalue()


def test_a_good_build_is_read() -> None:
    """Every field arrives."""
    build = read_build(packed(GOOD))
    assert (build.image, build.digest, build.revision) == (
        GOOD["image"],
        GOOD["digest"],
        GOOD["revision"],
    )


BAD = {
    "no zip": (b"PK nothing", "no readable zip"),
    "empty": (b"", "no readable zip"),
    "cut": (packed(GOOD)[:-30], "no readable zip"),
    "bomb": (zipped({"build.json": b" " * (200 << 20)}), "says it has 209715200 bytes"),
    "lying bomb": (lying(), "longer than|no readable zip"),
    "encrypted": (encrypted(), "no readable zip"),
    "other member": (zipped({"x.json": b"{}"}), r"holds \[x.json\], expected only build.json"),
    "two members": (zipped({"build.json": b"{}", "x": b""}), "expected only build.json"),
    "path": (zipped({"../build.json": b"{}"}), "expected only build.json"),
    "control": (zipped({"\x1b[31m": b"{}"}), r"\\x1b"),
    "no members": (zipped({}), "expected only build.json"),
    "no json": (zipped({"build.json": b"{"}), "is not JSON"),
    "deep": (zipped({"build.json": b"[" * 60000}), "is not JSON"),
    "no utf-8": (zipped({"build.json": b"\xff\xfe\x00"}), "is not JSON"),
    "list": (packed([]), "expected an object, got list"),
    "no digest": (packed({}), "expected digest sha256"),
    "tag for digest": (packed({**GOOD, "digest": "latest"}), "expected digest sha256"),
    "number": (packed({**GOOD, "digest": 7}), "digest: expected a text"),
    "long": (packed({**GOOD, "revision": "x" * 600}), "revision: expected a text"),
    "symlink": (special(stat.S_IFLNK), "is a link or no file"),
    "device": (special(stat.S_IFCHR), "is a link or no file"),
    "pipe": (special(stat.S_IFIFO), "is a link or no file"),
    "folder": (zipped({"build.json/": b""}), "expected only build.json"),
    "absolute path": (zipped({"/etc/cron.d/x": b"{}"}), "expected only build.json"),
    "drive": (zipped({"C:\\build.json": b"{}"}), "expected only build.json"),
    "four gigabytes": (claiming(0xFFFFFFF0), "says it has 4294967280 bytes"),
    "bzip2": (squeezed(zipfile.ZIP_BZIP2), "packed by method 12, expected deflate"),
    "lzma": (squeezed(zipfile.ZIP_LZMA), "packed by method 14, expected deflate"),
    "extra field": (packed({**GOOD, "run": "rm"}), "fields that nobody agreed on: run"),
    "extra field with escapes": (packed({**GOOD, "\x1b[2J": 1}), r"agreed on: \\x1b\[2J"),
    "control characters": (packed({**GOOD, "tag": "1\x1b]0;x\x07"}), "tag holds characters that"),
    "new line": (packed({**GOOD, "image": "a\nb"}), "image holds characters that"),
    "right to left": (packed({**GOOD, "revision": "\u202egnp"}), "revision holds characters that"),
    "key twice": (
        zipped({"build.json": b'{"digest": "\x41", "digest": "b"}'}),
        "is not JSON that can be read: a key named twice",
    ),
    "null": (packed({**GOOD, "image": None}), "image: expected a text"),
}


@pytest.mark.parametrize(("archive", "text"), BAD.values(), ids=BAD)
def test_what_is_no_single_small_build_json_is_refused_with_the_reason(
    archive: bytes, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a `StepFailed` of harmless characters comes out, and nothing is written anywhere."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(StepFailed, match=text) as refused:
        read_build(archive)

    assert str(refused.value).isprintable()
    assert list(tmp_path.rglob("*")) == []
    assert not (tmp_path.parent / "build.json").exists()


def test_reports_are_read_by_their_agreed_names_alone() -> None:
    """One, two or three reports are fine; any other file is refused by its defused name."""
    assert read_reports(zipped({"scan-new.json": b"{}"})) == {"scan-new.json": b"{}"}
    assert read_reports(zipped({})) == {}
    with pytest.raises(StepFailed, match=r"holds \[scan-new.json, \.\./\.ssh/id\]"):
        read_reports(zipped({"scan-new.json": b"{}", "../.ssh/id": b"x"}))
    with pytest.raises(StepFailed, match=r"scan-old\.json says it has"):
        read_reports(zipped({"scan-old.json": b" " * (REPORT_MAX + 1)}))


def test_a_member_named_twice_is_refused() -> None:
    """Which of two would be read is not for us to guess."""
    with pytest.raises(StepFailed, match=r"expected only build\.json"):
        read_build(doubled())


async def test_an_archive_that_is_too_great_is_not_fetched() -> None:
    """The size that GitHub tells is checked before, the bytes that arrive are counted too."""
    great = Immediate(archive=lambda _: b"x" * (ZIP_MAX + 1))
    async with bench(double={"executor": great}) as b:
        with pytest.raises(StepFailed, match=f"expected at most {ZIP_MAX}"):
            await b.to_end(a_call())
        assert b.double.asked["zip"] == 0


async def test_a_claim_of_ten_gigabytes_is_refused_unfetched() -> None:
    """What the forge says of a size is enough to say no."""
    async with bench() as b:
        b.double.faults.says_size = 10 << 30
        with pytest.raises(StepFailed, match=f"has {10 << 30} bytes, expected at most {ZIP_MAX}"):
            await b.to_end(a_call())
        assert b.double.asked["zip"] == 0


async def test_the_digest_of_another_image_is_refused() -> None:
    """A digest that our repository does not hold is not ours, whoever else holds it."""
    other = f"sha256:{'9' * 64}"
    lying = Immediate(archive=lambda run: zipped({"build.json": build_json(run, digest=other)}))

    async def registry(reference: str) -> str:
        raise NotFound(reference)

    async with bench(double={"executor": lying}, digest_of=registry) as b:
        with pytest.raises(StepFailed, match=f"disagree on .*the pipeline says {other}"):
            await b.to_end(a_call())


async def test_an_archive_that_grew_since_is_cut_off() -> None:
    """The host that keeps the file sends more than GitHub said."""
    async with bench() as b:
        pending = await b.apply(a_call())
        run = b.double.runs[4711]
        b.double.faults.lies_about_size = True
        run.archive = b"x" * (ZIP_MAX * 8)
        with pytest.raises(StepFailed, match=f"longer than {ZIP_MAX} bytes"):
            await b.action.poll(a_call(), pending.state)


async def test_an_artifact_that_is_gone_says_so() -> None:
    """410 at the API is final."""
    async with bench() as b:
        b.double.faults.archive_gone = True
        with pytest.raises(StepFailed, match=r"is gone \(410\)"):
            await b.to_end(a_call())


async def test_an_address_that_lived_its_minute_is_asked_for_again() -> None:
    """410 where the file lies: a new address is fetched, without any credential."""
    async with bench() as b:
        b.double.faults.archive_late = 2
        await b.to_end(a_call())
        assert b.double.asked["zip"] == 3
        assert b.double.leaked == []


async def test_a_run_without_an_artifact_is_no_success() -> None:
    """Success without a build.json repairs nothing."""
    none = Immediate(archive=lambda _: None)
    async with bench(double={"executor": none}) as b:
        with pytest.raises(StepFailed, match='has no artifact "build"'):
            await b.to_end(a_call())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"correlation_id": "rr-00000000000000000000-1"}, "belongs to another request"),
        ({"correlation_id": ""}, "belongs to another request"),
        ({"image": "registry.example/evil/cart"}, "built another image"),
    ],
)
async def test_a_build_of_somebody_else_is_refused(changes: dict[str, str], text: str) -> None:
    """Correlation id and image must be the ones that were asked for."""

    def foreign(run: DoubleRun) -> bytes:
        return zipped({"build.json": build_json(run, **changes)})

    async with bench(double={"executor": Immediate(archive=foreign)}) as b:
        with pytest.raises(StepFailed, match=text):
            await b.to_end(a_call())


class Shelf:
    """Evidence in memory, by name."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[bytes, Mapping[str, Any]]] = {}

    async def put(self, call: Call, name: str, data: bytes, origin: Mapping[str, Any]) -> str:
        """Keep one artefact."""
        self.kept[name] = (data, origin)
        return name

    async def list(self, incident: int) -> list[Mapping[str, Any]]:
        """Return nothing."""
        return []


async def test_the_reports_of_a_run_become_evidence_where_the_settings_name_them() -> None:
    """They keep their names and say whose they are; without the setting nothing is asked for."""
    for setting, kept in (({"reports": "reports"}, {"scan-new.json"}), ({}, set())):
        shelf = Shelf()
        async with bench(settings=setting, evidence=shelf) as b:
            pending = await b.apply(a_call())
            b.double.runs[4711].reports = zipped({"scan-new.json": b"{}"})
            await b.action.poll(a_call(), pending.state)
        assert set(shelf.kept) == kept
    assert shelf.kept == {}


async def test_hostile_reports_stop_the_run_before_anything_is_kept() -> None:
    """A strange member refuses the whole archive."""
    shelf = Shelf()
    async with bench(settings={"reports": "reports"}, evidence=shelf) as b:
        pending = await b.apply(a_call())
        b.double.runs[4711].reports = zipped({"scan-new.json": b"{}", "../x": b""})
        with pytest.raises(StepFailed, match="expected only"):
            await b.action.poll(a_call(), pending.state)
    assert shelf.kept == {}
