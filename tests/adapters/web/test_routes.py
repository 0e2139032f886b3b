"""Every route has a rule, and no spelling of its path gets around it."""

from __future__ import annotations

import json
import re

import pytest

from responder.model import Role
from responder.web.routes import ROUTES
from responder.web.routing import Route
from tests.adapters.web.client import ask
from tests.adapters.web.fakes import PLAN, RUN, SHA, TOKENS, FakeService

OPEN = {
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/v1/openapi.json"),
    ("POST", "/v1/hooks/{hook}"),  # the hook's own credentials
    ("OPTIONS", "/v1/hooks/{hook}"),  # the same
}
PARTS = {
    "n": "42",
    "run": RUN,
    "step": "isolate",
    "name": "contain-and-rebuild",
    "token": "tok_1",
    "sha256": SHA,
    "hook": "falco",
}
BODIES = {
    "Decision": {"plan": PLAN},
    "Explain": {"alert": {"rule": "x"}},
    "Extend": {"seconds": 60},
    "NewToken": {"person": "anna", "role": "viewer"},
    "Note": {"text": "seen"},
    "Preview": {"playbook": "contain-and-rebuild"},
    "Reason": {},
    "Start": {"playbook": "contain-and-rebuild"},
    "WithReason": {"reason": "upgrade"},
}
GUARDED = [route for route in ROUTES if route.role is not None]


def concrete(route: Route) -> str:
    """The route's path with real parts."""
    return re.sub(r"\{(\w+)(?::(?:[^{}]|\{[^{}]*\})+)?\}", lambda m: PARTS[m[1]], route.path)


def body_of(route: Route) -> str | None:
    """A body that the route accepts."""
    return json.dumps(BODIES[route.model.__name__]) if route.model is not None else None


def names(route: Route) -> str:
    """How a route is called in the output."""
    return f"{route.method} {route.path}"


def test_only_the_named_routes_are_open() -> None:
    """A new route without a role must be added to the list above on purpose."""
    assert {(route.method, route.path) for route in ROUTES if route.role is None} == OPEN


def test_no_get_has_a_body_and_no_two_routes_are_the_same() -> None:
    """A GET changes nothing, so it takes nothing."""
    assert not [route for route in ROUTES if route.method == "GET" and route.model is not None]
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("route", GUARDED, ids=names)
def test_each_role_reaches_exactly_the_routes_of_its_rule(
    route: Route, url: str, service: FakeService
) -> None:
    """Without a token 401, with a lesser role 403, and no verb is called before that."""
    path, body = concrete(route), body_of(route)
    assert ask(url, route.method, path, body).status == 401
    assert ask(url, route.method, path, body, token="nobody").status == 401
    assert service.calls == []
    for token, role in TOKENS.items():
        answer = ask(url, route.method, path, body, token=token)
        assert route.role is not None
        expected = route.status if role.includes(route.role) else 403
        assert answer.status == expected, (token, answer.body)
        if expected == 403:
            assert service.calls == []
            assert answer.json["code"] == "forbidden"


TRICKS = (
    "/{p}",
    "{p}/",
    "{p}.",
    "{p};x=1",
    "{p}.json",
    "{p}%00",
    "{p}%20",
    "/.{p}",
    "/v1/..{p}",
    "/v1/hooks/..%2f..{p}",
    "/livez/..{p}",
    "/livez%2f..{p}",
    "{upper}",
    "{slashed}",
)


@pytest.mark.parametrize("route", GUARDED, ids=names)
def test_no_spelling_of_a_path_gets_past_its_rule(
    route: Route, url: str, service: FakeService
) -> None:
    """Double slashes, encoded ones, dots, suffixes, case: never 2xx without a token."""
    path = concrete(route)
    for trick in TRICKS:
        odd = trick.format(p=path, upper=path.upper(), slashed=path.replace("/", "%2f"))
        answer = ask(url, route.method, odd, body_of(route))
        assert answer.status in {400, 401, 403, 404, 405}, (odd, answer.status)
    assert service.calls == []


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "TRACE"])
@pytest.mark.parametrize("route", GUARDED, ids=names)
def test_other_methods_are_refused_with_the_allowed_ones(
    route: Route, method: str, url: str, service: FakeService
) -> None:
    """405 names what is allowed; nothing is called; nothing speaks of other origins."""
    answer = ask(url, method, concrete(route))
    assert answer.status == 405
    assert route.method in answer.headers["Allow"]
    assert not [name for name in answer.headers if name.startswith("Access-Control")]
    assert service.calls == []


@pytest.mark.parametrize(
    "header",
    [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "Bearer  rsp_admin",
        "Bearer rsp_admin ,",
        "Bearer rsp_admi",
        "Bearer rsp_adminx",
        "Bearer RSP_ADMIN",
        "Bearer rsp_admin\trsp_admin",
        "Basic cnNwX2FkbWlu",
        "rsp_admin",
        "Bearer " + "a" * 600,
    ],
)
def test_a_token_that_is_nearly_right_is_wrong(header: str, url: str) -> None:
    """Empty, short, long, other case, other scheme: 401 with the scheme to use."""
    answer = ask(url, "GET", "/v1/status", headers={"Authorization": header})
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_nobody_is_let_in_by_a_foreign_page(url: str, service: FakeService) -> None:
    """Where loopback needs no token, a rebound name or a cross-site request still does."""
    service.open_on_loopback = True
    assert ask(url, "GET", "/v1/me").json["role"] == Role.ADMIN.value
    assert ask(url, "GET", "/v1/me", headers={"Host": "evil.example"}).status == 401
    assert ask(url, "GET", "/v1/me", headers={"Sec-Fetch-Site": "cross-site"}).status == 401
    assert ask(url, "GET", "/v1/me", token="wrong").status == 401


def test_a_form_cannot_be_posted_by_a_foreign_page(url: str, service: FakeService) -> None:
    """Only JSON is taken, which a browser does not send across sites without asking."""
    service.open_on_loopback = True
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = ask(url, "POST", "/v1/pause", '{"reason":"x"}', headers={"Content-Type": kind})
        assert answer.status == 415
    assert service.calls == []
