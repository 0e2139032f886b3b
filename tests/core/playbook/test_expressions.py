"""Conditions: what is missing, what is bounded, what is named, and what is refused."""

from __future__ import annotations

import time
from typing import Any

import pytest

from responder.playbook.expressions import ExpressionError, Fault, compile_expression
from responder.playbook.names import run_names, trigger_names
from responder.playbook.templates import Mixed, Template, TemplateError
from responder.playbook.values import DYN, INT, MISSING, STRING, list_of, map_of, object_of

TYPES = {
    **trigger_names({}),
    "m": map_of(DYN),
    "n": INT,
    "s": STRING,
    "l": list_of(INT),
    "o": object_of("o", {"a": INT, "b": object_of("o.b", {"c": STRING})}),
}
ENV: dict[str, Any] = {
    "m": {"a": 1},
    "n": 3,
    "s": "abc",
    "l": [1, 2, 3],
    "o": {"a": 1, "b": {}},
    "severity": {"high": 4},
}


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("m.b == 1", "m.b"),
        ("m.b != 1", "m.b"),
        ("!(m.b == 1)", "m.b"),
        ("m.b.c == 1", "m.b"),
        ('m["b c"] == 1', "m.b c"),
        ("o.b.c == 'x'", "o.b.c"),
        ("alert.rule == 'x'", "alert"),
        ("m.b == 1 && true", "m.b"),
        ("m.b == 1 || false", "m.b"),
        ("[1, 2][5] == 1", "[5]"),
    ],
)
def test_what_is_missing_never_matches_and_is_named(text: str, missing: str) -> None:
    """Absence is neither true nor false; the explanation says what was absent."""
    expression = compile_expression(text, TYPES)
    assert expression.evaluate(ENV) is MISSING
    assert expression.truth(ENV) is False
    assert expression.explain(ENV).missing == missing


@pytest.mark.parametrize("text", ["m.b == 1 || true", "!(m.b == 1 && false)", "has(m.a)"])
def test_one_deciding_part_settles_it_whatever_is_missing(text: str) -> None:
    """CEL's absorbing && and ||."""
    assert compile_expression(text, TYPES).truth(ENV) is True


def test_the_fields_that_an_expression_reads_are_known() -> None:
    """Loop variables are not fields; a key in brackets is."""
    text = 'alert.target.pod != "" && l.exists(x, x > n) && has(m.q) && alert.fields["a.b"] == 1'
    found = compile_expression(text, TYPES).fields
    assert found == {"alert.target.pod", "l", "n", "m.q", "alert.fields.a.b"}


def test_loops_have_a_budget() -> None:
    """Two nested loops over a long list end, and the condition is false."""
    expression = compile_expression("l.all(x, l.all(y, l.all(z, true)))", TYPES)
    begin = time.process_time()
    assert expression.truth({**ENV, "l": list(range(1000))}) is False
    assert time.process_time() - begin < 1.0
    with pytest.raises(Fault, match="10000 loop steps"):
        expression.run({**ENV, "l": list(range(1000))})


def test_a_hostile_pattern_takes_linear_time() -> None:
    """The pattern that keeps Python's own engine busy for hours."""
    expression = compile_expression('s.matches("^(a+)+$")', TYPES)
    begin = time.process_time()
    assert expression.truth({"s": "a" * 100_000 + "!"}) is False
    assert time.process_time() - begin < 1.0


def test_a_lone_surrogate_in_an_alert_is_no_crash() -> None:
    """Text from outside may hold what UTF-8 cannot."""
    for text in ('s.matches("a")', 's + "x" == s', "size(s) == 1", 's.contains("x")'):
        assert compile_expression(text, TYPES).truth({"s": "\ud800"}) in {True, False}


@pytest.mark.parametrize(
    ("text", "code", "offset", "words"),
    [
        ("alert.severty > 1", "PB031", 6, 'did you mean "severity"?'),
        ("alrt.severity > 1", "PB031", 0, 'did you mean "alert"?'),
        ("has(alert.nope)", "PB031", 10, "no field"),
        ('alert.severity == "high"', "PB032", 15, "severity.high"),
        ("n > 1.5", "PB032", 2, "int() or double()"),
        ('s + 1 == "a1"', "PB032", 2, "int() or string()"),
        ('"a" in s', "PB032", 4, "contains"),
        ("n in m", "PB032", 2, '"in" cannot look'),
        ("n && true", "PB032", 0, "expected bool, got int"),
        ('s.startWith("a")', "PB034", 2, 'did you mean "startsWith"?'),
        ("startsWith(s, s)", "PB032", 0, "text.startsWith(text)"),
        ("n = 3", "PB030", 2, 'compare with "=="'),
        ("n not in l", "PB030", 2, "!(x in y)"),
        ("n == 3 and true", "PB030", 7, 'write "&&"'),
        ("${{ n }}", "PB030", 0, "names stand bare"),
        ("'abc", "PB030", 0, "no end"),
        (r"'a\q'", "PB030", 2, "escape"),
        ("99999999999999999999", "PB030", 0, "64 bits"),
        ("has(n)", "PB030", 0, "has() asks for one field"),
        ("l.exists(namespace, true)", "PB030", 9, "variable name"),
        ("", "PB030", 0, "expected a value, got the end"),
        ("n n", "PB030", 2, "expected an operator or the end"),
        ("true ? 1 : 'a'", "PB032", 11, "one type"),
        ("o[s]", "PB032", 2, "by name"),
        ("n.a", "PB032", 2, "has no fields"),
    ],
)
def test_a_refused_expression_says_where_and_what_to_do(
    text: str, code: str, offset: int, words: str
) -> None:
    """Code, offset, and the likely fix."""
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, TYPES)
    error = caught.value
    assert (error.code, error.offset) == (code, offset), error
    assert words in f"{error.message} {error.fix}"


def test_an_explanation_goes_into_the_elements_of_a_list() -> None:
    """For a loop the first elements are shown with what the condition said of each."""
    tree = compile_expression("l.exists(x, x > 2)", TYPES).explain(ENV)
    assert tree.value is True
    assert [(part.text, part.value) for part in tree.children] == [
        ("l", [1, 2, 3]),
        ("x > 2", False),
        ("x > 2", False),
        ("x > 2", True),
    ]


def _template(text: str) -> Template:
    return Template({"text": compile_expression(text, run_names({}, {"n": INT}, {"s": DYN}))})


def test_a_lone_expression_keeps_its_type_and_text_around_it_makes_text() -> None:
    """A number stays a number until it is joined with words."""
    env = {"inputs": {"n": 3}, "steps": {"s": {"files": ["a", "b"]}}}
    assert _template("inputs.n").render(env) == {"text": 3}
    assert _template("steps.s.files").render(env) == {"text": ["a", "b"]}
    part = _template("inputs.n == 3").value["text"]
    listed = _template("steps.s.files").value["text"]
    joined = Template(Mixed(("is ", part, ", ", listed)))
    assert joined.render(env) == 'is true, ["a", "b"]'


def test_times_become_text_when_they_leave_the_language() -> None:
    """What goes to an action is plain JSON."""
    assert _template('timestamp("2026-01-31T12:00:00Z")').render({}) == {
        "text": "2026-01-31T12:00:00.000Z"
    }
    assert _template('duration("90s")').render({}) == {"text": "1m30s"}


def test_a_parameter_without_a_value_fails_by_name() -> None:
    """An action is never called with a hole in its parameters."""
    with pytest.raises(TemplateError, match=r'"text" has no value: steps\.s\.image is missing'):
        _template("steps.s.image").render({"steps": {"s": {}}})
