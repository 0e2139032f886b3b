"""Read the scenarios: what is there, who is isolated, and what must come of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
WAYS = ("in friend", "in outside", "out friend", "out outside")
OWNERS = {"custom": "ConfigMap"}  # a controller of a kind that nobody knows
MODES = ("none", "survive", "strict")
# what a scenario may expect of a verdict, and its level
WORDS = {
    "proven": "proven",
    "enforced": "enforced",
    "open flow": "residual",
    "not enforced": "residual",
    "allows in": "residual",
    "allows out": "residual",
    "allows both": "residual",
}


@dataclass(frozen=True)
class Scenario:
    """One scenario. `packets` says for each way whether a new connection must get through."""

    name: str
    owner: str
    labels: dict[str, str]
    policies: list[Json]
    plan: str  # strip | add | refuse
    later: list[Json] = field(default_factory=list)
    packets: dict[str, str] = field(default_factory=dict)
    # with packets a word of `WORDS` for each behaviour, else the level without any probe
    verdict: str | Mapping[str, str] = ""
    held: str = ""  # the connection held open by the friend, when all is enforced; as `in friend`

    @property
    def open(self) -> bool:
        """Whether something is still allowed, by the expectation."""
        return self.verdict == "residual" or "open" in self.packets.values()

    def word(self, mode: str) -> str:
        """What is expected of the verdict in one behaviour."""
        assert isinstance(self.verdict, Mapping), self.name
        return self.verdict[mode]

    def holds(self, mode: str) -> bool:
        """Whether a connection is open when it is isolated; where it lives on, no proof can be."""
        return mode != "survive" or WORDS[self.word(mode)] == "residual"

    def written(self, **words: str) -> tuple[list[Json], list[Json]]:
        """The policies of before and of later, with `$OUTSIDE` and `$SOURCE` filled in."""
        text = json.dumps([self.policies, self.later])
        for word, value in words.items():
            text = text.replace(f"${word}", value)
        before, later = json.loads(text)
        return before, later


def scenarios() -> list[Scenario]:
    """Every scenario of the files beside this one; an unknown key is an error."""
    found = []
    for file in sorted(Path(__file__).parent.glob("*.yaml")):
        found += [Scenario(**entry) for entry in yaml.safe_load(file.read_text())["scenarios"]]
    return found
