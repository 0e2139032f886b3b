"""Which alerts are one incident: the parts of a key, of the target and of the alert itself."""

from __future__ import annotations

import pytest

from responder.engine.brakes import Guard
from responder.engine.intake import Rules, admit
from responder.model import Target
from responder.playbook.loading import load_text
from responder.ports import HookInfo
from tests.core.playbook.catalogue import CATALOGUE
from tests.core.store.making import NOW, alert

TEXT = """\
playbook: a
on: [{{alert: {{source: falco}}}}]
incident: {{key: [{key}]}}
steps: {{s: {{use: chat.post, with: {{text: x}}}}}}
"""


def key(parts: str, **named: object) -> str:
    """The key under which an alert opens its incident."""
    playbook = load_text(TEXT.format(key=parts), "a.yaml", CATALOGUE)
    said = alert(**named)
    item = admit(
        said,
        HookInfo(name="h", source="falco"),
        [playbook],
        NOW,
        Rules(guard=Guard()),
        lambda kind, _: f"{kind}_1",
    )
    assert item.opening is not None
    return item.opening.key


@pytest.mark.parametrize("part", ["rule", "source", "fingerprint"])
def test_a_part_of_the_alert_parts_incidents_that_have_one_target(part: str) -> None:
    """Two rules about one pod are two incidents where the playbook says so."""
    assert key(f"namespace, {part}") != key(f"namespace, {part}", **{part: "another"})
    assert key("namespace") == key("namespace", **{part: "another"})


def test_a_pod_stands_in_for_a_workload_that_nobody_knows() -> None:
    """Else every pod of a namespace would be one incident."""
    named = Target(namespace="shop", pod="cart-1")
    other = Target(namespace="shop", pod="cart-2")
    assert key("namespace, workload", target=named) != key("namespace, workload", target=other)
