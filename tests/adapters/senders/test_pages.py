"""What a page says of a path is true: the alert changes when that path does, and only then.

Most senders are read by their tables, so this could hardly fail for them; for those that are read
by hand (Falco, Alertmanager, PagerDuty, generic) it is what keeps page and code together.
"""

from __future__ import annotations

from typing import Any

import pytest

from responder.model import Severity
from tests.adapters.senders.parts import changed, parsed, sample
from tests.docs.senders import pages

BY_HAND = ("alertmanager", "falco", "generic", "pagerduty")
CID = "00aa11bb22cc00aa11bb22cc00aa11bb22cc00aa11bb22cc00aa11bb22cc0011"
OTHER: dict[str, str] = {
    "container_id": CID,
    "image": "registry.example/other/thing",
    "digest": "sha256:" + "9" * 64,
    "workload": "StatefulSet/other",
}


def at_item(name: str, path: str) -> str:
    """A path of the table as a path of the sample, whose items may lie in a list."""
    return f"alerts/0/{path}" if name == "alertmanager" else path


def without(name: str, paths: tuple[str, ...]) -> Any:
    """The sample with none of these paths."""
    payload = sample(name)
    for path in paths:
        payload = changed(payload, {at_item(name, path): ...})
    return payload


CASES = [
    (name, part, path)
    for name in BY_HAND
    for part, paths in pages()[name].mapping.target.items()
    for path in paths
]


@pytest.mark.parametrize(("name", "part", "path"), CASES, ids=[" ".join(case) for case in CASES])
def test_each_path_of_a_target_names_that_part(name: str, part: str, path: str) -> None:
    """Alone among the paths of its part, it is what the alert says."""
    paths = pages()[name].mapping.target[part]
    wanted = OTHER.get(part, f"other-{part.replace('_', '-')}")
    [alert] = parsed(name, changed(without(name, paths), {at_item(name, path): wanted}))

    assert getattr(alert.target, part).partition(":")[0] == wanted.partition(":")[0]


@pytest.mark.parametrize("name", BY_HAND)
def test_the_first_path_of_a_part_wins(name: str) -> None:
    """In the order of the page."""
    for part, paths in pages()[name].mapping.target.items():
        values = {
            at_item(name, path): OTHER.get(part, f"choice-{number}")
            for number, path in enumerate(paths)
        }
        if part in OTHER:
            continue
        [alert] = parsed(name, changed(without(name, paths), values))
        assert getattr(alert.target, part) == "choice-0", part


@pytest.mark.parametrize("name", BY_HAND)
def test_severities_and_summary_are_where_the_page_says(name: str) -> None:
    """Every word of the table, and the first summary."""
    table = pages()[name].mapping
    for word, severity in table.severities.items():
        given = word.title() if isinstance(word, str) else word
        [alert] = parsed(name, changed(sample(name), {at_item(name, table.severity[0]): given}))
        assert alert.severity is severity, word
    [alert] = parsed(name, changed(sample(name), {at_item(name, table.severity[0]): "no such"}))
    assert alert.severity is Severity.UNKNOWN
    for path in table.summary:
        payload = changed(without(name, table.summary), {at_item(name, path): "said so"})
        [alert] = parsed(name, payload)
        assert alert.summary == "said so", path


@pytest.mark.parametrize("name", BY_HAND)
def test_every_part_of_a_fingerprint_counts(name: str) -> None:
    """Another value at any of its paths is another statement."""
    [alert] = parsed(name, sample(name))
    for path in pages()[name].mapping.fingerprint:
        given = "2026-01-01T00:00:00Z" if path == "startsAt" else "something else"
        [other] = parsed(name, changed(sample(name), {at_item(name, path): given}))
        assert other.fingerprint != alert.fingerprint, path
