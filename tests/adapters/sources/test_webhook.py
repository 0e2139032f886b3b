"""Who may post: every scheme against right, wrong, missing, old, doubled and bent credentials."""

from __future__ import annotations

import base64
import hashlib
import hmac
import inspect
from typing import Any

import pytest

from integrations import _secrets, _signatures, _webhook
from integrations._webhook import check_auth, check_body, check_headers, needs_body
from responder.errors import ConfigError, Unauthorized
from responder.model import Secret
from responder.ports import HookInfo
from tests.adapters.sources.parts import NOW, SOURCES, hook_of

BODY = b'{"rule":"x"}'
SECONDS = str(NOW // 1_000_000)


def basic(username: str, password: str) -> str:
    """A basic Authorization header."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def signed(secret: str, data: bytes = BODY, encoding: str = "hex") -> str:
    """A signature as a sender would make it."""
    mac = hmac.new(secret.encode(), data, hashlib.sha256)
    return mac.hexdigest() if encoding == "hex" else base64.b64encode(mac.digest()).decode()


TWO = [Secret("new-Token"), Secret("old-Token")]
BEARER = {"bearer": TWO}
BASIC = {"basic": {"username": "falco", "password": TWO}}
HEADER = {"header": {"name": "X-Token", "value": TWO}}
HMAC = {"hmac": {"header": "X-Sig", "secret": TWO, "prefix": "sha256="}}
HMAC64 = {"hmac": {"header": "X-Sig", "secret": TWO, "encoding": "base64"}}
TIMED = {"hmac": {"header": "X-Sig", "secret": TWO, "timestamp_header": "X-Time"}}


def timed(at: str, secret: str = "new-Token", data: bytes = BODY) -> dict[str, str]:
    """Headers of a sender that signs its time too."""
    return {"x-sig": signed(secret, at.encode() + b":" + data), "x-time": at}


GOOD: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("bearer new", BEARER, {"authorization": "Bearer new-Token"}),
    ("bearer old", BEARER, {"authorization": "Bearer old-Token"}),
    ("bearer scheme in lower case", BEARER, {"authorization": "bearer new-Token"}),
    ("bearer alone", {"bearer": Secret("one")}, {"authorization": "Bearer one"}),
    ("basic new", BASIC, {"authorization": basic("falco", "new-Token")}),
    ("basic old", BASIC, {"authorization": basic("falco", "old-Token")}),
    (
        "basic password with a colon",
        {"basic": {"username": "u", "password": Secret("a:b")}},
        {"authorization": basic("u", "a:b")},
    ),
    ("header new", HEADER, {"x-token": "new-Token"}),
    ("header old", HEADER, {"x-token": "old-Token"}),
    ("hmac new", HMAC, {"x-sig": "sha256=" + signed("new-Token")}),
    ("hmac old", HMAC, {"x-sig": "sha256=" + signed("old-Token")}),
    ("hmac base64", HMAC64, {"x-sig": signed("old-Token", encoding="base64")}),
    ("hmac with time", TIMED, timed(SECONDS)),
    ("hmac 300 s late", TIMED, timed(str(int(SECONDS) - 300))),
    ("hmac 300 s early", TIMED, timed(str(int(SECONDS) + 300))),
    ("none", {"none": True}, {}),
    (
        "two schemes together",
        BEARER | HMAC,
        {"authorization": "Bearer new-Token", "x-sig": "sha256=" + signed("new-Token")},
    ),
]

BAD: list[tuple[str, Any, dict[str, str]]] = [
    ("no auth configured", {}, {"authorization": "Bearer new-Token"}),
    ("none that is not true", {"none": False}, {}),
    ("none as text", {"none": "true"}, {}),
    ("unknown scheme", {"magic": Secret("x")}, {"authorization": "Bearer x"}),
    ("malformed scheme", {"header": "x"}, {"x-token": "x"}),
    ("malformed basic", {"basic": None}, {"authorization": basic("", "")}),
    ("malformed hmac", {"hmac": ["x"]}, {"x-sig": "x"}),
    ("secret as bare text", {"bearer": "plain"}, {"authorization": "Bearer plain"}),
    ("no secrets", {"bearer": []}, {"authorization": "Bearer "}),
    ("empty secret, empty token", {"bearer": Secret("")}, {"authorization": "Bearer "}),
    ("blank secret, blank token", {"bearer": Secret(" ")}, {"authorization": "Bearer  "}),
    ("NUL secret, NUL token", {"bearer": Secret("\0")}, {"authorization": "Bearer \0"}),
    ("bearer missing", BEARER, {}),
    ("bearer empty header", BEARER, {"authorization": ""}),
    ("bearer no token", BEARER, {"authorization": "Bearer"}),
    ("bearer empty token", BEARER, {"authorization": "Bearer "}),
    ("bearer wrong", BEARER, {"authorization": "Bearer other-hook-token"}),
    ("bearer wrong case", BEARER, {"authorization": "Bearer new-token"}),
    ("bearer prefix", BEARER, {"authorization": "Bearer new-Toke"}),
    ("bearer longer", BEARER, {"authorization": "Bearer new-Tokenn"}),
    ("bearer blank before", BEARER, {"authorization": "Bearer  new-Token"}),
    ("bearer blank after", BEARER, {"authorization": "Bearer new-Token "}),
    ("bearer NUL after", BEARER, {"authorization": "Bearer new-Token\0"}),
    ("bearer sent twice", BEARER, {"authorization": "Bearer new-Token, Bearer new-Token"}),
    ("bearer both secrets", BEARER, {"authorization": "Bearer new-Token, old-Token"}),
    ("bearer as basic", BEARER, {"authorization": basic("falco", "new-Token")}),
    ("bearer without scheme", BEARER, {"authorization": "new-Token"}),
    ("bearer in another header", BEARER, {"x-token": "new-Token"}),
    ("bearer lone surrogate", BEARER, {"authorization": "Bearer \ud800"}),
    ("basic wrong user", BASIC, {"authorization": basic("Falco", "new-Token")}),
    ("basic no user", BASIC, {"authorization": basic("", "new-Token")}),
    ("basic wrong password", BASIC, {"authorization": basic("falco", "x")}),
    ("basic no password", BASIC, {"authorization": basic("falco", "")}),
    ("basic no colon", BASIC, {"authorization": "Basic ZmFsY28="}),
    ("basic not base64", BASIC, {"authorization": "Basic !!!"}),
    ("basic not UTF-8", BASIC, {"authorization": "Basic /////w=="}),
    ("basic not ASCII", BASIC, {"authorization": "Basic é"}),
    ("basic as bearer", BASIC, {"authorization": "Bearer new-Token"}),
    ("header missing", HEADER, {}),
    ("header wrong", HEADER, {"x-token": "nope"}),
    ("header twice", HEADER, {"x-token": "new-Token, new-Token"}),
    ("header wrong case", HEADER, {"x-token": "NEW-TOKEN"}),
    ("hmac missing", HMAC, {}),
    ("hmac no prefix", HMAC, {"x-sig": signed("new-Token")}),
    ("hmac other prefix", HMAC, {"x-sig": "sha1=" + signed("new-Token")}),
    ("hmac only the prefix", HMAC, {"x-sig": "sha256="}),
    ("hmac wrong secret", HMAC, {"x-sig": "sha256=" + signed("other")}),
    ("hmac empty secret", HMAC, {"x-sig": "sha256=" + signed("")}),
    (
        "hmac empty secret configured",
        {"hmac": {"header": "X-Sig", "secret": Secret("")}},
        {"x-sig": signed("")},
    ),
    ("hmac body changed", HMAC, {"x-sig": "sha256=" + signed("new-Token", BODY + b" ")}),
    ("hmac upper case", HMAC, {"x-sig": "sha256=" + signed("new-Token").upper()}),
    ("hmac cut", HMAC, {"x-sig": "sha256=" + signed("new-Token")[:32]}),
    ("hmac twice", HMAC, {"x-sig": ", ".join(["sha256=" + signed("new-Token")] * 2)}),
    ("hmac hex for base64", HMAC64, {"x-sig": signed("new-Token")}),
    ("hmac time missing", TIMED, {"x-sig": signed("new-Token")}),
    ("hmac time unsigned", TIMED, {"x-sig": signed("new-Token"), "x-time": SECONDS}),
    ("hmac time swapped", TIMED, timed(SECONDS) | {"x-time": str(int(SECONDS) + 1)}),
    ("hmac 301 s late", TIMED, timed(str(int(SECONDS) - 301))),
    ("hmac 301 s early", TIMED, timed(str(int(SECONDS) + 301))),
    ("hmac time no number", TIMED, timed("soon")),
    ("hmac time negative", TIMED, timed("-1")),
    ("hmac time in odd digits", TIMED, {"x-sig": "x", "x-time": "٣"}),
    ("hmac time huge", TIMED, timed("9" * 5000)),
    ("two schemes, one right", BEARER | HMAC, {"authorization": "Bearer new-Token"}),
    ("two schemes, other right", BEARER | HMAC, {"x-sig": "sha256=" + signed("new-Token")}),
]


def post(auth: Any, headers: dict[str, str], body: bytes = BODY) -> None:
    """Both moments of the check, as a source does them."""
    check_headers(headers, auth)
    check_body(headers, body, auth, now=NOW)


@pytest.mark.parametrize(("auth", "headers"), [row[1:] for row in GOOD], ids=[r[0] for r in GOOD])
def test_a_holder_of_a_valid_credential_is_let_in(auth: Any, headers: dict[str, str]) -> None:
    """Every scheme, with the new and with the old secret."""
    post(auth, headers)


@pytest.mark.parametrize(("auth", "headers"), [row[1:] for row in BAD], ids=[r[0] for r in BAD])
def test_everybody_else_is_refused_without_a_word_about_the_secret(
    auth: Any, headers: dict[str, str]
) -> None:
    """Only `Unauthorized`, and its text shows neither what was sent nor what was expected."""
    with pytest.raises(Unauthorized) as caught:
        post(auth, headers)
    text = str(caught.value)
    for secret in ("new-Token", "old-Token", "plain", "other-hook-token", signed("new-Token")):
        assert secret not in text


@pytest.mark.parametrize("name", SOURCES)
def test_a_credential_of_another_hook_does_not_open_this_one(name: str) -> None:
    """Each source checks its own hook's secret, before the body and with it."""
    source, hook = SOURCES[name], hook_of(name)
    other = HookInfo(name="other", source=name, auth={"bearer": Secret("other")})
    right = {"authorization": "Bearer right-token"}
    source.verify(right, b"{}", hook)
    with pytest.raises(Unauthorized):
        source.verify(right, b"{}", other)
    with pytest.raises(Unauthorized):
        source.preverify(right, other)  # type: ignore[attr-defined]


def test_a_static_credential_is_refused_before_the_body_is_read() -> None:
    """What headers can tell is told by headers alone; a signature must at least be there."""
    for auth, headers in ((BEARER, {}), (BASIC, {}), (HEADER, {}), (HMAC, {})):
        with pytest.raises(Unauthorized):
            check_headers(headers, auth)
    check_headers({"x-sig": "anything"}, HMAC)


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (BEARER, False),
        (BASIC, False),
        (HEADER, False),
        ({"none": True}, False),
        ({}, False),
        (HMAC, True),
        (TIMED, True),
        (BEARER | HMAC, True),
        ({"routing_key": TWO}, True),
    ],
)
def test_only_schemes_over_the_body_need_it(auth: Any, expected: bool) -> None:
    """`needs_body` tells the door whether headers are enough."""
    assert needs_body(auth) is expected


BENT: list[tuple[Any, str]] = [
    ({}, "got nothing"),
    ({"baerer": Secret("x")}, 'did you mean "bearer"'),
    ({"bearer": "text"}, "expected a secret"),
    ({"bearer": Secret("")}, "not empty"),
    ({"bearer": [Secret("a"), "b"]}, "expected a secret"),
    ({"none": 1}, "none stands alone"),
    ({"none": True, "bearer": Secret("x")}, "none stands alone"),
    ({"basic": "x"}, "expected a table"),
    ({"basic": {"username": "u"}}, "password is missing"),
    ({"basic": {"username": "", "password": Secret("x")}}, "username"),
    ({"header": {"name": "X", "valeu": Secret("x")}}, 'did you mean "value"'),
    ({"hmac": {"header": "X", "secret": Secret("x"), "encoding": "rot13"}}, "hex or base64"),
    ({"hmac": {"header": "X", "secret": Secret("x"), "window": 0}}, "above 0"),
    ({"hmac": {"header": "X", "secret": Secret("x"), "window": True}}, "above 0"),
]


@pytest.mark.parametrize(("auth", "says"), BENT, ids=[f"{n}" for n in range(len(BENT))])
def test_a_bent_configuration_is_named_with_its_place(auth: Any, says: str) -> None:
    """`check_auth` refuses at start what would refuse everybody later."""
    with pytest.raises(ConfigError) as caught:
        check_auth(auth, "[hooks.x] auth")
    assert says in str(caught.value)
    assert str(caught.value).startswith("[hooks.x] auth")


@pytest.mark.parametrize("auth", [BEARER, BASIC, HEADER, HMAC, HMAC64, TIMED, {"none": True}])
def test_every_documented_form_of_auth_is_accepted(auth: Any) -> None:
    """The forms in the module's text pass the check of the configuration."""
    check_auth(auth, "auth")


def test_secrets_are_only_compared_in_constant_time() -> None:
    """One comparison in the module touches a secret's text, and it is `compare_digest`."""
    modules = (_webhook, _secrets, _signatures)
    lines = [line for module in modules for line in inspect.getsource(module).splitlines()]
    revealing = [line.strip() for line in lines if ".reveal()" in line]
    assert len(revealing) == 3, revealing
    assert all("==" not in line for line in revealing)
    assert sum("compare_digest(" in line for line in lines) == 1
