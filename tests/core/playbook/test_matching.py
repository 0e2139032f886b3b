"""The right playbooks start, a thousand cost what one does, and each says why."""

from __future__ import annotations

import time

import pytest

from responder.model import Alert, AlertKind, Severity, Target
from responder.playbook.definition import Playbook
from responder.playbook.loading import load_text
from responder.playbook.matching import Index, environment, incident_key
from tests.core.playbook.catalogue import CATALOGUE


def playbook(name: str, trigger: str) -> Playbook:
    """A playbook with one step and these triggers."""
    text = f"playbook: {name}\non: {trigger}\nsteps: {{s: {{use: chat.post, with: {{text: x}}}}}}\n"
    return load_text(text, f"{name}.yaml", CATALOGUE)


def alert(rule: str = "Shell", source: str = "falco", **changes: object) -> Alert:
    """An alert of high severity about the pod shop/web-1."""
    values: dict[str, object] = {
        "source": source,
        "kind": AlertKind.DETECTION,
        "rule": rule,
        "severity": Severity.HIGH,
        "summary": "a shell",
        "time": 1_700_000_000_000_000,
        "fingerprint": "f",
        "target": Target(cluster="prod", namespace="shop", pod="web-1"),
        "labels": {"app": "web"},
        "fields": {"proc.name": "bash", "n": 3},
        "tags": ("shell", "mitre"),
    }
    return Alert(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trigger", "starts"),
    [
        ("[{alert: {source: falco, rule: Shell}}]", True),
        ("[{alert: {source: falco, rule: She*}}]", True),
        ("[{alert: {source: falco, rule: '*'}}]", True),
        ("[{alert: {source: falco}}]", True),
        ("[{alert: {source: [pagerduty, falco], rule: [x, Shell]}}]", True),
        ("[{alert: {source: falco, rule: shell}}]", False),
        ("[{alert: {source: falco, rule: Shells*}}]", False),
        ("[{alert: {source: pagerduty, rule: Shell}}]", False),
        ("[{manual: }]", False),
        ("[{alert: {source: falco, when: alert.severity >= severity.high}}]", True),
        ("[{alert: {source: falco, when: alert.severity > severity.high}}]", False),
        ('[{alert: {source: falco, when: alert.labels.app == "web"}}]', True),
        ('[{alert: {source: falco, when: alert.labels.team == "web"}}]', False),
        ('[{alert: {source: falco, when: alert.labels.team != "web"}}]', False),
        ('[{alert: {source: falco, when: \'!(alert.labels.team == "web")\'}}]', False),
        ('[{alert: {source: falco, when: \'alert.fields["proc.name"] == "bash"\'}}]', True),
        ('[{alert: {source: falco, when: alert.fields.n == "3"}}]', False),
        ("[{alert: {source: falco, when: '\"shell\" in alert.tags'}}]", True),
        ('[{alert: {source: falco, when: alert.time > timestamp("2020-01-01T00:00:00Z")}}]', True),
        ("[{alert: {source: falco, rule: x}}, {alert: {source: falco, rule: Shell}}]", True),
    ],
)  # fmt: skip
def test_an_alert_starts_what_fits_and_nothing_that_only_seems_to(
    trigger: str, starts: bool
) -> None:
    """What is missing is never a match, not even when it is negated."""
    index = Index([playbook("a", trigger)])
    assert [one.name for one in index.match(alert())] == ["a"] * starts
    (why,) = index.explain(alert())
    assert why.starts is starts


@pytest.mark.parametrize("kind", [kind for kind in AlertKind if not kind.may_start])
def test_only_detections_and_vulnerabilities_start_anything(kind: AlertKind) -> None:
    """A health report or a test alert is stored and shown, no more."""
    index = Index([playbook("a", "[{alert: {source: falco}}]")])
    assert index.match(alert(kind=kind)) == []
    (why,) = index.explain(alert(kind=kind))
    assert f"kind {kind.value}" in why.reason


def test_playbooks_start_in_the_order_given_and_once_each() -> None:
    """Two triggers that fit are still one run."""
    names = ["c", "a", "b"]
    trigger = "[{alert: {source: falco, rule: Shell}}, {alert: {source: falco, rule: She*}}]"
    index = Index([playbook(name, trigger) for name in names])
    assert [one.name for one in index.match(alert())] == names


def test_the_explanation_shows_every_part_with_its_value() -> None:
    """Also the parts that evaluation skipped, and what was missing."""
    when = 'alert.severity >= severity.critical && alert.labels.team == "web"'
    index = Index([playbook("a", f"[{{alert: {{source: falco, when: '{when}'}}}}]")])
    (why,) = index.explain(alert())
    tree = why.to_json()["triggers"][0]["condition"]
    first, second = tree["children"]
    assert (tree["value"], first["value"]) == (False, False)
    assert [(one["text"], one["value"]) for one in first["children"]] == [
        ("alert.severity", 4),
        ("severity.critical", 5),
    ]
    assert second["missing"] == "alert.labels.team"
    assert "value" not in second
    assert "alert.severity >= severity.critical is false" in why.reason
    condition = why.triggers[0].condition
    assert condition is not None
    assert condition.absent() == ("alert.labels.team",)


def test_the_explanation_names_source_and_rule_when_they_differ() -> None:
    """The nearest miss of several triggers is the one that is told."""
    index = Index([playbook("a", "[{alert: {source: falco, rule: [x, y*]}}]")])
    assert index.explain(alert())[0].reason.endswith('rule is "Shell", wanted "x", "y*"')
    assert 'source is "pagerduty"' in index.explain(alert(source="pagerduty"))[0].reason
    hand = Index([playbook("b", "[{manual: }]")])
    assert hand.explain(alert())[0].reason == "it is started by hand only"


def test_vars_are_known_to_conditions() -> None:
    """A playbook's own values can be compared with the alert's."""
    text = """\
playbook: a
on: [{alert: {source: falco, when: alert.target.namespace in vars.spaces}}]
vars: {spaces: [shop, pay]}
steps: {s: {use: chat.post, with: {text: x}}}
"""
    assert Index([load_text(text, "a.yaml", CATALOGUE)]).match(alert())


def test_a_thousand_playbooks_cost_what_one_does() -> None:
    """Triggers are indexed: those of other rules are not looked at."""
    when = "alert.severity >= severity.medium && alert.target.pod != ''"
    mine = playbook("mine", f'[{{alert: {{source: falco, rule: [Shell, Fi*], when: "{when}"}}}}]')
    shape = f'[{{alert: {{source: falco, rule: [Rule #, "Xx#*"], when: "{when}"}}}}]'
    others = [playbook(f"p{n}", shape.replace("#", str(n))) for n in range(999)]
    one, many = Index([mine]), Index([*others, mine])
    said = alert()
    assert [found.name for found in many.match(said)] == ["mine"]
    # The best of pairs: another process may disturb any single one.
    ratios = [_cost(many, said) / _cost(one, said) for _ in range(7)]
    assert min(ratios) <= 1.1, ratios


def _cost(index: Index, said: Alert) -> float:
    begin = time.process_time()
    for _ in range(3000):
        index.match(said)
    return time.process_time() - begin


def test_the_environment_leaves_out_what_is_not_known() -> None:
    """An empty time is missing, an empty name is the empty text, a given None is missing."""
    env = environment(alert=alert(time=0), inputs={"pod": None, "n": Severity.LOW}, run={"id": "r"})
    assert "time" not in env["alert"]
    assert env["target"]["workload"] == ""
    assert env["inputs"] == {"n": 2}
    assert "steps" not in env
    resolved = environment(alert=alert(), target=Target(pod="web-2"))
    assert resolved["target"]["pod"] == "web-2"
    assert resolved["alert"]["target"]["pod"] == "web-1"


def test_the_incident_key_takes_parts_of_target_and_alert() -> None:
    """Parts that are not known are empty, never left out."""
    text = """\
playbook: a
on: [{alert: {source: falco}}]
incident: {key: [cluster, workload, rule]}
steps: {s: {use: chat.post, with: {text: x}}}
"""
    made = load_text(text, "a.yaml", CATALOGUE)
    assert incident_key(made, alert()) == ("prod", "", "Shell")
