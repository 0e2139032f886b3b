"""Each scheme by each fault, through the real service: the right answer, and nothing is kept.

Right, right with the old secret, wrong, missing, another hook's, replayed, the body changed, the
header doubled. What is refused leaves no alert, no incident and no word of the body anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from integrations._webhook import Guard, check_auth
from integrations.falco import Falco
from responder.errors import Unauthorized
from responder.model import Secret
from responder.ports import HookInfo
from tests.adapters.sources.parts import NOW, WORLD

Headers = dict[str, str]
BODY = b'{"rule": "a secret word of the sender"}'
STAMP = str(NOW // 1_000_000)
SECRETS = [Secret("new-Secret-1"), Secret("old-Secret-0")]
STANDARD = [Secret("whsec_" + base64.b64encode(key).decode()) for key in (b"new-key", b"old-key")]


def mac(secret: str, data: bytes) -> bytes:
    """HMAC-SHA256 as every sender makes it."""
    return hmac.new(secret.encode(), data, hashlib.sha256).digest()


def basic(secret: str) -> str:
    """The Authorization header of name and password."""
    return "Basic " + base64.b64encode(f"sender:{secret}".encode()).decode()


def standard(key: str, body: bytes, stamp: str) -> Headers:
    """The three headers of Standard Webhooks, for a key of the list above."""
    signed = base64.b64encode(mac(key, b"msg_1." + stamp.encode() + b"." + body)).decode()
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{signed}",
    }


@dataclass(frozen=True)
class Scheme:
    """One scheme: its configuration, and the headers that a sender with a secret makes."""

    name: str
    auth: dict[str, Any]
    headers: Callable[[str, bytes, str], Headers]  # secret, body, time
    secrets: tuple[str, str] = ("new-Secret-1", "old-Secret-0")
    signs_body: bool = False
    signs_time: bool = False
    challenge: bool = False


SCHEMES = (
    Scheme("bearer", {"bearer": SECRETS}, lambda s, _b, _t: {"authorization": f"Bearer {s}"}),
    Scheme(
        "basic",
        {"basic": {"username": "sender", "password": SECRETS}},
        lambda s, _b, _t: {"authorization": basic(s)},
        challenge=True,
    ),
    Scheme(
        "raw Authorization (Harbor, Distribution)",
        {"header": {"name": "Authorization", "value": SECRETS}},
        lambda s, _b, _t: {"authorization": s},
    ),
    Scheme(
        "X-Gitlab-Token",
        {"header": {"name": "X-Gitlab-Token", "value": SECRETS}},
        lambda s, _b, _t: {"x-gitlab-token": s},
    ),
    Scheme(
        "query (Falco, Tracee, Quay)",
        {"query": {"name": "token", "value": SECRETS}},
        lambda s, _b, _t: {"query:token": s},
    ),
    Scheme(
        "certificate checked by a proxy",
        {
            "proxy": {
                "header": "X-Client-Subject",
                "subjects": ["CN=falco"],
                "proof_header": "X-Proxy-Proof",
                "proof": SECRETS,
            }
        },
        lambda s, _b, _t: {"x-client-subject": "CN=falco", "x-proxy-proof": s},
    ),
    Scheme(
        "GitHub",
        {"hmac": {"header": "X-Hub-Signature-256", "secret": SECRETS, "prefix": "sha256="}},
        lambda s, b, _t: {"x-hub-signature-256": f"sha256={mac(s, b).hex()}"},
        signs_body=True,
    ),
    Scheme(
        "Grafana with its time",
        {
            "hmac": {
                "header": "X-Grafana-Alerting-Signature",
                "secret": SECRETS,
                "timestamp_header": "X-Grafana-Alerting-Timestamp",
            }
        },
        lambda s, b, t: {
            "x-grafana-alerting-signature": mac(s, t.encode() + b":" + b).hex(),
            "x-grafana-alerting-timestamp": t,
        },
        signs_body=True,
        signs_time=True,
    ),
    Scheme(
        "Grafana without",
        {"hmac": {"header": "X-Grafana-Alerting-Signature", "secret": SECRETS}},
        lambda s, b, _t: {"x-grafana-alerting-signature": mac(s, b).hex()},
        signs_body=True,
    ),
    Scheme(
        "PagerDuty, several",
        {
            "hmac": {
                "header": "X-PagerDuty-Signature",
                "secret": SECRETS,
                "prefix": "v1=",
                "many": True,
            }
        },
        lambda s, b, _t: {
            "x-pagerduty-signature": f"v1={mac('rotated', b).hex()},v1={mac(s, b).hex()}"
        },
        signs_body=True,
    ),
    Scheme(
        "Standard Webhooks (GitLab)",
        {"standard": {"secret": STANDARD}},
        standard,
        secrets=("new-key", "old-key"),
        signs_body=True,
        signs_time=True,
    ),
)
IDS = [scheme.name for scheme in SCHEMES]


def ask(scheme: Scheme, headers: Headers, body: bytes = BODY, auth: Any = None) -> None:
    """Both moments of a source's check."""
    hook = HookInfo(name="h", source="falco", auth=scheme.auth if auth is None else auth)
    source = Falco(Guard(WORLD))
    source.preverify(headers, hook)
    source.verify(headers, body, hook)


def refused(scheme: Scheme, headers: Headers, body: bytes = BODY, auth: Any = None) -> Unauthorized:
    """The refusal, which shows neither secret nor body."""
    with pytest.raises(Unauthorized) as caught:
        ask(scheme, headers, body, auth)
    text = str(caught.value)
    for word in (*scheme.secrets, *headers.values(), "secret word"):
        assert len(word.strip()) < 4 or word not in text
    return caught.value


@pytest.mark.parametrize("scheme", SCHEMES, ids=IDS)
def test_the_configuration_takes_it(scheme: Scheme) -> None:
    """Every scheme here can be written down."""
    check_auth(scheme.auth, "hooks.h.auth", "falco")


@pytest.mark.parametrize("scheme", SCHEMES, ids=IDS)
def test_right_with_the_new_and_with_the_old_secret(scheme: Scheme) -> None:
    """Two are valid at once while a sender is being changed over."""
    for secret in scheme.secrets:
        ask(scheme, scheme.headers(secret, BODY, STAMP))


@pytest.mark.parametrize("scheme", SCHEMES, ids=IDS)
@pytest.mark.parametrize(
    "secret", ["wrong", "", " ", "new-Secret-1 ", "NEW-SECRET-1", "new-Secret-"]
)
def test_a_wrong_secret(scheme: Scheme, secret: str) -> None:
    """Near or far makes no difference."""
    refused(scheme, scheme.headers(secret, BODY, STAMP))


@pytest.mark.parametrize("scheme", SCHEMES, ids=IDS)
def test_missing(scheme: Scheme) -> None:
    """No header at all, and each header alone missing."""
    right = scheme.headers(scheme.secrets[0], BODY, STAMP)
    refused(scheme, {})
    for left_out in right:
        refused(scheme, {k: v for k, v in right.items() if k != left_out})
        refused(scheme, {**right, left_out: ""})


@pytest.mark.parametrize("scheme", SCHEMES, ids=IDS)
def test_another_hooks_secret(scheme: Scheme) -> None:
    """What opens one hook opens no other."""
    other = _with_secret(scheme.auth, Secret("of-another-hook"))
    refused(scheme, scheme.headers(scheme.secrets[0], BODY, STAMP), auth=other)


def _with_secret(value: Any, secret: Secret) -> Any:
    if isinstance(value, dict):
        return {key: _with_secret(item, secret) for key, item in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], Secret):
        return [secret]
    return value


@pytest.mark.parametrize("scheme", SCHEMES, ids=IDS)
def test_a_header_doubled(scheme: Scheme) -> None:
    """A header sent twice arrives joined, equals no secret, and is refused."""
    right = scheme.headers(scheme.secrets[0], BODY, STAMP)
    doubled = {name: f"{value}, {value}" for name, value in right.items()}
    if scheme.name != "PagerDuty, several":  # any of several may hold: that is its rule
        refused(scheme, doubled)
    for name in right:
        if scheme.name != "PagerDuty, several" and name != "webhook-signature":
            refused(scheme, {**right, name: doubled[name]})


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s.signs_body], ids=lambda s: s.name)
def test_the_body_changed(scheme: Scheme) -> None:
    """One byte more, one less, or another."""
    right = scheme.headers(scheme.secrets[0], BODY, STAMP)
    for body in (BODY + b" ", BODY[:-1], BODY.replace(b"rule", b"Rule"), b""):
        refused(scheme, right, body)


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s.signs_time], ids=lambda s: s.name)
@pytest.mark.parametrize("off", [-86_400, -301, 301, 86_400])
def test_replayed_later(scheme: Scheme, off: int) -> None:
    """A good signature of another time is refused; within five minutes it still holds."""
    refused(scheme, scheme.headers(scheme.secrets[0], BODY, str(int(STAMP) + off)))
    ask(scheme, scheme.headers(scheme.secrets[0], BODY, str(int(STAMP) + off // abs(off) * 300)))


@pytest.mark.parametrize("scheme", SCHEMES, ids=IDS)
def test_only_basic_invites_to_send_it(scheme: Scheme) -> None:
    """SNS sends its password only after 401 with `WWW-Authenticate: Basic`."""
    failure = refused(scheme, {})

    assert failure.challenge.startswith("Basic ") is scheme.challenge


def test_a_subject_without_the_proxys_proof_is_nobody() -> None:
    """Whoever reaches the server past the proxy can write any header but not the proof."""
    scheme = next(s for s in SCHEMES if "proxy" in s.auth)
    refused(scheme, {"x-client-subject": "CN=falco"})
    refused(scheme, {"x-client-subject": "CN=falco", "x-proxy-proof": "guess"})
    refused(scheme, {"x-client-subject": "CN=other", "x-proxy-proof": "new-Secret-1"})


CERTIFIED = {"certificate": {"names": ["falco", "spiffe://prod/falco"]}}


@pytest.mark.parametrize("names", ["falco", "other\nfalco", "other\nspiffe://prod/falco"])
def test_one_of_the_certificates_names_is_enough(names: str) -> None:
    """Common name, DNS name or URI."""
    check_auth(CERTIFIED, "auth")
    ask(SCHEMES[0], {"tls:names": names}, auth=CERTIFIED)


@pytest.mark.parametrize("names", [None, "", "Falco", "falco2", "falco ", "other", "falco, falco"])
def test_another_certificate_or_none_is_refused(names: str | None) -> None:
    """And so is everybody else's."""
    with pytest.raises(Unauthorized):
        ask(SCHEMES[0], {} if names is None else {"tls:names": names}, auth=CERTIFIED)


def test_a_scheme_that_only_one_source_checks_lets_nobody_into_another() -> None:
    """`routing_key` lies in the body; a source that does not look there must refuse."""
    auth = {"routing_key": Secret("k")}
    hook = HookInfo(name="h", source="falco", auth=auth)
    with pytest.raises(Unauthorized):
        Falco(Guard(WORLD)).verify({}, BODY, hook)
