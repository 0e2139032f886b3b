"""Every kind of mistake in a playbook is found where it is, with the likely fix.

Each row plants one mistake into a good playbook: the text to replace, what to put there, and the
problem that must come of it. "^" in the replacement marks where the problem must point.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import responder.playbook
from responder.errors import PlaybookError
from responder.playbook.codes import CODES
from responder.playbook.loading import load_folder, load_text
from tests.core.playbook.catalogue import CATALOGUE, SOURCES

GOOD = """\
playbook: contain-and-rebuild
description: Isolate one pod and rebuild its image.
on:
  - alert:
      source: [falco]
      rule: ["Terminal shell in container", "Drop and execute*"]
      when: alert.severity >= severity.medium && alert.target.pod != ""
  - manual:
      inputs:
        pod: {type: kubernetes.pod, required: true}
        note: {type: string, default: none}
incident: {key: [cluster, namespace, workload], window: 30m}
mode: approve
limits: {runs_per_hour: 20, pods: 10, ready_share: 0.34}
vars:
  team: shop
steps:
  snapshot:
    use: kubernetes.snapshot
    with: {pod: "${{ target.pod }}"}
    timeout: 30s
    on_error: continue
  isolate:
    use: kubernetes.quarantine_pod
    needs: [snapshot]
    if: alert.target.namespace != vars.team
    with: {pod: "${{ target.pod }}", expires: 4h}
  rebuild:
    use: pipeline.run
    needs: [isolate]
    with: {image: "${{ target.image }}", count: 2}
    retry: {attempts: 3, backoff: 30s}
    timeout: 45m
  mark:
    use: chat.post
    needs: [isolate]
    for_each: alert.tags
    with: {text: "tag ${{ item }}"}
  redeploy:
    use: kubernetes.redeploy
    needs: [rebuild]
    with: {workload: "${{ target.workload }}", image: "${{ steps.rebuild.image }}"}
    approve: {by: approver, within: 30m, otherwise: stop}
finally:
  - use: chat.post
    with: {text: "incident ${{ incident.number }}: ${{ run.outcome }}"}
tests:
  - alert: {source: falco, rule: Terminal shell in container, pod: shop/web-1}
    expect: {starts: true, waits_at: redeploy}
"""

WHEN = 'when: alert.severity >= severity.medium && alert.target.pod != ""'
COVERED = """\
  - alert: {source: falco, rule: A*}
  - alert: ^{source: falco, rule: [Abc, Abd*], when: vars.team == "x"}
  - manual:"""
UNDO = "finally:\n  - use: undo\n    with: {step: "
ISOLATE = "  isolate:\n    use: kubernetes.quarantine_pod\n    needs: [snapshot]"
CIRCLE = "  ^isolate:\n    use: kubernetes.quarantine_pod\n    needs: [snapshot, rebuild]"

# old text, new text with "^" before the place of the problem, code, part of message, part of fix
MISTAKES: tuple[tuple[str, str, str, str, str], ...] = (
    ("timeout: 30s", "^timout: 30s", "PB010", 'unknown key "timout"', 'did you mean "timeout"?'),
    ("mode: approve", "^mod: approve", "PB010", 'unknown key "mod"', 'did you mean "mode"?'),
    ("{starts: true", "{^start: true", "PB010", 'unknown key "start"', 'did you mean "starts"?'),
    ("window: 30m", "^windw: 30m", "PB010", 'unknown key "windw"', 'did you mean "window"?'),
    ("attempts: 3", "^atempts: 3", "PB010", 'unknown key "atempts"', '"attempts"?'),
    ("  - use: chat.post", "  - use: chat.post\n    ^needs: []", "PB010", "needs", ""),
    ("{source: falco, rule: Term", "^{rule: Term", "PB011", '"source" is missing', 'add "source:"'),
    ("    use: pipeline.run\n    needs", "    ^needs", "PB011", '"use" is missing', 'add "use:"'),
    ("vars:\n  team: shop", "vars: ^[team]", "PB012", "expected a map, got a list", ""),
    ("waits_at: redeploy", "waits_at: ^7", "PB012", "expected text, got a number", "quotes"),
    ("starts: true", "starts: ^yes", "PB012", "expected true or false", "write true"),
    ("window: 30m", "window: 30m, again: ^no", "PB012", "again is true or false", ""),
    ("  mark:", "  ^mark-it:", "PB013", '"mark-it" is no name', 'write "mark_it"'),
    ("contain-and", "^Contain_and", "PB013", "is no name", 'write "contain-and-rebuild"'),
    ("  mark:", "  ^finally_1:", "PB013", "could be mistaken", "another name"),
    ("team: shop", 'team: shop\n  pod: ^"${{ target.pod }}"', "PB012", "no expression", "use"),
    ("mode: approve", "mode: ^aprove", "PB014", '"aprove" is not known', 'did you mean "approve"?'),
    ("by: approver", "by: ^viewer", "PB014", '"viewer"', "one of: responder, approver, admin"),
    ("on_error: continue", "on_error: ^ignore", "PB014", '"ignore"', "stop, continue, undo"),
    ("otherwise: stop", "otherwise: ^go", "PB014", '"go"', "one of: stop, continue"),
    ("[cluster, name", "[^clustr, name", "PB014", '"clustr"', 'did you mean "cluster"?'),
    ("type: string", "type: ^text", "PB014", '"text"', "one of: string, int"),
    ("timeout: 45m", "timeout: ^45 minutes", "PB015", "expected a duration", "write 45m"),
    ("timeout: 45m", "timeout: ^45", "PB015", "expected a duration", "write 45s"),
    ("expires: 4h", "expires: ^soon", "PB015", 'got "soon"', "write 30s, 45m or 4h"),
    ("ready_share: 0.34", "ready_share: ^34", "PB016", "34 is out of range", "0 to 1"),
    ("attempts: 3", "attempts: ^0", "PB016", "0 is out of range", "1 to 100"),
    ("pods: 10", "pods: ^99999999999999999999", "PB016", "64 bits", "quotes"),
    ('"Drop and execute*"', '^""', "PB017", "rule: the text is empty", ""),
    ("source: [falco]", "source: ^[]", "PB017", "source: the list is empty", "at least one"),
    ("[falco]", "[falco, ^falco]", "PB018", '"falco" is named twice', "remove one"),
    ("source: [falco]", "source: [^falko]", "PB020", 'unknown source "falko"', '"falco"?'),
    ('"Drop and execute*"', '^"Drop*execute"', "PB021", "only at the end", "contains"),
    ("  - manual:", COVERED, "PB022", "never reached: the one in line 8", "remove one"),
    (WHEN, "when: ^1 == 2", "PB022", "never true", ""),
    ('alert.target.pod != ""', "^x", "PB031", 'unknown name "x"', ""),
    ("severity.medium", "^severty.medium", "PB031", 'unknown name "severty"', '"severity"?'),
    ("severity.medium", "severity.^meduim", "PB031", 'no field "meduim"', '"medium"?'),
    ("{{ target.image", "{{ target.^imag", "PB031", 'no field "imag"', 'did you mean "image"?'),
    ("vars.team", "vars.^teem", "PB031", 'no field "teem"', 'did you mean "team"?'),
    ("rebuild.image", "rebuild.^imgae", "PB031", 'no field "imgae"', 'did you mean "image"?'),
    ("severity.medium &&", "severity.medium ^and", "PB030", 'got "and"', 'write "&&"'),
    ("severity.medium &&", "severity.medium && ^&&", "PB030", "expected a value", ""),
    ("${{ run.outcome }}", "^${{ run.outcome }", "PB030", '"${{" has no end', "}}"),
    (">= severity.medium", '^>= "medium"', "PB032", "int and string", "write severity.high"),
    ("!= vars.team", "^!= 1", "PB032", '"!=" cannot take string and int', "string()"),
    ("needs: [rebuild]", "needs: [rebuild]\n    if: ^alert", "PB033", "got alert", "compare"),
    ("finally:", UNDO + "^rebuild}", "PB044", "undone", "remove"),
    ("finally:", UNDO + "^isolat}", "PB052", "isolat", "isolate"),
    (ISOLATE, CIRCLE, "PB051", "isolate → rebuild → isolate", 'from "needs" of "isolate"'),
    ("alert.target.namespace != vars.team", "^alert.severity", "PB033", "got int", "compare"),
    ("for_each: alert.tags", "for_each: alert.tags\n    at_once: ^0", "PB016", "at_once", ""),
    ("needs: [rebuild]", "needs: [rebuild]\n    at_once: ^2", "PB011", "for_each is", "add"),
    ("for_each: alert.tags", "for_each: ^alert.rule", "PB033", "expected a list, got string", ""),
    ('alert.target.pod != ""', 'alert.rule.^startWith("x")', "PB034", "startWith", '"startsWith"?'),
    ('alert.target.pod != ""', 'alert.rule.matches(^"(")', "PB036", "invalid pattern", ""),
    ("use: pipeline.run", "use: ^pipeline.rn", "PB040", "pipeline.rn", '"pipeline.run"?'),
    ("expires: 4h", "^expire: 4h", "PB041", 'no parameter "expire"', 'did you mean "expires"?'),
    ("count: 2", "count: ^two", "PB043", "expected int, got text", ""),
    ("count: 2", 'count: ^"${{ target.image }}"', "PB043", "expected int, got string", ""),
    ('{image: "${{ target.image }}", count', "^{count", "PB042", '"image"', "add"),
    ("needs: [snapshot]", "needs: [^snapsht]", "PB050", 'no step "snapsht"', '"snapshot"?'),
    ("steps.rebuild.image", "steps.^mark.status", "PB052", '"mark" is no step', 'add "mark"'),
    ("needs: [rebuild]", "needs: [rebuild, ^redeploy]", "PB053", "needs itself", "remove"),
    ("waits_at: redeploy", "waits_at: ^deploy", "PB070", 'no step "deploy"', '"redeploy"?'),
    ("{starts: true, w", "^{starts: false, w", "PB071", "neither waits nor ends", "remove"),
    ("mode: approve", "mode: approve\n^mode: approve", "PB003", "stands here twice", "line 13"),
    ("[falco]", "^&x [falco]", "PB004", "anchors are refused", "remove &x"),
    ("mode: approve", "mode: ^!!str approve", "PB004", "tags are refused", "!"),
    ("mode: approve", "mode: ^*x", "PB004", "aliases are refused", "write the value out"),
    ("  team: shop", "  team: shop\n  ^7: x", "PB006", "a key must be text", "quotes"),
    ("tests:", "---\ntests:", "PB005", "one file holds one playbook", "its own file"),
    ("mode: approve", "mode:\tapprove^: x", "PB001", "this is not YAML", ""),
)  # fmt: skip


def problems_of(text: str) -> list[tuple[int, int, str, str, str]]:
    """Every problem of a playbook: line, column, code, message, fix."""
    try:
        load_text(text, "p.yaml", CATALOGUE, SOURCES)
    except PlaybookError as error:
        return [(one.line, one.column, one.code, one.message, one.fix) for one in error.problems]
    return []


def planted(old: str, new: str) -> tuple[str, int, int]:
    """The good playbook with one mistake in it, and where the mistake is."""
    assert GOOD.count(old) >= 1, old
    text = GOOD.replace(old, new, 1)
    at = text.index("^") if "^" in new else text.index(new)
    before = text[:at]
    return text.replace("^", "", 1), before.count("\n") + 1, at - before.rfind("\n")


def test_the_playbook_without_a_mistake_is_accepted() -> None:
    """The rows below each change one thing only."""
    assert problems_of(GOOD) == []


@pytest.mark.parametrize(("old", "new", "code", "message", "fix"), MISTAKES)
def test_a_mistake_is_found_at_its_place_with_its_fix(
    old: str, new: str, code: str, message: str, fix: str
) -> None:
    """One mistake, one problem: code, line, column, words and fix."""
    text, line, column = planted(old, new)
    (found,) = problems_of(text)
    assert found[:3] == (line, column, code), found
    assert message in found[3]
    assert fix in found[4]


def test_all_mistakes_of_a_file_are_reported_at_once() -> None:
    """An author mends a file in one go."""
    text = GOOD
    for old, new in (("timeout: 30s", "timout: 30s"), ("[snapshot]", "[snap]"), ("4h}", "soon}")):
        text = text.replace(old, new, 1)
    assert [code for _, _, code, _, _ in problems_of(text)] == ["PB010", "PB050", "PB015"]


def test_a_file_too_large_too_deep_or_empty_is_refused_quickly() -> None:
    """Size and depth are capped before anything walks the tree."""
    assert problems_of("#" * (256 * 1024 + 1))[0][2] == "PB002"
    assert problems_of("a: " + "[" * 60 + "]" * 60)[0][2] == "PB002"
    assert problems_of("a: " + "[" * 100_000)[0][2] in {"PB001", "PB002"}  # whoever stops first
    assert problems_of("# nothing\n")[0][2] == "PB005"
    assert problems_of("\ud800")[0][2] == "PB001"
    assert problems_of("just words")[0][2] == "PB012"


def test_an_expression_too_deep_or_too_long_is_refused() -> None:
    """Neither meets Python's own limit of recursion."""
    for condition in ("(" * 40 + "true" + ")" * 40, "!" * 50 + "true", "1" + "+1" * 2040):
        text = GOOD.replace(WHEN, f'when: "{condition}"')
        assert [code for _, _, code, _, _ in problems_of(text)] == ["PB035"]
    assert problems_of(GOOD.replace(WHEN, f"when: {'x' * 5000}"))[0][2] == "PB035"


def test_more_steps_than_a_person_reviews_are_refused() -> None:
    """The order of steps is looked for in a square of their number."""
    steps = "".join(f"  s{n}: {{use: chat.post, with: {{text: x}}}}\n" for n in range(201))
    text = f"playbook: a\non: [{{manual: }}]\nsteps:\n{steps}"
    assert [found[:3] for found in problems_of(text)] == [(4, 3, "PB016")]


@pytest.mark.parametrize("before", ["é", "💥", "\U0001d4b3 e\u0301", "\t", "日本"])
def test_columns_count_characters_whatever_stands_before(before: str) -> None:
    """Not bytes and not UTF-16 units: what an editor in Unicode mode shows."""
    text, line, column = planted(
        'with: {image: "${{ target.image }}"',
        'with: {options: {note: "#"}, image: "${{ target.^imag }}"'.replace("#", before),
    )
    ((found),) = problems_of(text)
    assert found[:3] == (line, column, "PB031")


@pytest.mark.parametrize("style", ["|", ">", ">-"])
def test_a_condition_over_several_lines_is_pointed_into(style: str) -> None:
    """A block keeps the place where it can be found, and its beginning where not."""
    text, line, column = planted(
        WHEN, f"when: {style}\n        alert.^severty >= severity.medium\n"
    )
    (found,) = problems_of(text)
    assert found[:3] == (line, column, "PB031")
    folded = f"when: {style}\n        alert.rule != ''\n        && alert.severty > 1\n"
    (found,) = problems_of(GOOD.replace(WHEN, folded))
    assert found[0] in {7, 9}


def test_a_playbook_that_nothing_starts_is_refused() -> None:
    """An empty list of triggers is a playbook that never runs."""
    text = "playbook: a\non: []\nsteps: {b: {use: chat.post, with: {text: hi}}}\n"
    assert [(line, column, code) for line, column, code, _, _ in problems_of(text)] == [
        (2, 5, "PB024")
    ]


def test_a_folder_with_one_bad_file_is_refused_as_a_whole(tmp_path: Path) -> None:
    """All problems of all files are listed, and nothing goes live."""
    (tmp_path / "a.yaml").write_text(GOOD)
    assert [one.name for one in load_folder([tmp_path], CATALOGUE)] == ["contain-and-rebuild"]
    (tmp_path / "b.yaml").write_text(GOOD)
    (tmp_path / "c.yml").write_text(GOOD.replace("mode: approve", "mode: aprove"))
    (tmp_path / "d.yaml").write_bytes(b"\xff")
    with pytest.raises(PlaybookError) as caught:
        load_folder([tmp_path, tmp_path / "e.yaml"], CATALOGUE)
    found = {(Path(one.file).name, one.code) for one in caught.value.problems}
    assert found == {
        ("b.yaml", "PB023"), ("c.yml", "PB014"), ("d.yaml", "PB001"), ("e.yaml", "PB001")
    }  # fmt: skip


def test_every_code_is_explained_and_every_explanation_is_of_a_code() -> None:
    """`playbook explain PBnnn` knows exactly what can be reported."""
    folder = Path(responder.playbook.__file__).parent
    texts = [file.read_text() for file in folder.glob("*.py") if file.name != "codes.py"]
    used = set(re.findall(r'"(PB[0-9]{3})"', "".join(texts)))
    assert used == set(CODES)


def test_the_table_covers_every_code() -> None:
    """A code without a row here would be an untested promise."""
    here = Path(__file__).read_text()
    assert set(CODES) <= set(re.findall(r"PB[0-9]{3}", here))
