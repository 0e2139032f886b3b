"""Bounded JSON and the small readers: what passes, what is absent, and what is refused where."""

from __future__ import annotations

import datetime as dt
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations import _values as values
from integrations._json import BODY_MAX, decode
from responder.errors import BadAlert
from responder.model import Severity

REFUSED: list[tuple[str, bytes, str]] = [
    ("empty", b"", ""),
    ("blank", b"  \n", ""),
    ("text", b"08:14:55 Warning Shell in a container", ""),
    ("two values", b"{}{}", ""),
    ("raw control character", b'{"a":"\x01"}', ""),
    ("lone surrogate", b'{"a":[1,{"b/c":"x\\ud800"}]}', "/a/1/b~1c"),
    ("lone low surrogate", b'{"a":"\\uDC00"}', "/a"),
    ("lone surrogate in a key", b'{"a":{"\\ud800":1}}', "/a"),
    ("lone surrogate at the top", b'"\\ud800"', ""),
    ("NaN", b'{"a":{"n":NaN}}', "/a/n"),
    ("Infinity", b'{"a":[0,-Infinity]}', "/a/1"),
    ("key twice", b'{"a":{"b":1,"b":2}}', "/a"),
    ("key twice by escape", b'{"a":1,"\\u0061":2}', ""),
    ("65 deep", b"[" * 65 + b"]" * 65, "/0" * 64),
    ("65 deep objects", b'{"a":' * 65 + b"1" + b"}" * 65, "/a" * 64),
    ("900 deep", b"[" * 900 + b"]" * 900, "/0" * 64),
    ("100,000 deep", b"[" * 100_000 + b"]" * 100_000, ""),
    ("100,000 deep and open", b'{"a":' * 100_000, ""),
    ("too long", b'"' + b"x" * BODY_MAX + b'"', ""),
]


@pytest.mark.parametrize(
    ("body", "pointer"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_what_would_hurt_later_is_refused_with_its_place(body: bytes, pointer: str) -> None:
    """`BadAlert` and nothing else, with the JSON pointer where there is one."""
    with pytest.raises(BadAlert) as caught:
        decode(body)
    assert caught.value.pointer == pointer
    assert len(str(caught.value)) < 600


KEPT: list[tuple[str, bytes, Any]] = [
    ("byte order mark", b'\xef\xbb\xbf{"a":1}', {"a": 1}),
    ("byte that is no UTF-8", b'{"a":"x\xffy"}', {"a": "x\ufffdy"}),
    ("encoded surrogate bytes", b'{"a":"\xed\xa0\x80"}', {"a": "\ufffd\ufffd\ufffd"}),
    ("surrogate pair", b'{"a":"\\ud83d\\ude00"}', {"a": "😀"}),
    ("escaped backslash", b'{"a":"\\\\ud800"}', {"a": "\\ud800"}),
    ("NUL", b'{"a\\u0000":"b\\u0000"}', {"a\ufffd": "b\ufffd"}),
    ("NUL keys that meet", b'{"a\\u0000":1,"a\\ufffd":2}', {"a\ufffd": 1, "a\ufffd\ufffd": 2}),
    ("greatest 64 bits", b"9223372036854775807", 9223372036854775807),
    ("least 64 bits", b"-9223372036854775808", -9223372036854775808),
    ("beyond 64 bits", b"9223372036854775808", "9223372036854775808"),
    ("5,000 digits", b"9" * 5000, "9" * 5000),
    ("nanoseconds", b'{"t":1790237695120000417}', {"t": 1790237695120000417}),
    ("infinite float", b'{"a":1e999}', {"a": "1e999"}),
    ("64 deep", b"[" * 64 + b"]" * 64, None),
]


@pytest.mark.parametrize(("body", "value"), [row[1:] for row in KEPT], ids=[r[0] for r in KEPT])
def test_what_can_be_made_harmless_is_kept(body: bytes, value: Any) -> None:
    """Nothing authentic is lost for an odd byte or a great number."""
    got = decode(body)
    if value is not None:
        assert got == value
    json.dumps(got, allow_nan=False, ensure_ascii=False).encode()


def test_a_body_of_empty_lists_costs_little_memory() -> None:
    """A megabyte of brackets that nest only two deep stays far below 64 MiB."""
    body = b"[" + b"[]," * 340_000 + b"[]]"
    tracemalloc.start()
    decode(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 48 << 20, peak


T = int(dt.datetime(2026, 9, 24, 8, 14, 55, tzinfo=dt.UTC).timestamp()) * 1_000_000
TIMES: list[tuple[Any, int]] = [
    ("2026-09-24T08:14:55Z", T),
    ("2026-09-24T08:14:55.1Z", T + 100_000),
    ("2026-09-24T08:14:55.12000041Z", T + 120_000),
    ("2026-09-24T08:14:55.123456789Z", T + 123_456),
    ("2026-09-24T08:14:55.999999999Z", T + 999_999),
    ("2026-09-24T10:14:55.5+02:00", T + 500_000),
    ("2026-09-24T08:14:55.120+0000", T + 120_000),
    ("2026-09-24T02:14:55-06:00", T),
    ("2026-09-24 08:14:55 UTC", T),
    ("2026-09-24t08:14:55z", T),
    (T // 1_000_000, T),
    (T // 1000, T),
    (T, T),
    (T * 1000 + 417, T),
    (str(T // 1000), T),
    (T / 1e6, T),
    ({"seconds": T // 1_000_000, "nanos": 5_999}, T + 5),
    ("0001-01-01T00:00:00Z", 0),
    ("1970-01-01T00:00:00Z", 0),
    ("2026-09-24T08:14:55", 0),
    ("2026-09-24T08:14:55Z+2", 0),
    ("2026-13-24T08:14:55Z", 0),
    ("2026-02-30T08:14:55Z", 0),
    ("2026-09-24T08:14:55+99:99", 0),
    ("9999-12-31T23:59:59-23:59", 0),
    ("٢٠٢٦-09-24T08:14:55Z", 0),
    ("9" * 5000, 0),
    ("9" * 60, 0),
    ("", 0),
    (None, 0),
    (True, 0),
    (-5, 0),
    (1e300, 0),
    (float("inf"), 0),
    ([], 0),
    ({}, 0),
    ({"seconds": "1", "nanos": []}, 0),
]


@pytest.mark.parametrize(("value", "expected"), TIMES, ids=[repr(t[0])[:70] for t in TIMES])
def test_a_time_is_read_whole_or_not_at_all(value: Any, expected: int) -> None:
    """Every usual form gives the same microsecond; unset and broken ones give 0."""
    assert values.micros(value) == expected


@given(st.integers(min_value=1, max_value=253_402_300_799_999_999), st.integers(0, 999))
def test_a_nine_digit_time_keeps_its_microsecond(moment: int, nanos: int) -> None:
    """No float on the way: the microsecond that goes in comes out, whatever follows it."""
    seconds, rest = divmod(moment, 1_000_000)
    day = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=seconds)  # noqa: DTZ001
    assert values.micros(f"{day.isoformat()}.{rest:06d}{nanos:03d}Z") == moment


@pytest.mark.parametrize("value", [None, "", "<NA>", "N/A", "null", "$TEAM", "${TEAM}", [], {}])
def test_the_ways_to_write_nothing_are_absent(value: Any) -> None:
    """Markers and unrendered variables say nothing."""
    assert not values.known(value)


@pytest.mark.parametrize("value", ["$(id)", "$5", "x", "zero", 0, False, -1.5, " "])
def test_a_real_value_is_not_taken_for_nothing(value: Any) -> None:
    """Zero, false and text that merely starts with a dollar are said."""
    assert values.known(value)


@pytest.mark.parametrize(
    "value",
    [
        "../x",
        "a/b",
        "-a",
        "a b",
        "a\n",
        "x" * 254,
        "a..b",
        "ä",
        "<NA>",
        "",
        None,
        5,
        ["a"],
        "a%2fb",
    ],
)
def test_a_text_that_no_object_can_be_called_is_no_name(value: Any) -> None:
    """A target never holds what could leave a path, a selector or a line."""
    assert values.name(value) == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3f9a1c0b77de", "3f9a1c0b77de"),
        ("containerd://" + "ab" * 32, "ab" * 32),
        ("docker://3f9a1c0b77de", "3f9a1c0b77de"),
        ("host", ""),
        ("3f9a1c0b77d", ""),
        ("3F9A1C0B77DE", ""),
        ("ab" * 33, ""),
        (None, ""),
        (123456789012, ""),
    ],
)
def test_a_container_id_is_twelve_hex_digits_or_more(value: Any, expected: str) -> None:
    """Without the runtime's prefix; `host` and the rest are absent."""
    assert values.container_id(value) == expected


def test_an_image_is_joined_from_its_parts() -> None:
    """Tag first, digest when there is no tag, nothing from a malformed repository."""
    exact = "sha256:" + "0" * 64
    assert values.image_name("r.example:5000/a/b", "1.2") == "r.example:5000/a/b:1.2"
    assert values.image_name("a", "<NA>", exact) == f"a@{exact}"
    assert values.image_name("a", None, "sha256:short") == "a"
    assert values.image_name("a b", "1") == ""
    assert values.image_name(None, "1") == ""
    assert values.image_name("registry.example/../shop/cart") == ""
    assert values.image_name("registry.example/shop/cart:1.4..x") == ""
    assert values.image_name("registry.example/shop/cart", "1..4") == "registry.example/shop/cart"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Emergency", Severity.CRITICAL),
        ("ALERT", Severity.CRITICAL),
        ("critical", Severity.CRITICAL),
        ("page", Severity.CRITICAL),
        ("Error", Severity.HIGH),
        (" warning ", Severity.MEDIUM),
        ("Notice", Severity.LOW),
        ("Informational", Severity.INFO),
        ("info", Severity.INFO),
        ("Debug", Severity.INFO),
        ("none", Severity.INFO),
        ("exception", Severity.UNKNOWN),
        (3, Severity.UNKNOWN),
        (None, Severity.UNKNOWN),
    ],
)
def test_a_severity_word_is_read_in_any_case(word: Any, expected: Severity) -> None:
    """The one table behind all sources."""
    assert values.severity_of(word) is expected


def test_fingerprints_do_not_mix_neighbouring_parts() -> None:
    """Moving text over the border of two parts gives another fingerprint."""
    assert values.fingerprint_of("ab", "c") != values.fingerprint_of("a", "bc")
    assert values.fingerprint_of("a1:b") != values.fingerprint_of("a", "b")


def test_flat_fields_are_bounded_in_number_and_length() -> None:
    """A wide, deep or long object cannot fill the memory through its paths."""
    assert values.flat({"a": {"b": [1, None, "x"]}, "c": "<NA>"}) == {"a.b.0": 1, "a.b.2": "x"}
    assert len(values.flat({str(n): n for n in range(5000)})) == 1000
    assert values.flat({"k" * 300: 1}) == {}
    assert len(values.flat({"k": "v" * 100_000})["k"]) < 8300


def test_alerts_beyond_the_limit_are_kept_as_one() -> None:
    """A body of very many items becomes 900 alerts and one that holds the rest."""
    made = values.each(
        list(range(1500)),
        lambda item, raw: values.unparsed("s", str(item), raw),
        lambda reason, raw: values.unparsed("s", reason, raw),
    )
    assert len(made) == 901
    assert json.loads(made[-1].raw) == list(range(900, 1500))
    assert "600 more" in made[-1].reason
