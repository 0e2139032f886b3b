"""What the API takes, passes on and refuses."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from responder.errors import (
    BadAlert,
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    StepFailed,
    StepRetry,
    StoreUnavailable,
)
from responder.web.openapi import generate
from responder.web.problems import KINDS
from responder.web.routes import ROUTES
from tests.adapters.web.client import ask
from tests.adapters.web.fakes import PLAN, RUN, FakeService

ADMIN = "rsp_admin"
STEP = f"/v1/runs/{RUN}/steps/isolate"


def test_latest_stands_for_the_newest_incident(url: str) -> None:
    """`@latest` works where a number does."""
    assert ask(url, "GET", "/v1/incidents/@latest", token=ADMIN).json["number"] == 42
    assert ask(url, "GET", "/v1/incidents/%40latest/timeline", token=ADMIN).status == 200


def test_a_start_passes_the_idempotency_key_on(url: str, service: FakeService) -> None:
    """With or without the quotes of the draft standard, it is the same key."""
    for key in ('"k-1"', "k-1"):
        answer = ask(
            url,
            "POST",
            "/v1/runs",
            '{"playbook":"p","inputs":{"pod":"shop/x"},"reason":"r","mode":"observe"}',
            token=ADMIN,
            headers={"Idempotency-Key": key},
        )
        assert answer.status == 201
        more = {"mode": "observe", "incident": None, "idempotency_key": "k-1"}
        assert service.calls[-1] == ("start", "p", {"pod": "shop/x"}, "r", more)


@pytest.mark.parametrize("key", ["a" * 256, '""', "a b", 'a"b'])
def test_an_odd_idempotency_key_is_refused(key: str, url: str, service: FakeService) -> None:
    """A key that a store might cut or fold is no key."""
    headers = {"Idempotency-Key": key}
    answer = ask(url, "POST", "/v1/runs", '{"playbook":"p"}', token=ADMIN, headers=headers)
    assert answer.status == 400
    assert service.calls == []


def test_a_yes_goes_to_the_plan_that_was_seen(url: str, service: FakeService) -> None:
    """Another hash is a conflict; without a hash there is no yes."""
    body = json.dumps({"plan": PLAN, "reason": "ok"})
    assert ask(url, "POST", STEP + "/approve", body, token="rsp_approver").status == 200
    assert service.calls[-1] == ("decide", RUN, "isolate", True, PLAN, "ok")
    moved = ask(url, "POST", STEP + "/approve", '{"plan":"other"}', token="rsp_approver")
    assert (moved.status, moved.json["code"]) == (409, "conflict")
    assert ask(url, "POST", STEP + "/deny", "{}", token="rsp_approver").status == 400


def test_a_fault_in_the_body_is_named_by_its_pointer(url: str) -> None:
    """The place is shown, what stood there is not."""
    body = '{"playbook":7,"inputs":{},"secret":"hunter2"}'
    answer = ask(url, "POST", "/v1/runs", body, token=ADMIN)
    assert answer.status == 400
    assert {"/playbook", "/secret"} == {fault["pointer"] for fault in answer.json["errors"]}
    assert b"hunter2" not in answer.body


ODD_BODIES: dict[str, str | bytes] = {
    "empty": "",
    "no JSON": "nonsense",
    "a list": "[]",
    "null": "null",
    "key twice": '{"playbook":"p","playbook":"q"}',
    "NaN": '{"playbook":"p","inputs":{"a":NaN}}',
    "infinite": '{"playbook":"p","inputs":{"a":1e999}}',
    "65 bits": '{"playbook":"p","inputs":{"a":9223372036854775808}}',
    "5000 digits": '{"playbook":"p","inputs":{"a":' + "9" * 5000 + "}}",
    "half a pair": '{"playbook":"p","reason":"\\ud800"}',
    "pair reversed": '{"playbook":"p","reason":"\\udc00\\ud800"}',
    "NUL": '{"playbook":"p","reason":"\\u0000"}',
    "66 deep": '{"playbook":"p","inputs":{"a":' + "[" * 64 + "]" * 64 + "}}",
    "100,000 deep": '{"playbook":"p","inputs":{"a":' + "[" * 100_000 + "]" * 100_000 + "}}",
    "never closed": '{"playbook":"p","inputs":{"a":' + "[" * 100_000,
    "not UTF-8": b'{"playbook":"\xff"}',
    "byte order mark": b'\xef\xbb\xbf{"playbook":"p"}',
}


@pytest.mark.parametrize("name", ODD_BODIES)
def test_a_body_that_others_might_read_differently_is_refused(
    name: str, url: str, service: FakeService
) -> None:
    """Twice the same key, NaN, huge numbers, half characters, depth: 400, nothing called."""
    answer = ask(url, "POST", "/v1/runs", ODD_BODIES[name], token=ADMIN)
    assert (answer.status, answer.json["code"]) == (400, "bad-request")
    assert service.calls == []


def test_whole_characters_beyond_the_basic_plane_are_taken(url: str, service: FakeService) -> None:
    """A pair is one character; an escaped backslash before `ud800` is no escape."""
    body = '{"playbook":"p","reason":"\\ud83d\\ude00 \\\\ud800"}'
    assert ask(url, "POST", "/v1/runs", body, token=ADMIN).status == 201
    assert service.calls[-1][3] == "\U0001f600 \\ud800"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/incidents?limit=0", 400),
        ("/v1/incidents?limit=201", 400),
        ("/v1/incidents?limit=-1", 400),
        ("/v1/incidents?limit=" + "9" * 5000, 400),
        ("/v1/incidents?limit=%D9%A3", 400),
        ("/v1/incidents?limit=5&limit=6", 400),
        ("/v1/incidents?status=nope", 400),
        ("/v1/incidents?since=yesterday", 400),
        ("/v1/incidents?since=2026-01-31T12:00:00", 400),
        ("/v1/incidents?nope=1", 400),
        ("/v1/incidents/43", 404),
        ("/v1/incidents/0x2a", 404),
        ("/v1/incidents/-1", 404),
        ("/v1/incidents/" + "4" * 400, 404),
        ("/v1/incidents/%D9%A4%D9%A2", 404),
        ("/v1/runs/a%2fb", 404),
        ("/v1/runs/%ff", 404),
        ("/v1/runs/" + "a" * 500, 404),
        ("/v1/incidents/42/evidence/..%2f..%2fetc%2fpasswd", 404),
    ],
)
def test_odd_words_in_the_address_are_refused(path: str, status: int, url: str) -> None:
    """Never a 500, never a guess."""
    answer = ask(url, "GET", path, token=ADMIN)
    assert answer.status == status
    assert answer.headers["Content-Type"].startswith("application/problem+json")


def test_a_time_with_its_zone_becomes_microseconds(url: str, service: FakeService) -> None:
    """RFC 3339, as every door shows times."""
    ask(url, "GET", "/v1/incidents?since=1970-01-01T00:00:01.5Z&cursor=7", token=ADMIN)
    assert service.calls[-1] == ("incidents", "", 1_500_000, 50, 7)


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (NotFound("no such thing"), 404, "not-found"),
        (Forbidden("not you"), 403, "forbidden"),
        (Conflict("it moved"), 409, "conflict"),
        (BadAlert("no rule", "/rule"), 400, "bad-request"),
        (BadRequest("no name", "/person"), 400, "bad-request"),
        (StepFailed("never"), 422, "cannot-be-done"),
        (StepRetry("later", after=7), 503, "unavailable"),
        (StoreUnavailable("disk full"), 503, "unavailable"),
        (RuntimeError("password=hunter2"), 500, "internal"),
        (TimeoutError("hunter2"), 500, "internal"),
        (RecursionError("hunter2"), 500, "internal"),
    ],
)
def test_each_failure_class_has_its_answer(
    failure: Exception, status: int, code: str, url: str, service: FakeService
) -> None:
    """A document each; what nobody expected shows an id and nothing else."""
    service.broken = failure
    answer = ask(url, "GET", "/v1/status", token=ADMIN)
    document = answer.json
    assert (answer.status, document["status"], document["code"]) == (status, status, code)
    assert b"hunter2" not in answer.body
    assert b"Traceback" not in answer.body
    assert (status == 503) == ("Retry-After" in answer.headers)
    assert (status == 500) == ("trace_id" in document)
    assert document["code"] in KINDS


@pytest.mark.parametrize("path", ["/livez", "/nope", "/v1/status", "/v1/openapi.json"])
def test_every_answer_tells_browsers_to_keep_off(path: str, url: str) -> None:
    """No sniffing, no storing, no running, no version of the parts underneath."""
    headers = ask(url, "GET", path, token=ADMIN).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Server"] == "responder"


def test_evidence_is_a_download_in_a_sandbox(url: str) -> None:
    """A browser must not open what an intruder wrote."""
    path = "/v1/incidents/42/evidence/" + "ab" * 32
    answer = ask(url, "GET", path, token=ADMIN)
    assert answer.body == b"{}\n"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_readiness_names_each_check(url: str, service: FakeService) -> None:
    """One line per check; a store that cannot write makes it 503."""
    good = ask(url, "GET", "/readyz?verbose")
    assert good.body.decode().splitlines() == [
        "[+]store ok",
        "[+]playbooks ok",
        "readyz check passed",
    ]
    service.full = True
    bad = ask(url, "GET", "/readyz")
    assert bad.status == 503
    assert "[-]store cannot write" in bad.body.decode()
    assert ask(url, "GET", "/livez").status == 200


def test_the_document_describes_exactly_the_routes() -> None:
    """Every route with its role, every body with its schema, every reference resolvable."""
    document = generate(ROUTES)
    described = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    assert len(described) == len(ROUTES)
    text = json.dumps(document)
    for reference in {
        part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]
    }:
        Draft202012Validator.check_schema(document["components"]["schemas"][reference])
    operations = [op for item in document["paths"].values() for op in item.values()]
    assert len({op["operationId"] for op in operations}) == len(operations)
    roles = {op.get("x-role") for op in operations if "security" in op}
    assert roles == {"viewer", "responder", "admin"}
