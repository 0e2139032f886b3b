"""What is made from a playbook and for its author: schema, drawing, and the shipped examples."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from responder.errors import PlaybookError
from responder.playbook.graph import mermaid
from responder.playbook.loading import load_folder, load_text, read_tree
from responder.playbook.matching import Index
from responder.playbook.nodes import Report
from responder.playbook.schema import json_schema
from responder.playbook.shipped import shipped_folder, shipped_texts
from tests.core.playbook.catalogue import CATALOGUE, SOURCES
from tests.core.playbook.test_mistakes import GOOD, MISTAKES, planted

SHIPPED = {
    "contain-and-rebuild",
    "quarantine-pod",
    "collect-evidence",
    "rebuild-image",
    "roll-out-everywhere",
    "patch-everywhere",
    "bump-base",
    "rebuild-vulnerable-image",
}
VALIDATOR = jsonschema.Draft7Validator(json_schema(CATALOGUE, SOURCES))


def data_of(text: str) -> Any:
    """A playbook's text as an editor's schema checker sees it."""
    report = Report("p.yaml", text)
    root = read_tree(text, report)
    assert root is not None
    return root.plain()


def test_the_schema_is_draft_7_as_the_editors_server_reads_it() -> None:
    """The YAML language server reads draft-07 or older."""
    schema = json_schema(CATALOGUE, SOURCES)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema.Draft7Validator.check_schema(schema)


def test_whatever_loads_fits_the_schema() -> None:
    """The schema is never stricter than the loader."""
    for text in (GOOD, *shipped_texts().values()):
        assert [error.message for error in VALIDATOR.iter_errors(data_of(text))] == []


def test_the_schema_marks_the_mistakes_that_need_no_language() -> None:
    """Of the table of mistakes, all about keys, words and parameters are red in the editor."""
    shown = {"PB010", "PB011", "PB014", "PB040", "PB041", "PB042", "PB020", "PB015"}
    for old, new, code, _, _ in MISTAKES:
        if code in shown and "${{" not in new:
            text, _, _ = planted(old, new)
            assert list(VALIDATOR.iter_errors(data_of(text))), (old, new)


def test_the_drawing_shows_steps_needs_questions_and_the_end() -> None:
    """One box a step, one arrow a need, a diamond where a person is asked."""
    drawn = mermaid(load_text(GOOD, "p.yaml", CATALOGUE)).splitlines()
    assert drawn[0] == "flowchart TD"
    assert '  start(["alert of falco or by hand"])' in drawn
    assert '  s4a{"approver within 30m?"}' in drawn
    assert "  s2 --> s4a" in drawn
    assert "  s4a -->|yes| s4" in drawn
    assert "  s4 -.-> f0" in drawn


def test_no_text_of_a_playbook_can_draw() -> None:
    """Quotes and brackets in a condition stay inside their label."""
    hostile = """if: "vars.team != ']-->x[<b>'\""""
    text = GOOD.replace("if: alert.target.namespace != vars.team", hostile)
    drawn = mermaid(load_text(text, "p.yaml", CATALOGUE))
    assert "']--#gt;x[#lt;b#gt;'" in drawn


def test_the_shipped_playbooks_load_and_are_named_by_what_they_do() -> None:
    """The name of the file is the name of the playbook."""
    playbooks = load_folder([shipped_folder()], CATALOGUE, SOURCES)
    assert {one.name for one in playbooks} == set(shipped_texts()) == SHIPPED
    assert all(one.tests and one.description for one in playbooks)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_the_tests_inside_a_shipped_playbook_hold(name: str) -> None:
    """Each starts for what it says and not for what it says not."""
    playbook = load_text(shipped_texts()[name], name, CATALOGUE, SOURCES)
    for case in playbook.tests:
        assert bool(Index([playbook]).match(case.alert)) is case.starts, case.line


def test_a_shipped_playbook_never_deletes_before_the_fix_runs() -> None:
    """The quarantined pod goes last, and only after the rollout."""
    playbook = load_text(shipped_texts()["contain-and-rebuild"], "x", CATALOGUE, SOURCES)
    assert list(playbook.steps)[-1] == "remove"
    assert playbook.steps["remove"].needs == ("redeploy",)
    assert playbook.steps["snapshot"].on_error == "continue"
    assert playbook.steps["redeploy"].approve is not None


def test_a_catalogue_without_the_actions_refuses_the_shipped_ones() -> None:
    """An action that no integration brings is an error, not a surprise at night."""
    with pytest.raises(PlaybookError, match=r'unknown action "kubernetes\.snapshot"'):
        load_folder([shipped_folder()], {})
