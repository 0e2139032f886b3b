"""What the commands print, to the letter: data on stdout, talk on stderr."""

from __future__ import annotations

import json

import pytest

from responder.cli._output import yaml
from responder.cli._story import summary
from tests.adapters.cli.conftest import Run
from tests.adapters.web.fakes import PLAN, RUN, FakeService, entry_of

LIST = """\
#   SEVERITY  STATUS  TARGET          ALERTS  OPENED                    TITLE
42  high      open    shop/cart-7f9c  7       2026-01-31T12:04:01.000Z  Terminal shell in container
"""

SHOW = f"""\
#42  HIGH  Terminal shell in container  OPEN
opened 2026-01-31T12:04:01.000Z  alerts 7  target shop/cart-7f9c

{RUN}  contain-and-rebuild  approve  waiting-approval
  succeeded         evidence       isolate pod shop/cart-7f9c  proven
  waiting-approval  isolate        isolate pod shop/cart-7f9c
                      waits for approver until 2026-01-31T12:19:01.000Z, then: stop
                      responder approve 42 isolate --plan {PLAN}
"""


def test_the_list_is_a_table(run: Run) -> None:
    """Columns are aligned, headings in capitals."""
    result = run("incident", "list")
    assert (result.exit_code, result.stdout) == (0, LIST)


def test_an_incident_is_a_page_with_the_next_command(run: Run) -> None:
    """Who is waited for, until when, what then, and the line that answers."""
    for reference in ("42", "#42", "@latest"):
        result = run("incident", "show", reference)
        assert (result.exit_code, result.stdout) == (0, SHOW)


def test_json_is_what_the_api_said(run: Run, service: FakeService) -> None:
    """Nothing is added or left out, whatever the characters."""
    service.incident_row["title"] = "\x1b[31m\u202e\U0001f600"
    result = run("incident", "show", "42", "-o", "json")
    assert json.loads(result.stdout) == service.incident_row
    assert result.stdout.isascii()
    assert "\x1b" not in result.stdout


def test_names_are_one_a_line(run: Run) -> None:
    """For loops in shells."""
    assert run("incident", "list", "-o", "name").stdout == "42\n"


def test_yaml_reads_back_as_what_it_was() -> None:
    """A reader of the old or the new YAML sees the same value."""
    import yaml as reader

    value = {
        "a": [1, {"b": [], "c": {}}, [2, ["x"]]],
        "on": "yes: no # \u202e \n- x",
        "odd key": {"n": None, "t": True, "f": 1.5},
        "list": [{"k": "v", "l": [1]}],
    }
    assert reader.safe_load("\n".join(yaml(value))) == value


@pytest.mark.parametrize("command", ["show", "watch", "tail"])
def test_hostile_text_does_not_reach_the_terminal(
    command: str, run: Run, service: FakeService
) -> None:
    """Colours, line breaks and direction marks of an alert are shown, not obeyed."""
    evil = "x\x1b]0;owned\x07\x1b[2J\r\n\u202eabc\u2028\x00"
    service.incident_row["title"] = evil
    service.incident_row["runs"][0]["steps"][0]["residual"] = [evil]
    service.entries = [entry_of(1, evil)]
    result = run("incident", command, "42")
    assert result.exit_code == 0
    assert not set(result.output) & set("\x1b\x07\x00\u202e\u2028\r")
    assert "\\x1b" in result.output


def test_the_story_is_told_line_by_line(run: Run) -> None:
    """Time, kind, text; the end is talk."""
    result = run("incident", "watch", "42")
    assert result.stdout == (
        "12:04:01Z  alert      first alert\n12:04:01Z  step       pod isolated\n"
    )
    assert "#42 is open" in result.stderr


def test_a_reached_stage_is_named_in_the_story(run: Run, service: FakeService) -> None:
    """Only when it was reached, not while the step is on its way."""
    data = {"event": "step_done", "stage": "contained"}
    planned = {**data, "event": "step_planned"}
    service.entries = [
        {**entry_of(1, "plan", "step"), "data": planned},
        {**entry_of(2, "isolated", "step"), "data": data},
    ]
    assert run("incident", "tail", "42").stdout == (
        "12:04:01Z  step       plan\n12:04:01Z  contained  isolated\n"
    )


def test_tail_shows_the_last_lines(run: Run) -> None:
    """As many as asked for."""
    assert run("incident", "tail", "42", "-n", "1").stdout == "12:04:01Z  step       pod isolated\n"


def test_a_secret_stands_alone_on_stdout(run: Run, service: FakeService) -> None:
    """So that it can be redirected into a file that only its owner reads."""
    result = run("token", "create", "--person", "anna", "--role", "approver", "--days", "7")
    assert result.stdout == "rsp_new\n"
    assert "rsp_new" not in result.stderr
    assert service.calls[-1] == ("token_create", "anna", "approver", 7)


def test_an_explanation_shows_each_value(run: Run, service: FakeService, tmp_path) -> None:
    """The tree of the condition, value by value, absent ones by name."""
    from responder.cli.alert import why_lines

    condition = {
        "text": "a && b",
        "value": False,
        "children": [{"text": "a", "value": True}, {"text": "b", "missing": "alert.fields.b"}],
    }
    trigger = {"line": 7, "fits": False, "reason": "condition is false", "condition": condition}
    why = {"playbook": "p", "starts": False, "reason": "no trigger", "triggers": [trigger]}
    alert = {"source": "falco", "kind": "detection", "rule": "Terminal shell"}
    assert why_lines({"alert": alert, "playbooks": [why]}) == [
        "alert  falco  detection  Terminal shell",
        "stays   p: no trigger",
        "        line 7: condition is false",
        "          a && b  =  false",
        "            a  =  true",
        "            b  =  no value (alert.fields.b)",
    ]


def test_the_end_of_a_story_counts_from_the_first_alert() -> None:
    """Contained and repaired, in seconds."""
    stages = {
        "detected": "2026-01-31T12:00:00.000Z",
        "contained": "2026-01-31T12:00:01.250Z",
        "rolled-out": "2026-01-31T12:00:15.000Z",
    }
    incident = {"stages": stages, "opened": stages["detected"], "status": "resolved"}
    assert summary(incident) == "contained in 1.2 s, repaired in 15.0 s"


def test_evidence_is_exported_with_its_sums(run: Run, service: FakeService, tmp_path) -> None:
    """Every byte compared; a file that was touched, moved out or linked is named afterwards."""
    import hashlib

    sha = hashlib.sha256(b"{}\n").hexdigest()
    row = {"name": "../../etc/passwd", "sha256": sha, "size": 3, "origin": {}}

    async def evidence(who: object, number: int) -> dict[str, object]:
        return {"items": [row]}

    async def evidence_bytes(who: object, number: int, sha256: str) -> bytes:
        return b"{}\n"

    service.evidence, service.evidence_bytes = evidence, evidence_bytes  # type: ignore[method-assign]
    folder = tmp_path / "out"
    assert run("evidence", "export", "42", str(folder)).exit_code == 0
    names = sorted(path.name for path in folder.iterdir())
    assert names[1:] == ["SHA256SUMS", "manifest.json"]
    assert names[0].startswith("0001-etc-passwd")
    assert run("evidence", "verify", str(folder)).exit_code == 0
    assert run("evidence", "export", "42", str(folder)).exit_code == 2
    (folder / names[0]).write_bytes(b"{ }\n")
    result = run("evidence", "verify", str(folder))
    assert (result.exit_code, result.stdout) == (1, "FAIL  ../../etc/passwd\n")
