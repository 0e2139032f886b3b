"""Read what a pipeline hands over: a few small files in one small zip, in memory.

The pipeline is not ours, so its archive is hostile until read. Sizes are bounded before and while
unpacking, only the agreed names are accepted, and only as plain files; nothing is ever extracted to
disk, and no name or value of the archive gets into a text before it was made harmless.

Every forge hands over the same two archives: `build` with `build.json`, and, where the pipeline
scans, `reports` with the files of `REPORTS`.
"""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from integrations._images import is_digest
from integrations._json import decode
from responder.errors import BadAlert, StepFailed
from responder.ports import Call, EvidenceSink
from responder.text import for_terminal

__all__ = [
    "MEMBER",
    "MEMBER_MAX",
    "REPORTS",
    "REPORTS_ZIP_MAX",
    "REPORT_MAX",
    "ZIP_MAX",
    "Build",
    "keep_reports",
    "read_build",
    "read_build_json",
    "read_members",
    "read_reports",
]

MEMBER = "build.json"
ZIP_MAX = 256 << 10
MEMBER_MAX = 64 << 10
_FIELD_MAX = 512

REPORTS = ("scan-old.json", "scan-new.json", "vex.json")
REPORTS_ZIP_MAX = 4 << 20
REPORT_MAX = 8 << 20

# Python bounds what these unpack to; bzip2 and LZMA may grow without limit in one read.
_PLAIN_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Build:
    """What the pipeline says; a claim until the registry has said the same.

    `tag` is optional: with it the registry is asked for the tag that this very run pushed.
    """

    image: str
    digest: str
    correlation_id: str
    revision: str = ""
    tag: str = ""


def read_build(archive: bytes) -> Build:
    """The build in an artifact's zip; raises `StepFailed` that says what is wrong with it."""
    return read_build_json(read_members(archive, {MEMBER: MEMBER_MAX}, required=(MEMBER,))[MEMBER])


def read_build_json(text: bytes) -> Build:
    """The build in the file itself, for a forge that hands over single files.

    A field that nobody agreed on is refused: what is not understood is not acted upon. Raises
    `StepFailed` that says what is wrong with it.
    """
    try:
        value = decode(text, MEMBER_MAX)
    except BadAlert as error:
        why = for_terminal(str(error), 200)
        raise StepFailed(f"{MEMBER} is not JSON that can be read: {why}") from None
    if not isinstance(value, dict):
        raise StepFailed(f"{MEMBER}: expected an object, got {type(value).__name__}")
    if unknown := sorted(set(value) - set(Build.__slots__)):
        names = ", ".join(for_terminal(name, 40) for name in unknown[:5])
        raise StepFailed(f"{MEMBER} has fields that nobody agreed on: {names}")
    build = Build(**{key: _field(value, key) for key in Build.__slots__})
    if not is_digest(build.digest):
        raise StepFailed(
            f'{MEMBER}: expected digest sha256:…, got "{for_terminal(build.digest, 80)}"'
        )
    return build


def read_reports(archive: bytes) -> dict[str, bytes]:
    """The scan reports in an artifact's zip by name; raises `StepFailed` as `read_members` does."""
    return read_members(archive, dict.fromkeys(REPORTS, REPORT_MAX))


async def keep_reports(
    evidence: EvidenceSink, call: Call, archive: bytes, origin: Mapping[str, str]
) -> None:
    """Put the scan reports of an artifact's zip among the incident's evidence, by their names.

    `origin` says whose run they are of. Raises `StepFailed` as `read_members` does.
    """
    for name, data in read_reports(archive).items():
        await evidence.put(call, name, data, origin)


def read_members(
    archive: bytes, limits: Mapping[str, int], *, required: Collection[str] = ()
) -> dict[str, bytes]:
    """The members of a zip, which may be no others than those of `limits` (name -> most bytes).

    Raises `StepFailed` for a missing, unknown, doubled, linked or too large member, and for what
    is no zip. It never writes to disk, and never unpacks more than the limits in all.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            members = opened.infolist()
            _check_names([member.filename for member in members], limits, required)
            return {member.filename: _read(opened, member, limits) for member in members}
    except _UNREADABLE as error:
        raise StepFailed(f"the artifact is no readable zip ({type(error).__name__})") from error


def _check_names(names: list[str], limits: Mapping[str, int], required: Collection[str]) -> None:
    allowed = len(set(names)) == len(names) and set(names) <= set(limits)
    if allowed and set(required) <= set(names):
        return
    shown = ", ".join(for_terminal(name, 40) for name in names[:5])
    raise StepFailed(f"the artifact holds [{shown}], expected only {', '.join(limits)}")


def _read(opened: zipfile.ZipFile, member: zipfile.ZipInfo, limits: Mapping[str, int]) -> bytes:
    name, most = member.filename, limits[member.filename]
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in {0, stat.S_IFREG} or member.is_dir():
        raise StepFailed(f"{name} is a link or no file at all, expected a plain file")
    if member.compress_type not in _PLAIN_METHODS:
        raise StepFailed(f"{name} is packed by method {member.compress_type}, expected deflate")
    if member.file_size > most:
        raise StepFailed(f"{name} says it has {member.file_size} bytes, at most {most}")
    with opened.open(member) as file:  # what the header says is not what unpacks: read bounded
        text = file.read(most + 1)
    if len(text) > most:
        raise StepFailed(f"{name} is longer than {most} bytes")
    return text


def _field(value: Mapping[str, object], key: str) -> str:
    item = value.get(key, "")
    if not isinstance(item, str) or len(item) > _FIELD_MAX:
        raise StepFailed(f"{MEMBER}: {key}: expected a text of at most {_FIELD_MAX} characters")
    if not item.isprintable():
        raise StepFailed(f"{MEMBER}: {key} holds characters that cannot be printed")
    return item
