"""Every kind of sender with every way to prove who it is: configuration, secrets, credentials."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.journeys.hostile_canaries import canary

SECRETS: Mapping[str, str] = {
    name: canary(name)
    for name in (
        "BEARER_NEW",
        "BEARER_OLD",
        "BASIC",
        "HEADER",
        "HMAC_HEX",
        "HMAC_BASE64",
        "ROUTING",
        "HUB",
        "FORGE",
    )
}
WORLD = """
[clusters.prod]
api = "http://127.0.0.1:9"
[forges.github]
base_url = "http://127.0.0.1:9"
token = {env = "FORGE"}
[playbooks]
shipped = ["quarantine-pod", "collect-evidence"]
"""
HOOKS = """
[hooks.falco-bearer]
source = "falco"
auth = {bearer = [{env = "BEARER_NEW"}, {env = "BEARER_OLD"}]}
[hooks.falco-header]
source = "falco"
auth = {header = {name = "X-Key", value = {env = "HEADER"}}}
[hooks.alertmanager-basic]
source = "alertmanager"
auth = {basic = {username = "am", password = {env = "BASIC"}}}
[hooks.alertmanager-open]
source = "alertmanager"
auth = {none = true}
[hooks.generic-signed]
source = "generic"
auth = {hmac = {header = "X-Signature", secret = {env = "HMAC_HEX"}, prefix = "sha256="}}
[hooks.generic-mapped]
source = "generic"
auth = {bearer = {env = "BEARER_NEW"}}
mapping = {rule = "body.rule", summary = "body.output", severity = "body.priority", \
kind = "body.status == 'resolved' ? 'resolved' : 'detection'", "target.pod" = "body.pod.name"}
[hooks.generic-items]
source = "generic"
auth = {bearer = {env = "BEARER_NEW"}}
mapping = {items = "body.alerts", rule = "body.labels.alertname"}
[hooks.pagerduty-key]
source = "pagerduty"
auth = {routing_key = {env = "ROUTING"}}
[hooks.pagerduty-timed]
source = "pagerduty"
[hooks.pagerduty-timed.auth.hmac]
header = "X-Signed"
secret = {env = "HMAC_BASE64"}
encoding = "base64"
timestamp_header = "X-Time"
[hooks.forge]
source = "github"
auth = {hmac = {header = "X-Hub-Signature-256", secret = {env = "HUB"}, prefix = "sha256="}}
"""


@dataclass(frozen=True)
class Sender:
    """One hook and what its sender adds to a body to be believed."""

    source: str
    prove: Callable[[bytes], Mapping[str, str]]
    early: bool = True  # a stranger is refused before the body is read


def _bearer(name: str) -> Callable[[bytes], Mapping[str, str]]:
    return lambda _body: {"Authorization": f"Bearer {SECRETS[name]}"}


def _digest(name: str, body: bytes) -> bytes:
    return hmac.new(SECRETS[name].encode(), body, hashlib.sha256).digest()


def _timed(body: bytes) -> Mapping[str, str]:
    now = str(int(time.time()))
    signed = _digest("HMAC_BASE64", f"{now}:".encode() + body)
    return {"X-Time": now, "X-Signed": base64.b64encode(signed).decode()}


def _basic(_body: bytes) -> Mapping[str, str]:
    pair = base64.b64encode(f"am:{SECRETS['BASIC']}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


SENDERS: Mapping[str, Sender] = {
    "falco-bearer": Sender("falco", _bearer("BEARER_OLD")),
    "falco-header": Sender("falco", lambda _body: {"X-Key": SECRETS["HEADER"]}),
    "alertmanager-basic": Sender("alertmanager", _basic),
    "alertmanager-open": Sender("alertmanager", lambda _body: {}, early=False),
    "generic-signed": Sender(
        "generic", lambda body: {"X-Signature": f"sha256={_digest('HMAC_HEX', body).hex()}"}
    ),
    "generic-mapped": Sender("generic", _bearer("BEARER_NEW")),
    "generic-items": Sender("generic", _bearer("BEARER_NEW")),
    "pagerduty-key": Sender("pagerduty", lambda _body: {}, early=False),
    "pagerduty-timed": Sender("pagerduty", _timed),
    "forge": Sender(
        "github",
        lambda body: {
            "X-GitHub-Event": "workflow_run",
            "X-Hub-Signature-256": f"sha256={_digest('HUB', body).hex()}",
        },
    ),
}


def keyed(hook: str, payload: Any) -> tuple[Any, bool]:
    """The payload as this sender would send it, and whether it can prove itself with it at all.

    Only PagerDuty's routing key lies in the body: what has no place for a key proves nothing.
    """
    if hook != "pagerduty-key":
        return payload, True
    key = SECRETS["ROUTING"]
    if isinstance(payload, dict):
        return {**payload, "routing_key": key}, True
    if isinstance(payload, list) and payload and all(isinstance(p, dict) for p in payload):
        return [{**item, "routing_key": key} for item in payload], True
    return payload, False


def encoded(payload: Any) -> bytes:
    """JSON as most senders write it: UTF-8, no escapes."""
    return json.dumps(payload, ensure_ascii=False).encode("utf-8", "surrogatepass")
