"""Random expressions mean here what they mean in Google's implementation of CEL.

Each is accepted or refused by both, and both give the same value or both give none.
"""

from __future__ import annotations

import datetime as dt
import math
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cel_expr_python import cel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from responder.playbook import values
from responder.playbook.expressions import ExpressionError, Fault, compile_expression

_CEL = cel.Type
ORACLE = cel.NewEnv(
    variables={
        "i": _CEL.INT,
        "j": _CEL.INT,
        "d": _CEL.DOUBLE,
        "s": _CEL.STRING,
        "r": _CEL.STRING,
        "b": _CEL.BOOL,
        "m": _CEL.Map(_CEL.STRING, _CEL.DYN),
        "n": _CEL.Map(_CEL.STRING, _CEL.STRING),
        "l": _CEL.List(_CEL.INT),
        "w": _CEL.List(_CEL.STRING),
        "x": _CEL.DYN,
        "t": _CEL.TIMESTAMP,
        "u": _CEL.DURATION,
    }
)
TYPES = {
    "i": values.INT,
    "j": values.INT,
    "d": values.DOUBLE,
    "s": values.STRING,
    "r": values.STRING,
    "b": values.BOOL,
    "m": values.map_of(values.DYN),
    "n": values.map_of(values.STRING),
    "l": values.list_of(values.INT),
    "w": values.list_of(values.STRING),
    "x": values.DYN,
    "t": values.TIMESTAMP,
    "u": values.DURATION,
}
NOTHING = object()

# For each type the ways to write one: "«int»" stands for any expression of that type.
# Left out, where the oracle leaves the specification: int() of a bool and duration() of an int.
WAYS = r"""
bool: x == 1 ¦ x == true ¦ x != 1.0 ¦ m.a == x ¦ [x] == [1] ¦ x in l ¦ x in [x, 0] ¦ x < 2.5 ¦
  true ¦ false ¦ b ¦ m.yes ¦ x ¦ [] == («ints») ¦ [] + [«any»] == [] ¦ «bool» && «bool» ¦
  «bool» || «bool» ¦ «bool» && «bool» && «bool» ¦ !(«bool») ¦ !b ¦
  («bool») ? («bool») : («bool») ¦ («any») == («any») ¦ («any») != («any») ¦
  («int») == («int») ¦ («int») < («int») ¦ («int») >= («int») ¦ («str») < («str») ¦
  («double») > («double») ¦ («str») == («str») ¦ («bool») <= («bool») ¦ («any») < («any») ¦
  («int») in («ints») ¦ («str») in («strs») ¦ («any») in («any») ¦ («str») in m ¦
  («str») in n ¦ has(m.a) ¦ has(n.k) ¦ has(m.a.b) ¦ has(x.a) ¦ («str»).startsWith(«str») ¦
  («str»).endsWith(«str») ¦ («str»).contains(«str») ¦ («str»).matches('^[a-c]+$') ¦
  matches(«str», 'b|é') ¦ («any»).startsWith(«str») ¦ («ints»).exists(e, «elem») ¦
  («ints»).all(e, «elem») ¦ («strs»).exists(k, k == «str») ¦ m.exists(k, k == «str») ¦
  x.all(e, e == «int») ¦ («span») < («span») ¦ («moment») < («moment») ¦
  («moment») == («moment») ¦ («span») == («span»)
elem: e > 1 ¦ 5 / e > 1 ¦ e == «int» ¦ e in («ints») ¦ b ¦ l.exists(f, f == e) ¦ e
int: i / j ¦ i % j ¦ -7 / 2 ¦ -7 % 2 ¦ 7 % -2 ¦ i + j ¦ i * j ¦ -9223372036854775808 / -1 ¦
  0 ¦ 1 ¦ -3 ¦ 7 ¦ 0x1F ¦ 9223372036854775807 ¦ -9223372036854775808 ¦ i ¦ j ¦ m.a ¦ l[0] ¦
  l[i] ¦ m.deep.a ¦ m['a'] ¦ x ¦ size(«str») ¦ w.size() ¦ («int») + («int») ¦
  («int») - («int») ¦ («int») * («int») ¦ («int») / («int») ¦ («int») % («int») ¦ -(«int») ¦
  («bool») ? («int») : («int») ¦ int(d) ¦ int(-1.9) ¦ int(s) ¦ int('12') ¦ size(«ints») ¦
  size(m) ¦ («any») + («int») ¦ («any»).size() ¦ int(t) ¦ («int») + «int» * «int»
double: 0.0 ¦ 1.5 ¦ -2.25 ¦ 1e3 ¦ .5 ¦ d ¦ m.d ¦ double(«int») ¦ double(«str») ¦
  («double») + («double») ¦ («double») * («double») ¦ («double») / («double») ¦ -(«double») ¦
  («double») - («any»)
str: '' ¦ "a" ¦ 'b c' ¦ 'é' ¦ "x\ty" ¦ r"\d" ¦ '\u00e9' ¦ s ¦ r ¦ m.s ¦ n.k ¦ x ¦ w[0] ¦
  («str») + («str») ¦ string(«int») ¦ string(«bool») ¦ string(«str») ¦
  («bool») ? («str») : («str») ¦ n['k'] ¦ string(«span») ¦ string(d) ¦ string(1234567.5) ¦
  string(«moment») ¦ '12'
ints: [1, 2] ¦ l ¦ [«int»] ¦ («ints») + («ints») ¦ («ints»).filter(e, «elem») ¦
  («ints»).map(e, e + «int») ¦ [«int», «int», 3] ¦ m.l ¦ l.map(e, l.filter(f, f > e)[0])
strs: w ¦ ['a', «str»] ¦ («strs»).map(k, k + 'x') ¦ w + w ¦ [«str»]
span: u ¦ duration('90s') ¦ duration('1h30m') ¦ duration('-2.5s') ¦ duration('0') ¦
  («span») + («span») ¦ («moment») - («moment») ¦ duration('1d') ¦ duration(s)
moment: t ¦ timestamp('2026-01-31T12:00:00Z') ¦ timestamp('2026-01-31T12:00:00.25+02:00') ¦
  («moment») + («span») ¦ («moment») - («span») ¦ timestamp('yesterday')
any: «int» ¦ «str» ¦ «bool» ¦ «double» ¦ «ints» ¦ «strs» ¦ «span» ¦ «moment» ¦ x ¦ m ¦ n ¦
  m.zz ¦ m.deep ¦ null ¦ {'a': «any»} ¦ [«any», «any»] ¦ x.a ¦ x[0] ¦ {'a': «int»}.a ¦ s.nope ¦
  nope ¦ nope(«int») ¦ m.deep == «any»
"""
GRAMMAR: dict[str, tuple[str, ...]] = {
    name: tuple(way.strip() for way in ways.split("¦"))
    for name, _, ways in (line.partition(": ") for line in re.split(r"\n(?=\S)", WAYS.strip()))
}
KINDS = sorted(set(GRAMMAR) - {"elem"})
DEPTH = 4


Pick = Callable[[Sequence[Any]], Any]


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """Text of one random expression; now and then a part is of the wrong type."""
    return written(lambda options: draw(st.sampled_from(options)), DEPTH)


def written(pick: Pick, depth: int, kind: str = "") -> str:
    """An expression of this kind (without one: of any), each choice made by `pick`."""
    options = GRAMMAR[kind or pick(KINDS)]
    if depth <= 0:
        options = tuple(one for one in options if "«" not in one) or ("x",)
    first, *parts = pick(options).split("«")
    text = first
    for part in parts:
        hole, _, rest = part.partition("»")
        text += written(pick, depth - 1, "any" if pick(range(25)) == 0 else hole) + rest
    return str(text)


NUMBERS = st.one_of(st.integers(-3, 5), st.integers(-(2**63), 2**63 - 1))
TEXTS = st.sampled_from(["", "a", "b", "abc", "é", "12", "k", " 7", "1.5", "true", "\\d"])
FLOATS = st.sampled_from([0.0, -0.0, 1.0, 1.5, -2.25, 1e300, 3.0])
ANYTHING = st.recursive(
    st.one_of(NUMBERS, TEXTS, FLOATS, st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abk"), inner, max_size=3)
    ),
    max_leaves=4,
)
MOMENT = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
DATA = st.fixed_dictionaries(
    {},
    optional={
        "i": NUMBERS,
        "j": st.integers(-1, 3),
        "d": FLOATS,
        "s": TEXTS,
        "r": TEXTS,
        "b": st.booleans(),
        "m": st.dictionaries(st.sampled_from(["a", "s", "d", "l", "yes", "deep"]), ANYTHING),
        "n": st.dictionaries(st.sampled_from(["k", "a"]), TEXTS),
        "l": st.lists(NUMBERS, max_size=4),
        "w": st.lists(TEXTS, max_size=4),
        "x": ANYTHING,
        "t": st.sampled_from([MOMENT, MOMENT + dt.timedelta(microseconds=250_000)]),
        "u": st.sampled_from([dt.timedelta(0), dt.timedelta(hours=1), dt.timedelta(seconds=-90)]),
    },
)


def ours(text: str, data: dict[str, Any]) -> tuple[bool, Any] | None:
    """Whether our language accepts it, and the value or NOTHING; None: stricter on purpose."""
    try:
        expression = compile_expression(text, TYPES)
    except ExpressionError as error:
        return None if error.code == "PB036" else (False, NOTHING)
    try:
        return True, expression.run(data)
    except Fault:
        return True, NOTHING


def theirs(text: str, data: dict[str, Any]) -> tuple[bool, Any]:
    """The same by the oracle. It refuses some constants only when they are run."""
    try:
        expression = ORACLE.compile(text)
    except RuntimeError:
        return False, NOTHING
    try:
        value = expression.eval(data=data)
    except RuntimeError:
        return True, NOTHING
    return True, NOTHING if value.type() == _CEL.ERROR else value.plain_value()


def same(one: Any, other: Any) -> bool:
    """Equal in type and value, all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list) and all(isinstance(item, str) for item in one):
        return sorted(one) == sorted(other)  # the keys of a map have no order
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(text=expressions(), data=DATA)
def test_random_expressions_mean_what_they_mean_in_google_cel(
    text: str, data: dict[str, Any]
) -> None:
    """Same accept or reject, same value or none; a failure is shown in its smallest form."""
    agree(text, data)


def agree(text: str, data: dict[str, Any]) -> bool:
    """Fail where the two differ; False where the constants rule makes us stricter."""
    mine, expected = ours(text, data), theirs(text, data)
    if mine is None:  # refused for a constant: see the last test
        return False
    (accepted, value), (wanted_accepted, wanted) = mine, expected
    assert accepted == wanted_accepted, (text, data)
    assert (value is NOTHING) == (wanted is NOTHING), (text, data, value, wanted)
    assert value is NOTHING or same(value, wanted), (text, data, value, wanted)
    return True


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_thousands_more_expressions_agree(seed: int) -> None:
    """Plain chance is faster than a search: 5,000 for each seed, most with a value."""
    rng = random.Random(seed)
    compared = valued = 0
    for _ in range(5000):
        text, data = written(rng.choice, rng.randint(1, 3)), any_data(rng)
        compared += agree(text, data)
        valued += theirs(text, data)[1] is not NOTHING
    assert compared > 4000
    assert valued > 2000


def any_data(rng: random.Random) -> dict[str, Any]:
    """A value for most names."""
    number = [-3, -1, 0, 1, 2, 3, 5, -(2**63), 2**63 - 1, rng.randint(-(2**63), 2**63 - 1)]
    words = ["", "a", "b", "abc", "é", "12", "k", " 7", "1.5", "true", "\\d"]
    doubles = [0.0, -0.0, 1.0, 1.5, -2.25, 1e300, 3.0]
    simple = [*number, *words, *doubles, True, False, None]

    def anything() -> Any:
        shape = rng.choice(["simple", "simple", "list", "map"])
        if shape == "list":
            return rng.choices(simple, k=rng.randint(0, 3))
        return {key: rng.choice(simple) for key in "ab"} if shape == "map" else rng.choice(simple)

    full = {
        "i": rng.choice(number),
        "j": rng.randint(-1, 3),
        "d": rng.choice(doubles),
        "s": rng.choice(words),
        "r": rng.choice(words),
        "b": rng.random() < 0.5,
        "m": {key: anything() for key in ("a", "s", "d", "l", "yes", "deep") if rng.random() < 0.6},
        "n": {key: rng.choice(words) for key in "ka" if rng.random() < 0.6},
        "l": rng.choices(number, k=rng.randint(0, 4)),
        "w": rng.choices(words, k=rng.randint(0, 4)),
        "x": anything(),
        "t": MOMENT,
        "u": dt.timedelta(hours=rng.randint(-2, 2)),
    }
    return {name: value for name, value in full.items() if rng.random() < 0.9}


def test_a_constant_that_can_never_be_read_is_refused_at_load() -> None:
    """Where CEL fails when it runs, at three at night, this language refuses when it loads."""
    for text in ("duration('1d') > u", "timestamp('yesterday') > t", "s.matches('(')"):
        assert theirs(text, {"s": "", "u": dt.timedelta(0), "t": MOMENT}) == (True, NOTHING)
        with pytest.raises(ExpressionError) as caught:
            compile_expression(text, TYPES)
        assert caught.value.code == "PB036"
