"""Every part of every form replaced by every odd value: read or refused, never a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from integrations._scans import read_scan, read_vex
from integrations._scans.gate import Asked, judge
from responder.errors import StepFailed
from tests.adapters.scans.reports import FORMS, NEW, OLD, Seen, Weak, cyclonedx_vex, openvex
from tests.doubles.corpus import corpus

ODD: tuple[Any, ...] = (
    None,
    True,
    7,
    -1.5,
    "",
    "\x1b[2J",
    "sha256:x",
    "x" * 5000,
    [],
    [None],
    [[1]],
    {},
    {"a": []},
    [{"a": {}}],
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a value that holds another one."""
    if path:
        yield path
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    for key, item in inner:
        yield from places(item, (*path, key))


def changed(value: Any, path: tuple[Any, ...], odd: Any) -> bytes:
    """The value with one place replaced, as bytes."""
    fresh = copy.deepcopy(value)
    inner = fresh
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = odd
    return json.dumps(fresh).encode()


def holds(read: Callable[[str, bytes], Any], data: bytes) -> Any:
    """What is read, or nothing where it is refused in harmless words."""
    said = ""
    try:
        return read("report", data)
    except StepFailed as refused:
        said = str(refused)
    assert said.isprintable()
    return None


@pytest.mark.parametrize("form", FORMS)
def test_no_odd_value_anywhere_breaks_the_reading_or_the_ruling(form: str) -> None:
    """Whatever is read can be judged, and every sentence can be printed."""
    weak = (Weak(id="CVE-2026-1000", alias="GHSA-aaaa-bbbb-cccc"), Weak(id="CVE-2026-2", fixed=""))
    whole = FORMS[form](Seen(digest=NEW, weak=weak))
    old = read_scan("old", json.dumps(FORMS[form](Seen(digest=OLD, weak=weak))).encode())
    tried = 0
    for path in places(whole):
        for odd in ODD:
            new = holds(read_scan, changed(whole, path, odd))
            tried += 1
            if new is None:
                continue
            ids = {"old_digests": frozenset({OLD}), "new_digests": frozenset({NEW})}
            found = judge(old, new, (), Asked(targeted=("CVE-2026-1000",)), **ids)
            # an odd value may hide a finding, as a lying scanner may; it may not break a sentence
            assert all(text.isprintable() for text in (*found.refusals, *found.notes))
    assert tried > 300


@pytest.mark.parametrize(
    "document",
    [
        openvex(
            NEW, "CVE-1", "not_affected", justification="x", subcomponents=[{"@id": "pkg:a/b"}]
        ),
        cyclonedx_vex(NEW, "CVE-1", "resolved", detail="x"),
    ],
    ids=["OpenVEX", "CycloneDX"],
)
def test_no_odd_value_anywhere_breaks_a_vex_document(document: bytes) -> None:
    """Statements are read or the document is refused."""
    whole = json.loads(document)
    for path in places(whole):
        for odd in ODD:
            holds(read_vex, changed(whole, path, odd))


@pytest.mark.parametrize("tool", ["grype", "trivy-cli"])
def test_recorded_reports_are_read_whole(tool: str) -> None:
    """Every finding of every recorded report has an id, a package and its system."""
    folder = corpus()
    if folder is None:
        pytest.skip("no corpus beside the checkout")
    read = 0
    for file in sorted((folder / "alerts" / tool).glob("*.json")):
        if file.name.startswith("legacy"):  # the first schema says of no image what it is of
            continue
        for finding in read_scan(file.name, file.read_bytes()).findings:
            assert finding.id, file.name
            assert finding.package.name, file.name
            assert finding.package.kind, file.name
            read += 1
    assert read >= 8
