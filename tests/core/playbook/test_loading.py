"""YAML is read as an editor shows it, and no text at all makes loading fail in another way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from responder.errors import PlaybookError, Problem
from responder.model import Mode, Role, Severity
from responder.playbook.loading import load_text, read_tree
from responder.playbook.nodes import Report
from tests.core.playbook.catalogue import CATALOGUE, SOURCES
from tests.core.playbook.test_mistakes import GOOD

MEANINGS: tuple[tuple[str, Any], ...] = (
    ("on", "on"),
    ("yes", "yes"),
    ("NO", "NO"),
    ("off", "off"),
    ("true", True),
    ("False", False),
    ("tRUE", "tRUE"),
    ("null", None),
    ("~", None),
    ("", None),
    ("'null'", "null"),
    ('"12"', "12"),
    ("012", 12),
    ("0o14", 12),
    ("0x1F", 31),
    ("+12", 12),
    ("-7", -7),
    ("1_000", "1_000"),
    ("12:30", "12:30"),
    ("12:30:45", "12:30:45"),
    ("1.10", 1.1),
    (".5", 0.5),
    ("1e3", 1000.0),
    ("1.", 1.0),
    ("1.2.3", "1.2.3"),
    ("2026-01-31", "2026-01-31"),
    ("0b11", "0b11"),
    ("=", "="),
    ("<<", "<<"),
    ("|-\n  a\n  b", "a\nb"),
    (">-\n  a\n  b", "a b"),
    ("9223372036854775807", 2**63 - 1),
)


@pytest.mark.parametrize(("text", "value"), MEANINGS)
def test_a_scalar_means_what_yaml_1_2_says(text: str, value: Any) -> None:
    """The core schema, without the surprises of YAML 1.1."""
    report = Report("p.yaml", f"a: {text}\n")
    root = read_tree(report.text, report)
    assert root is not None
    found = root.plain()["a"]
    assert (type(found), found) == (type(value), value)
    assert report.problems == []


@pytest.mark.parametrize(
    ("said", "again"), [("", True), (", again: true", True), (", again: false", False)]
)
def test_whether_a_statement_starts_a_playbook_again_is_the_playbook_s_word(
    said: str, *, again: bool
) -> None:
    """Left out, it does."""
    text = GOOD.replace("window: 30m}", f"window: 30m{said}}}", 1)
    assert load_text(text, "p.yaml", CATALOGUE, SOURCES).incident_again is again


def test_a_good_playbook_becomes_what_it_says() -> None:
    """Every key arrives in its place, with durations as numbers and steps in order."""
    playbook = load_text(GOOD, "p.yaml", CATALOGUE, SOURCES)
    assert playbook.name == "contain-and-rebuild"
    assert playbook.mode is Mode.APPROVE
    assert playbook.incident_key == ("cluster", "namespace", "workload")
    assert playbook.incident_window == 30 * 60 * 1_000_000
    assert (playbook.limits.pods, playbook.limits.ready_share) == (10, 0.34)
    assert list(playbook.steps) == ["snapshot", "isolate", "rebuild", "mark", "redeploy"]
    assert playbook.steps["snapshot"].timeout == 30.0
    assert playbook.steps["snapshot"].on_error == "continue"
    retry, approve = playbook.steps["rebuild"].retry, playbook.steps["redeploy"].approve
    assert retry is not None
    assert (retry.attempts, retry.backoff) == (3, 30.0)
    assert approve is not None
    assert (approve.by, approve.within, approve.otherwise) == (Role.APPROVER, 1_800_000_000, "stop")
    assert playbook.manual is not None
    assert playbook.manual["pod"].required
    (case,) = playbook.tests
    assert (case.alert.target.label, case.alert.severity) == ("shop/web-1", Severity.HIGH)
    assert (case.starts, case.waits_at) == (True, "redeploy")
    assert {"target.pod", "steps.rebuild.image", "incident.number"} <= playbook.fields


def test_what_is_left_out_has_the_documented_default() -> None:
    """A playbook of three lines asks before it changes anything."""
    text = "playbook: a\non: [{manual: }]\nsteps: {b: {use: chat.post, with: {text: hi}}}\n"
    playbook = load_text(text, "p.yaml", CATALOGUE)
    assert playbook.mode is Mode.APPROVE
    assert playbook.incident_key == ("cluster", "namespace", "workload")
    assert playbook.incident_window == 30 * 60 * 1_000_000
    assert (playbook.manual, playbook.triggers) == ({}, ())
    assert playbook.steps["b"].on_error == "stop"
    assert playbook.limits.pods is None


def test_steps_are_ordered_by_need_however_they_are_written() -> None:
    """The file may name a step before the one that it needs."""
    text = """\
playbook: a
on: [{manual: }]
steps:
  third: {use: chat.post, with: {text: "${{ steps.first.status }}"}, needs: [second]}
  second: {use: chat.post, with: {text: hi}, needs: first}
  first: {use: chat.post, with: {text: hi}}
"""
    assert list(load_text(text, "p.yaml", CATALOGUE).steps) == ["first", "second", "third"]


def test_a_byte_order_mark_and_windows_line_ends_change_nothing() -> None:
    """What an editor on another system adds says nothing."""
    text = "\ufeff" + GOOD.replace("\n", "\r\n")
    assert next(iter(load_text(text, "p.yaml", CATALOGUE).steps)) == "snapshot"


CUTS = st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12))
WORDS = (
    *("", ":", "- ", "{", "}", "[", "]", '"', "'", "${{", "}}", "&a ", "*a", "!!map ", "#"),
    *("\n", "\n  ", "\t", "null", "true", "0x", "1e999", "-.inf", "|", ">", "? ", "---", "%"),
    *("steps.", "target.pod", "&& ", "(", ")", "needs: [x]", "undo", "item", "\x00", "\ud800"),
)
PIECES = st.one_of(st.sampled_from(WORDS), st.text(max_size=8))


@settings(max_examples=800, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.tuples(CUTS, PIECES), min_size=1, max_size=4))
def test_whatever_is_done_to_a_playbook_only_playbook_errors_come_of_it(
    changes: list[tuple[tuple[int, int], str]],
) -> None:
    """Cut here, pasted there: it loads, or every problem has a place in the file."""
    text = GOOD
    for (at, length), piece in changes:
        text = text[:at] + piece + text[at + length :]
    lines = text.count("\n") + text.count("\r") + text.count("\x85") + 2
    for problem in problems_of(text):
        assert 1 <= problem.line <= lines
        assert problem.column >= 1


def problems_of(text: str) -> list[Problem]:
    """None, or at least one: an error without a problem would be a riddle."""
    try:
        load_text(text, "p.yaml", CATALOGUE, SOURCES)
    except PlaybookError as error:
        return error.problems or [Problem("p.yaml", 0, 0, "", "refused without a reason")]
    return []


KEYS = (
    *("playbook", "on", "alert", "manual", "inputs", "source", "rule", "when", "steps", "use"),
    *("with", "needs", "if", "type", "for_each", "retry", "attempts", "approve", "by", "within"),
    *(
        "tests",
        "expect",
        "starts",
        "vars",
        "limits",
        "pods",
        "finally",
        "incident",
        "key",
        "window",
    ),
    *("default", "a"),
)
TREES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.sampled_from(["x", "4h", "${{ target.pod }}"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


def _good() -> Any:
    report = Report("p.yaml", GOOD)
    root = read_tree(GOOD, report)
    assert root is not None
    return root.plain()


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value below the root."""
    steps = data.items() if isinstance(data, dict) else enumerate(data)
    found = []
    for key, value in steps:
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += _places(value, (*path, key))
    return found


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.tuples(st.sampled_from(_places(_good())), TREES), max_size=3))
def test_any_value_at_any_place_gives_a_playbook_or_playbook_errors(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    """Right keys with wrong values reach deeper into the checks than broken text does."""
    data = _good()
    for path, tree in changes:
        place = data
        for key in path[:-1]:
            place = place[key] if _holds(place, key) else {}
        if isinstance(place, dict) or _holds(place, path[-1]):
            place[path[-1]] = tree
    assert all(problem.line >= 1 for problem in problems_of(json.dumps(data)))


def _holds(place: Any, key: Any) -> bool:
    if isinstance(place, dict):
        return key in place
    return isinstance(place, list) and isinstance(key, int) and key < len(place)
