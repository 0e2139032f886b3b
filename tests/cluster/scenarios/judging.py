"""Judge a scenario: what connections did, against what was expected and what the verdict says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from responder.model import Verdict
from tests.cluster.scenarios.reading import WAYS, WORDS, Scenario

__all__ = ["Played"]

_UNENFORCED = "not enforced: this cluster enforces no NetworkPolicy; the pod is not isolated"


@dataclass(frozen=True)
class Played:
    """One scenario in one behaviour: the verdict, and what really happened."""

    one: Scenario
    mode: str
    verdict: Verdict
    seen: dict[str, str]
    held: bool | None  # whether the held connection goes on; None: none was open

    @property
    def faults(self) -> list[str]:
        """What is wrong; nothing when verdict, expectation and connections agree."""
        return [*self._packets(), *self._level(), *self._reasons()]

    def _packets(self) -> Iterator[str]:
        """Connections do what the scenario says."""
        open_ = dict.fromkeys(WAYS, "open")
        if self.seen != (open_ if self.mode == "none" else self.one.packets):
            yield "packets"
        lives = self.mode != "strict" or (self.one.held or self.one.packets["in friend"]) == "open"
        if self.held is not None and self.held is not lives:
            yield "held connection"

    def _level(self) -> Iterator[str]:
        """The level is the expected one, and never better than the connections."""
        level = self.verdict.level.value
        if level != WORDS[self.one.word(self.mode)]:
            yield f"expected {self.one.word(self.mode)}"
        if level != "residual" and ("open" in self.seen.values() or self.held):
            yield "called better than it is"
        if level == "residual" and "open" not in self.seen.values() and not self.held:
            yield "called worse than it is"

    def _reasons(self) -> Iterator[str]:
        """Each reason is given where it is true, and nowhere else."""
        enforced = self.mode != "none"
        if (self.verdict.residual[:1] == (_UNENFORCED,)) is enforced:
            yield "not enforced"
        for way, word in {"in": "ingress", "out": "egress"}.items():
            ends = [self.seen[f"{way} {end}"] for end in ("friend", "outside")]
            if enforced and self._says(f" still allows {word}") is not ("open" in ends):
                yield word
        if self._says("a new connection got through") and "open" not in self.seen.values():
            yield "got through"
        if self.tried and self._says("open flow ") is not bool(self.held):
            yield "open flow"
        if self.verdict.level.value == "enforced" and not self._says("may live on"):
            yield "why it is not proven"

    def _says(self, text: str) -> bool:
        return any(text in line for line in self.verdict.residual)

    @property
    def tried(self) -> bool:
        """Whether packets were tried, and the try worked."""
        return "the control got through" in self.verdict.checks.get("packets", "")

    @property
    def line(self) -> str:
        """For the table."""
        told = " ".join(f"{self.seen[way]:4}" for way in WAYS)
        held = {None: "-", True: "lives", False: "cut"}[self.held]
        wrong = self.faults
        state = f"WRONG ({', '.join(wrong)})" if wrong else "ok"
        proof = "tried" if self.tried else "-"
        return (
            f"{self.mode:8}{self.one.name:66}{self.one.word(self.mode):13}"
            f"{self.verdict.level.value:9} {told}  held {held:6}{proof:6}{state}"
        )
