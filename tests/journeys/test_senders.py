"""Every sender through the real server: its status, its content type, its secret, its silence.

The server, the door, the store and the sources are real; only the cluster is not there, and no
playbook is loaded that would need it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from integrations._source import sample_of
from responder.cli.root import cli
from responder.model import Role
from responder.wiring import load_settings
from responder.wiring.known import sources
from tests.adapters.senders.own import ROWS
from tests.adapters.senders.test_mutations import bodies
from tests.journeys.real import Server, serving

pytestmark = pytest.mark.timeout(120)
SECRET = "a-secret-of-the-hook"
NAMES = sorted(sources())
HEAD = """
[server]
listen = "127.0.0.1:0"
[store]
url = "sqlite:///{folder}/responder.db"
[playbooks]
folders = ["{folder}/playbooks"]
[clusters.prod]
api = "https://cluster.invalid"
"""
HOOK = """
[hooks.{name}]
source = "{name}"
cluster = "prod"
auth = {{bearer = {{env = "HOOK_SECRET"}}}}
"""
EXTRA = """
[hooks.in-address]
source = "tracee"
auth = {query = {name = "token", value = {env = "HOOK_SECRET"}}}
[hooks.challenged]
source = "falco"
auth = {basic = {username = "sns", password = {env = "HOOK_SECRET"}}}
[hooks.signed]
source = "falco"
auth = {standard = {secret = {env = "HOOK_SECRET"}}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one hook for each source."""
    folder = tmp_path_factory.mktemp("senders")
    (folder / "playbooks").mkdir()
    path = Path(folder / "config.toml")
    hooks = "".join(HOOK.format(name=name) for name in NAMES)
    path.write_text(HEAD.format(folder=folder) + hooks + EXTRA)
    settings = load_settings(path, environ={"HOOK_SECRET": SECRET})
    with serving(settings) as running:
        running.door("anna", Role.ADMIN)
        yield running


Reply = tuple[int, dict[str, object], dict[str, str]]


def post(server: Server, path: str, body: bytes, headers: dict[str, str]) -> Reply:
    """One delivery, as any HTTP client makes it."""
    link = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    try:
        link.request("POST", f"/v1/hooks/{path}", body, headers)
        answer = link.getresponse()
        return answer.status, json.loads(answer.read()), dict(answer.headers)
    finally:
        link.close()


def bearer(kind: str = "application/json") -> dict[str, str]:
    """The headers of a sender that holds the secret."""
    sent = {"Authorization": f"Bearer {SECRET}"}
    return sent | {"Content-Type": kind} if kind else sent


@pytest.mark.parametrize("name", NAMES)
def test_every_sample_is_taken_with_the_status_its_sender_wants(server: Server, name: str) -> None:
    """200 for those that insist, 202 for the rest; an incident each; the second is a repeat."""
    status, first, _ = post(server, name, sample_of(name), bearer())
    again, second, _ = post(server, name, sample_of(name), bearer())

    wanted = 200 if name in {"tracee", "neuvector"} else sources()[name].accepts_status
    assert status == again == wanted
    [one] = first["alerts"]  # type: ignore[misc]
    [two] = second["alerts"]  # type: ignore[misc]
    assert one["incident"]
    assert (one["duplicate"], two["duplicate"]) == (False, True)


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        ("kubescape", "", 202),
        ("kubescape", "application/octet-stream", 202),
        ("neuvector", "text/plain; charset=us-ascii", 200),
        ("falco", "application/json; charset=utf-8", 202),
        ("falco", "application/cloudevents+json", 202),
        ("falco", "application/x-ndjson", 202),
        ("tetragon", "application/x-ndjson", 202),
        ("aws-sns", "text/plain; charset=UTF-8", 202),
        ("aws-guardduty", "text/plain; charset=UTF-8", 202),
        ("docker-distribution", "application/vnd.docker.distribution.events.v2+json", 202),
        ("harbor", "application/cloudevents+json", 202),
        ("cloudevents", "application/cloudevents-batch+json; charset=utf-8", 202),
        ("cloudevents", "", 202),
        ("google-scc", "text/plain", 415),
        ("falco", "", 415),
        ("falco", "text/plain", 415),
        ("kubescape", "text/plain", 415),
        ("neuvector", "", 415),
    ],
)
def test_content_types_are_what_each_sender_uses(
    server: Server, name: str, kind: str, status: int
) -> None:
    """Kubescape names none, NeuVector says text; nobody else is taken so."""
    assert post(server, name, sample_of(name), bearer(kind))[0] == status


def test_a_secret_in_the_address_opens_the_hook_that_asks_for_it(server: Server) -> None:
    """For senders that can set no header; not elsewhere, and not twice."""
    plain = {"Content-Type": "application/json"}
    body = sample_of("tracee")
    assert post(server, f"in-address?token={SECRET}", body, plain)[0] == 200
    for query in (
        "",
        "?token=",
        "?token=x",
        f"?Token2={SECRET}",
        f"?token={SECRET}&token={SECRET}",
    ):
        assert post(server, f"in-address{query}", body, plain)[0] == 401
    assert post(server, f"falco?token={SECRET}", body, plain)[0] == 401


def test_basic_is_asked_for_by_a_challenge(server: Server) -> None:
    """SNS sends its password only then."""
    plain = {"Content-Type": "application/json"}
    status, _, headers = post(server, "challenged", sample_of("falco"), plain)
    assert (status, headers["WWW-Authenticate"].split()[0]) == (401, "Basic")
    pair = base64.b64encode(f"sns:{SECRET}".encode()).decode()
    sent = {**plain, "Authorization": f"Basic {pair}"}
    assert post(server, "challenged", sample_of("falco"), sent)[0] == 202


def test_a_replay_within_the_window_is_a_repeat_and_starts_nothing_new(server: Server) -> None:
    """The window of a signature is no longer than the one in which repeats are known."""
    body = sample_of("falco").replace(b"Terminal shell", b"Replayed shell")
    stamp = str(server.app.service.core.world.clock.now() // 1_000_000)
    mac = hmac.new(SECRET.encode(), f"m1.{stamp}.".encode() + body, hashlib.sha256).digest()
    sent = {
        "Content-Type": "application/json",
        "webhook-id": "m1",
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }
    first = post(server, "signed", body, sent)
    replayed = post(server, "signed", body, sent)
    changed = post(server, "signed", body + b" ", sent)

    assert (first[0], replayed[0], changed[0]) == (202, 202, 401)
    assert replayed[1]["alerts"][0]["duplicate"] is True  # type: ignore[index]


def test_nothing_of_a_stranger_is_kept(server: Server) -> None:
    """A refused body leaves no alert anywhere."""
    body = sample_of("falco").replace(b"Terminal shell", b"canary-of-a-stranger")
    for path in ("falco", "signed", "challenged", "in-address", "kubernetes-audit"):
        assert post(server, path, body, {"Content-Type": "application/json"})[0] == 401
    door = server.door("bob", Role.VIEWER)
    assert "canary-of-a-stranger" not in json.dumps(door.get("/v1/incidents?limit=200"))
    folder = Path(server.app.settings.store.path).parent
    kept = b"".join(path.read_bytes() for path in folder.glob("responder.db*"))
    assert b"canary-of-a-stranger" not in kept


@pytest.mark.parametrize("name", NAMES)
def test_no_changed_body_is_ever_a_failure_of_the_server(server: Server, name: str) -> None:
    """Taken or refused: 2xx or 4xx, never 5xx."""
    made = bodies(json.loads(sample_of(name)))
    for body in made[:: max(1, len(made) // 40)]:
        status, answer, _ = post(server, name, body, bearer())
        assert status in {200, 202, 400, 413}, (status, answer)


def test_what_must_start_nothing_opens_no_incident(server: Server) -> None:
    """Test, health, blocked, ended: stored, without incident and run."""
    for row in ROWS:
        body = json.dumps(row.payload).encode()
        status, answer, _ = post(server, row.source, body, bearer())
        assert status in {200, 202}
        for alert in answer["alerts"]:  # type: ignore[attr-defined]
            assert alert["runs"] == []
            if row.kind.value != "resolved":
                assert alert["incident"] is None, row


def test_a_report_of_some_megabytes_is_taken_where_reports_come(server: Server) -> None:
    """And nowhere else: an alert has no megabytes."""
    report = json.loads(sample_of("trivy-operator"))
    one = report["report"]["vulnerabilities"][0]
    report["report"]["vulnerabilities"] = [
        {**one, "vulnerabilityID": f"CVE-2026-{n}", "title": "x" * 400} for n in range(5000)
    ]
    body = json.dumps(report).encode()
    assert len(body) > 2 << 20
    assert post(server, "trivy-operator", body, bearer())[0] == 202
    assert post(server, "falco", body, bearer())[0] == 413


def test_a_hook_is_tested_from_the_command_line(server: Server, tmp_path: Path) -> None:
    """`responder hook test NAME` and `responder hook list`, as a person types them."""
    token = tmp_path / "token"
    token.write_text(server.door("dora", Role.RESPONDER).token)
    common = ["--server", server.url, "--token-file", str(token)]
    tested = CliRunner().invoke(cli, ["hook", "test", "tetragon", *common])
    listed = CliRunner().invoke(cli, ["hook", "list", *common])

    assert tested.exit_code == 0, tested.output
    assert "watch-shadow" in tested.output
    assert "nothing was started" in tested.output
    assert set(NAMES) <= set(listed.output.split())
    unknown = CliRunner().invoke(cli, ["hook", "test", "nobody", *common])
    assert unknown.exit_code != 0


def test_a_hook_is_tested_over_the_api(server: Server) -> None:
    """By a responder; the answer names the alert and what would start."""
    door = server.door("carl", Role.RESPONDER)
    answer = door.post("/v1/hooks/kubearmor/test", {})

    assert [alert["rule"] for alert in answer["alerts"]] == ["watch-downloads"]
    assert answer["alerts"][0]["would_start"] == []
    status, _, _ = server.door("eve", Role.VIEWER).ask("POST", "/v1/hooks/kubearmor/test", {})
    assert status == 403
