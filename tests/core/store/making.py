"""Short ways to make what the store is given; every value may be named, all have a default."""

from __future__ import annotations

from typing import Any

from responder.model import Alert, AlertKind, Mode, Severity, Target
from responder.store.interface import (
    Accept,
    AuditEntry,
    Brake,
    Event,
    Opening,
    RunStart,
    RunUpdate,
)

SECOND = 1_000_000
MINUTE = 60 * SECOND
NOW = 1_790_000_000 * SECOND


def alert(**named: Any) -> Alert:
    """A shell in a pod, as a detector would say it."""
    values: dict[str, Any] = {
        "source": "falco",
        "kind": AlertKind.DETECTION,
        "rule": "Terminal shell in container",
        "severity": Severity.HIGH,
        "summary": "shell in shop/cart-7f9c",
        "time": NOW,
        "fingerprint": "f1",
        "target": Target(namespace="shop", pod="cart-7f9c"),
        "fields": {"proc.name": "sh"},
        "raw": '{"rule":"Terminal shell in container"}',
    }
    return Alert(**values | named)


def start(playbook: str = "quarantine", **named: Any) -> RunStart:
    """A run that may act by itself."""
    values: dict[str, Any] = {
        "playbook": playbook,
        "playbook_hash": f"hash-{playbook}",
        "playbook_text": f"name: {playbook}\n",
        "mode": Mode.ENFORCE,
    }
    return RunStart(**values | named)


def item(
    number: int,
    *starts: RunStart,
    at: int = NOW,
    key: str | None = "shop/cart",
    window: int = 10 * MINUTE,
    dedup: int = 10 * MINUTE,
    **named: Any,
) -> Accept:
    """The `number`-th alert of a test with its own fingerprint unless one is named."""
    said = alert(**{"fingerprint": f"f{number}"} | named)
    return Accept(
        id=f"alr_{number:06}",
        hook="falco",
        alert=said,
        received=at,
        dedup_window=dedup,
        opening=None
        if key is None
        else Opening(key=key, window=window, title="Shell in shop/cart", severity=4),
        starts=starts,
        run_ids=tuple(f"run_{number:06}_{which}" for which in range(len(starts))),
        created=Event("run_created", at, {"alert": said.to_json()}) if starts else None,
    )


def brake(limit: int, window: int = MINUTE) -> Brake:
    """At most `limit` enforcing runs within the window."""
    return Brake(limit=limit, window=window)


def waiting(due: int | None, *names: str, **named: Any) -> RunUpdate:
    """A row that waits for something outside."""
    values: dict[str, Any] = {"status": "waiting-external", "due": due, "correlations": names}
    return RunUpdate(**values | named)


def ended(outcome: str = "succeeded") -> RunUpdate:
    """A row of a run that has ended."""
    return RunUpdate(status=outcome, due=None, outcome=outcome, reason="all steps succeeded")


def audited(verb: str = "pause", **named: Any) -> AuditEntry:
    """A line for the chain."""
    values: dict[str, Any] = {
        "at": NOW,
        "person": "ann",
        "door": "api",
        "verb": verb,
        "object": "everything",
        "plan": "0123456789abcdef",
        "detail": {"reason": "drill"},
        "address": "127.0.0.1",
    }
    return AuditEntry(**values | named)
