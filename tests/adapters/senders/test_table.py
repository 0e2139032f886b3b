"""Every recorded payload becomes exactly what the project's own table says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from responder.model import AlertKind
from tests.adapters.senders import table
from tests.adapters.sources.parts import corpus_files, corpus_root

TABLES = table.read()
# A template whose variables nobody filled in, and a placeholder where base64 must stand.
UNREADABLE = {
    "cloudevents/batch-two-events.json",
    "cloudevents/structured-data_base64-placeholder-invalid-base64.json",
    "datadog/template-unrendered-variables.json",
}


def rows() -> list[tuple[str, str, dict[str, Any]]]:
    """Folder, file, and what is said of it."""
    return [
        (folder, name, said)
        for folder, content in TABLES.items()
        for name, said in content["files"].items()
    ]


@pytest.mark.parametrize(
    ("folder", "name", "said"), rows(), ids=[f"{folder}/{name}" for folder, name, _ in rows()]
)
def test_a_recorded_payload_becomes_what_the_table_says(
    folder: str, name: str, said: dict[str, Any]
) -> None:
    """Kind, severity, rule, target, time, fingerprint, acted on or not, and why."""
    root = corpus_root()
    if root is None:
        pytest.skip("no recorded payloads: set RESPONDER_CORPUS to their folder")
    assert table.rows(said["source"], root / "alerts" / folder / name) == said["alerts"]


@pytest.mark.parametrize("path", corpus_files("alerts"))
def test_every_recorded_payload_is_in_the_table(path: Path) -> None:
    """Nothing recorded is left out."""
    folder = path.parent.name
    if folder in table.OTHER_DOORS:
        return
    assert path.name in TABLES[folder]["files"]


def test_nothing_is_unreadable_that_is_an_alert() -> None:
    """The table itself has no alert of kind unparsed but for the payloads named here."""
    unparsed = {
        f"{folder}/{name}"
        for folder, name, said in rows()
        if said["alerts"] != "refused"
        and any(one["kind"] == AlertKind.UNPARSED for one in said["alerts"])
    }
    assert unparsed == UNREADABLE


def test_only_what_says_nothing_is_refused() -> None:
    """`{"kind": 0}` is no audit event."""
    refused = {f"{folder}/{name}" for folder, name, said in rows() if said["alerts"] == "refused"}

    assert refused == {"k8s-audit/malformed-kind-is-a-number.json"}


def test_what_acts_has_a_rule_and_what_does_not_has_a_reason() -> None:
    """So that a person who asks why nothing happened is told."""
    for folder, name, said in rows():
        for one in said["alerts"] if said["alerts"] != "refused" else ():
            assert one["acts"] is AlertKind(one["kind"]).may_start, (folder, name)
            assert one["rule"] if one["acts"] else one["why"], (folder, name)


# What the corpus calls a test, a health record, telemetry, blocked or ended, by file name.
STARTS_NOTHING: tuple[str, ...] = (
    "test-rule",
    "untemplated",
    "internal-",
    "drops-bucketed",
    "resolved-single",
)
STARTS_NOTHING += (
    "resolved-unicode",
    "test-alert",
    "no-data-no-alerts",
    "telemetry",
    "-block",
    "init-record",
)
STARTS_NOTHING += (
    "process_exit",
    "default-posture",
    "healthy",
    "no-matches",
    "no-vuln",
    "crd-none",
)
STARTS_NOTHING += ("request-received", "incident-resolved", "workflow-completed", "golden-empty")
STARTS_NOTHING += ("ec2-c2-dns", "iam-user", "guardduty-finding-in-eventbridge", "confirmation")
STARTS_NOTHING += ("unrendered", "placeholder", "cloud_defend", "okta", "quota", "replication")
STARTS_NOTHING += (
    "retention",
    "failed-default",
    "stopped",
    "push",
    "pull",
    "cancelled",
    "acknowledge",
)


@pytest.mark.parametrize("word", STARTS_NOTHING)
def test_what_the_corpus_says_must_not_act_does_not(word: str) -> None:
    """Independent of how the table was written: the file's name tells what it is."""
    for folder, name, said in rows():
        if word in name:
            assert [one for one in said["alerts"] if one["acts"]] == [], (folder, name)
