"""Rules of Falco Talon: each becomes a playbook that loads and starts, or is refused with a reason.

The rules here are our own; recorded ones are read where they lie, when they are there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from responder.cli.root import cli
from responder.errors import ConfigError
from responder.model import Alert, Mode
from responder.playbook.definition import Playbook
from responder.playbook.loading import load_text, load_words
from responder.playbook.matching import Index
from responder.playbook.talon import Import, Imported, convert
from responder.ports import HookInfo
from responder.wiring.known import catalogue, sources
from tests.doubles.corpus import corpus

ACTIONS, SOURCES = catalogue(), sources()
CONFIG = "listen_port: '2803'\n"
BLOCKS = """
- action: Kill
  actionner: kubernetes:terminate
  parameters: {grace_period_seconds: 5, ignore_standalone_pods: true}
"""
RULE = """
- rule: Ours
  match: MATCH
  actions:
    - action: Look
      actionner: kubernetes:log
"""
EXEC = "[{action: Run, actionner: 'kubernetes:exec', parameters: {command: id}}]"


def imported(*texts: str) -> Import:
    """What becomes of these files."""
    return convert([(f"{n}.yaml", load_words(text, f"{n}.yaml")) for n, text in enumerate(texts)])


def only(*texts: str) -> Imported:
    """What becomes of the only rule of these files."""
    [one] = imported(*texts).rules
    return one


def loaded(one: Imported) -> Playbook:
    """The playbook, which must load without a fault."""
    assert one.text, one.refused
    return load_text(one.text, f"{one.name}.yaml", ACTIONS, frozenset(SOURCES))


def with_match(match: str) -> str:
    """A rule file with one rule that matches so."""
    return RULE.replace("MATCH", match)


def with_actions(actions: str, more: str = "") -> str:
    """A rule file with one rule that does so."""
    return f"- rule: Ours\n  match: {{rules: [R]}}\n  actions: {actions}\n{more}"


def event(**changes: Any) -> Alert:
    """What Falco says, as its source reads it."""
    said = {
        "rule": "R",
        "priority": "Warning",
        "output": "x",
        "time": "2026-01-01T00:00:00Z",
        "source": "syscall",
        "tags": ["a", "b"],
        "output_fields": {"k8s.ns.name": "shop", "k8s.pod.name": "web-1", "proc.tty": 34816},
    } | changes
    [alert] = SOURCES["falco"].parse(
        {}, json.dumps(said).encode(), HookInfo(name="h", source="falco")
    )
    return alert


def starts(one: Imported, alert: Alert) -> bool:
    """Whether the playbook starts on an alert."""
    return bool(Index([loaded(one)]).match(alert))


@pytest.mark.parametrize(
    ("match", "fits", "misses"),
    [
        ("rules: [R, S]", {}, {"rule": "T"}),
        ("rules: ['R*']", {"rule": "R*"}, {"rule": "Rx"}),
        ("priority: '>=Warning'", {"priority": "CRITICAL"}, {"priority": "Notice"}),
        ("priority: '<Notice'", {"priority": "Info"}, {"priority": "Notice"}),
        ("priority: Error", {"priority": "Error"}, {"priority": "Critical"}),
        ("source: syscall", {}, {"source": "k8s_audit"}),
        ("tags: ['a, b', c]", {}, {"tags": ["a"]}),
        ("tags: ['a, b', c]", {"tags": ["c"]}, {"tags": ["b"]}),
        ("output_fields: ['proc.tty=34816']", {}, {"output_fields": {"k8s.pod.name": "p"}}),
        (
            "output_fields: ['k8s.ns.name!=a, k8s.ns.name!=b']",
            {},
            {"output_fields": {"k8s.ns.name": "b", "k8s.pod.name": "p"}},
        ),
        ("rules: [R]", {}, {"output_fields": {"k8s.ns.name": "shop"}}),
    ],
)
def test_what_talon_matches_starts_the_playbook_and_nothing_else_does(
    match: str, fits: dict[str, Any], misses: dict[str, Any]
) -> None:
    """Names exactly, priorities in Falco's order, and/or as Talon has them, always with a pod."""
    one = only(with_match(f"{{{match}}}"))
    assert starts(one, event(**fits))
    assert not starts(one, event(**misses))


def test_a_condition_that_talon_drops_counts_here() -> None:
    """A value with "=" makes Talon fit every event; here it is compared, and it is said."""
    one = only(with_match("{output_fields: ['proc.cmdline=curl --data a=b']}"))
    fields = {"k8s.ns.name": "shop", "k8s.pod.name": "web-1"}
    assert starts(one, event(output_fields={**fields, "proc.cmdline": "curl --data a=b"}))
    assert not starts(one, event(output_fields={**fields, "proc.cmdline": "curl"}))
    assert not starts(one, event())
    assert any("fits every event" in warning for warning in one.warnings)


def test_a_missing_field_is_not_unequal() -> None:
    """Talon lets `!=` hold without the field; here an unknown namespace starts nothing."""
    one = only(with_match("{output_fields: ['k8s.ns.name!=kube-system']}"))
    assert not starts(one, event(output_fields={"k8s.pod.name": "web-1"}))
    assert any("without the field too" in warning for warning in one.warnings)


@pytest.mark.parametrize(
    ("match", "reason"),
    [
        ("{}", "matches every event"),
        ("{rule: [R]}", "no match of Talon"),
        ("{priority: '>=Loud'}", "none of Falco's"),
        ("{priority: '>Emergency'}", "no event has"),
        ("{output_fields: ['proc.cmdline=a, b']}", "cannot be read for sure"),
        ("{tags: ['a,']}", "cannot be read for sure"),
        ("{rules: {a: b}}", "not a list of texts"),
    ],
)
def test_a_match_that_is_not_sure_refuses_the_rule(match: str, reason: str) -> None:
    """Better no playbook than one that fits more than its author thinks."""
    one = only(with_match(match))
    assert (one.text, reason in one.refused) == ("", True), one.refused


def test_a_pod_is_recorded_and_isolated_before_it_is_deleted() -> None:
    """Terminate in three steps, asked for, and only where Talon would have acted too."""
    made = loaded(only(BLOCKS + with_actions("[{action: Kill}]")))
    assert [step.use for step in made.steps.values()] == [
        "kubernetes.snapshot",
        "kubernetes.quarantine_pod",
        "kubernetes.delete_pod",
    ]
    assert made.mode is Mode.APPROVE
    remove = made.steps["remove"].condition
    assert remove is not None
    assert remove.truth({"target": {"workload": "Deployment/web"}})
    assert not remove.truth({"target": {"workload": ""}})


def test_only_what_is_safe_is_taken_from_a_list_of_actions() -> None:
    """The command is left out with a word; what Talon would never come to is left out too."""
    actions = f"{EXEC[:-1]}, {{action: Mark, actionner: 'kubernetes:label', parameters: "
    actions += "{labels: {suspicious: true}, force: true}}, {action: Kill}, {action: Late}]"
    one = only(BLOCKS + with_actions(actions))
    made = loaded(one)
    assert list(made.steps) == ["snapshot", "mark", "isolate", "remove"]
    env = {"target": {"pod": "shop/web-1"}}
    assert made.steps["mark"].params.render(env) == {
        "pod": "shop/web-1",
        "labels": {"suspicious": "true"},
    }
    told = "\n".join(one.warnings)
    assert "left out: Run (kubernetes:exec)" in told
    assert 'ignores the parameter "force"' in told
    assert "ends the list at Kill; left out: Late" in told


@pytest.mark.parametrize(
    "actionner",
    [
        "kubernetes:exec", "kubernetes:script", "kubernetes:delete", "kubernetes:drain",
        "aws:lambda", "gcp:function", "kubernetes:unheard-of", "",
    ],
)  # fmt: skip
def test_what_has_no_safe_equal_is_refused(actionner: str) -> None:
    """With the reason, and no playbook at all when nothing else is left."""
    one = only(with_actions(f"[{{action: Do, actionner: '{actionner}'}}]"))
    assert one.text == ""
    assert one.refused.startswith("Do (")


def test_a_rule_for_show_plans_only_and_the_rest_of_it_is_told() -> None:
    """dry_run, continue, notifiers: each has a word."""
    more = "  dry_run: true\n  continue: false\n  notifiers: [slack]\n  loud: true\n"
    one = only(BLOCKS + with_actions("[{action: Kill}]", more))
    assert loaded(one).mode is Mode.OBSERVE
    told = "\n".join(one.warnings)
    for word in ("dry_run", "no later rule", "slack", '"loud" is no key'):
        assert word in told


def test_a_later_file_adds_to_an_action_and_never_widens_a_rule() -> None:
    """Parameters are joined; Talon would forget the priority of the rule stated again."""
    first = BLOCKS + with_match("{rules: [R], priority: Critical}")
    again = "- {action: Kill, parameters: {ignore_daemonsets: true}}\n"
    again += "- {rule: Ours, match: {rules: [S]}, actions: [{action: Kill}]}\n"
    one = only(first, again)
    assert starts(one, event(rule="S", priority="Critical"))
    assert not starts(one, event(rule="S"))
    assert not starts(one, event(priority="Critical"))
    condition = loaded(one).steps["isolate"].condition
    assert condition is not None
    assert not condition.truth({"target": {"workload": "DaemonSet/agent"}})
    assert any("Talon forgets priority" in warning for warning in one.warnings)


def test_no_text_of_a_rule_breaks_out_of_the_playbook() -> None:
    """Quotes, line breaks of every kind and expressions stay text, or the rule is refused."""
    nasty = 'x"\n\u2028\u0085- mode: enforce # ${{ run.id }} \\ é 🐙'
    keys = {
        "rule": nasty,
        "description": "says \x07",
        "match": {"rules": [nasty], "tags": ['"] || true || ["']},
        "actions": [{"action": nasty, "actionner": "kubernetes:log", nasty: "x"}],
    }
    [one] = convert([("f", [keys])]).rules
    made = loaded(one)
    assert (made.mode, list(made.steps)) == (Mode.APPROVE, ["snapshot"])
    assert made.triggers[0].rules == ((nasty,) if "*" not in nasty else ())
    assert not starts(one, event())
    label = {"action": "M", "actionner": "kubernetes:label"}
    marks = {**label, "parameters": {"labels": {"a": "${{ run.id }}"}}}
    [refused] = convert([("f", [{**keys, "actions": [marks]}])]).rules
    assert "expression" in refused.refused


def test_two_rules_whose_names_look_alike_keep_files_of_their_own() -> None:
    """A number tells them apart; no file goes over another."""
    rules = with_match("{rules: [R]}") + with_match("{rules: [S]}").replace("Ours", "Ours!")
    assert [one.name for one in imported(rules).rules] == ["talon-ours", "talon-ours-2"]


def test_what_is_no_rule_file_is_said_so() -> None:
    """Talon's own configuration; broken YAML; something nested beyond reason."""
    for text in (CONFIG, "a: [", "[" * 100_000):
        with pytest.raises(ConfigError, match=r"0\.yaml"):
            imported(text)


def test_the_command_writes_files_that_lint_clean(tmp_path: Path) -> None:
    """Files into a folder, warnings beside; nothing is replaced unasked; exit 1 for nothing."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(BLOCKS + with_actions("[{action: Kill}]"))
    into = tmp_path / "out"
    line = ["playbook", "import-talon", str(rules)]
    done = CliRunner().invoke(cli, [*line, "--into", str(into)])
    assert done.exit_code == 0, done.output
    assert [file.name for file in into.iterdir()] == ["talon-ours.yaml"]
    assert 'parameter "grace_period_seconds" has no equal' in done.output
    assert CliRunner().invoke(cli, ["playbook", "lint", str(into)]).exit_code == 0
    again = CliRunner().invoke(cli, [*line, "--into", str(into)])
    assert (again.exit_code, "is there already" in again.output) == (1, True)
    assert CliRunner().invoke(cli, [*line, "--into", str(into), "--force"]).exit_code == 0
    shown = CliRunner().invoke(cli, line)
    assert "playbook: talon-ours" in shown.stdout
    rules.write_text(with_actions(EXEC))
    nothing = CliRunner().invoke(cli, line)
    assert (nothing.exit_code, "REFUSED" in nothing.output) == (1, True)


# --------------------------------------------------------------------------- recorded rules


def recorded() -> Path:
    """The folder of recorded rules and events; skips when there is none."""
    folder = corpus()
    if folder is None or not (folder / "falco-talon").is_dir():
        pytest.skip("no recorded rules: set RESPONDER_CORPUS to their folder")
    return folder / "falco-talon"


REFUSED = {
    "Delete unknown namespace": "kubernetes:delete",
    "Delete namespace": "kubernetes:delete",
    "Test exec": "kubernetes:exec",
}
EVENTS = {
    "Terminal shell in container": {
        "falco-terminal-shell-2021.json",
        "falco-terminal-shell-2023.json",
        "falco-terminal-shell-deployment-pod-2021.json",
        "falco-terminal-shell-null-image-2021.json",
    }
}


@pytest.mark.parametrize("files", [["talon-rules"], ["talon-rules", "talon-rules_override"]])
def test_every_recorded_rule_is_a_playbook_or_refused_with_its_reason(files: list[str]) -> None:
    """The refused ones are known by name; all others load."""
    folder = recorded() / "rules"
    found = imported(*[(folder / f"{name}.yaml").read_text() for name in files])
    assert len(found.rules) == 11
    refused = {one.rule: one.refused for one in found.rules if not one.text}
    assert refused.keys() == REFUSED.keys()
    assert all(REFUSED[rule] in reason for rule, reason in refused.items())
    for one in found.rules:
        print(f"{one.rule}: {one.name or one.refused} ({len(one.warnings)} warnings)")
        if one.text:
            loaded(one)


def test_recorded_events_start_the_playbooks_of_their_rules() -> None:
    """Those that were recorded for a rule, and no other; each other rule by an event of ours."""
    found = imported((recorded() / "rules/talon-rules.yaml").read_text())
    index = Index([loaded(one) for one in found.rules if one.text])
    started: dict[str, set[str]] = {}
    for file in sorted((recorded() / "events").glob("*.json")):
        hook = HookInfo(name="h", source="falco")
        for alert in SOURCES["falco"].parse({}, file.read_bytes(), hook):
            for playbook in index.match(alert):
                started.setdefault(playbook.name, set()).add(file.name)
    names = {one.rule: one.name for one in found.rules}
    assert started == {names[rule]: files for rule, files in EVENTS.items()}
    for playbook in index.playbooks:
        [rule] = playbook.triggers[0].rules
        assert playbook in index.match(event(rule=rule))


def test_recorded_files_without_rules_are_told_apart() -> None:
    """Actions alone make no playbook; Talon's own configuration is no rule file."""
    folder = recorded() / "rules"
    assert imported((folder / "chart-default-rules.yaml").read_text()).rules == ()
    with pytest.raises(ConfigError):
        imported((folder / "talon-config_example.yaml").read_text())


@pytest.mark.parametrize(("number", "word"), [(1, "Test Terminate"), (2, "Test Label")])
def test_recorded_examples_start_what_a_rule_of_their_name_becomes(number: int, word: str) -> None:
    """Talon's own example calls, whose key is `Rule`, against rules written for them."""
    [file] = (recorded() / "events").glob(f"talon-example-0{number}-*.json")
    [alert] = SOURCES["falco"].parse({}, file.read_bytes(), HookInfo(name="h", source="falco"))
    one = only(BLOCKS + f"- rule: T\n  match: {{rules: [{word}]}}\n  actions: [{{action: Kill}}]")
    assert starts(one, alert)
