"""Amazon SNS and Google Pub/Sub through the real server: what is signed is taken, the rest is not.

Server, door, store and sources are real; the keys are the test's own, given by hand.
"""

from __future__ import annotations

import datetime as dt
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from responder.model import Role
from responder.wiring import load_settings
from tests.adapters.senders import test_public_keys as keys
from tests.journeys.real import Server, serving
from tests.journeys.test_senders import HEAD, post

pytestmark = pytest.mark.timeout(120)
HOOKS = """
[hooks.topic]
source = "aws-sns"
cluster = "prod"
auth = {{sns = {{topics = ["{topic}"], certificates = [{{file = "{folder}/sns.pem"}}]}}}}
[hooks.topic-two]
source = "aws-guardduty"
auth = {{sns = {{topics = ["{other}"], certificates = [{{file = "{folder}/sns.pem"}}]}}}}
[hooks.far]
source = "aws-sns"
auth = {{sns = {{topics = ["{topic}"], hosts = ["sns.xx-none-1.amazonaws.com"]}}}}
[hooks.scc]
source = "google-scc"
cluster = "prod"
[hooks.scc.auth.oidc]
issuer = "{issuer}"
audience = "{audience}"
email = "{email}"
keys = {{file = "{folder}/keys.json"}}
"""
PLAIN = {"Content-Type": "text/plain; charset=UTF-8", "x-amz-sns-topic-arn": keys.TOPIC}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that knows the test's keys."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "playbooks").mkdir()
    now = dt.datetime.now(dt.UTC)
    off = (keys.MOMENT - now).days  # the certificate is made around the sources' own test clock
    (folder / "sns.pem").write_text(keys.pem(keys.KEY, days=30 - min(off, 0), ago=30 + max(off, 0)))
    (folder / "keys.json").write_text(keys.key_set(new=keys.KEY))
    path = folder / "config.toml"
    named = {"issuer": keys.ISSUER, "audience": keys.AUDIENCE, "email": keys.EMAIL}
    hooks = HOOKS.format(folder=folder, topic=keys.TOPIC, other=keys.OTHER, **named)
    path.write_text(HEAD.format(folder=folder) + hooks)
    with serving(load_settings(path, environ={})) as running:
        running.door("anna", Role.ADMIN)
        yield running


def sns(word: str, key: rsa.RSAPrivateKey = keys.KEY, ago: int = 0) -> bytes:
    """A notification of now."""
    moment = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=ago)
    stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return keys.signed(
        keys.message(Subject=word, MessageId=word, Message=word, Timestamp=stamp), key
    )


def test_a_signed_message_is_taken_and_its_replay_is_a_repeat(server: Server) -> None:
    """202 twice, one incident; another body, key, time or topic is 401."""
    body = sns("an alarm")
    first = post(server, "topic", body, PLAIN)
    again = post(server, "topic", body, PLAIN)

    assert (first[0], again[0]) == (202, 202)
    assert first[1]["alerts"][0]["incident"]  # type: ignore[index]
    assert again[1]["alerts"][0]["duplicate"] is True  # type: ignore[index]
    assert post(server, "topic", body + b" ", PLAIN)[0] == 202  # white space is not signed
    assert post(server, "topic", body.replace(b"an alarm", b"another"), PLAIN)[0] == 401
    assert post(server, "topic", sns("wrong", keys.WRONG_KEY), PLAIN)[0] == 401
    assert post(server, "topic", sns("late", ago=301), PLAIN)[0] == 401
    assert post(server, "topic-two", body, PLAIN)[0] == 401
    assert post(server, "topic", body, {"Content-Type": "text/plain"})[0] == 401


def test_a_certificate_that_cannot_be_fetched_makes_sns_come_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, once the message names a host of the hook; 401 for every other place."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def nowhere(host: Any, *rest: Any, **more: Any) -> Any:
        if not str(host).endswith("amazonaws.com"):
            return real(host, *rest, **more)
        asked.append(host)
        raise OSError("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    far = "sns.xx-none-1.amazonaws.com"
    url = keys.URL.replace(keys.HOST, far)
    body = keys.signed(keys.message(SigningCertURL=url))
    started = time.monotonic()
    status, _, headers = post(server, "far", body, PLAIN)

    assert status == 503
    assert int(headers["Retry-After"]) > 0
    assert time.monotonic() - started < 15
    assert post(server, "far", keys.signed(keys.message()), PLAIN)[0] == 401
    assert asked == [far]


def test_a_push_with_a_token_is_taken(server: Server) -> None:
    """And without, with another hook's, or with one that has ended: 401."""
    now = int(time.time())
    times = {"iat": now - 5, "exp": now + 600}
    plain = {"Content-Type": "application/json"}

    assert post(server, "scc", keys.PUSH, plain | keys.token(**times))[0] == 202
    ended = {"iat": now - 7200, "exp": now - 3600}
    wrong = [{}, keys.token(**ended), keys.token(**times, aud="x"), keys.token(keys.WRONG_KEY)]
    for headers in wrong:
        assert post(server, "scc", keys.PUSH, plain | headers)[0] == 401


def test_nothing_of_a_stranger_is_kept(server: Server) -> None:
    """A refused body leaves no word behind."""
    canary = "canary-of-a-stranger"
    push = keys.PUSH.replace(b'{"message"', b'{"x": "canary-of-a-stranger", "message"')
    assert post(server, "topic", sns(canary, keys.WRONG_KEY), PLAIN)[0] == 401
    assert post(server, "far", sns(canary), PLAIN)[0] == 401
    assert post(server, "scc", push, {"Content-Type": "application/json"})[0] == 401

    folder = Path(server.app.settings.store.path).parent
    kept = b"".join(path.read_bytes() for path in folder.glob("responder.db*"))
    assert canary.encode() not in kept
    door = server.door("bob", Role.VIEWER)
    assert canary not in json.dumps(door.get("/v1/incidents?limit=200"))
