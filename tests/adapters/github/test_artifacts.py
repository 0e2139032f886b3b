"""What a pipeline hands over is hostile until read: limits, members, expiry, whose it is."""

import io
import json
import zipfile

import pytest

from integrations.github.artifacts import MEMBER_MAX, ZIP_MAX, read_build
from responder.errors import StepFailed
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


def doubled() -> bytes:
    """Return a zip that holds the agreed name twice."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("build.json", json.dumps(GOOD))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("build.json", json.dumps(GOOD))
    return buffer.getvalue()


def test_a_good_build_is_read() -> None:
    """Every field arrives, unknown ones are left alone."""
    build = read_build(packed({**GOOD, "more": [1]}))
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
    "null": (packed({**GOOD, "image": None}), "image: expected a text"),
}


@pytest.mark.parametrize(("archive", "text"), BAD.values(), ids=BAD)
def test_what_is_no_single_small_build_json_is_refused_with_the_reason(
    archive: bytes, text: str
) -> None:
    """Nothing else than `StepFailed` comes out, and nothing is unpacked beyond the limit."""
    with pytest.raises(StepFailed, match=text):
        read_build(archive)


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
