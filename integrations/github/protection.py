"""GitHub asks whether a run may deploy to a protected environment: the question, and the verdict.

The question is a webhook (`deployment_protection_rule`) with an address to answer at. The address
is never called as it stands: host, repository and run are taken out of it and held against the
configuration, and the answer goes where our own API client goes.

What a delivery says of digests (the deployment's payload, anybody's who may write there) is a
claim. A claim may reject and never approve: approved is only a run that a step of ours has started,
or that the push of a merge of ours has, once the gate of that incident has let its image through.
(A run that somebody dispatches at the same commit may deploy anything, so it is nobody's of ours.)
https://docs.github.com/en/webhooks/webhook-events-and-payloads#deployment_protection_rule
https://docs.github.com/en/actions/how-tos/deploy/configure-and-manage-deployments/create-custom-protection-rules
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from integrations.github.deployments import payload_of
from responder.errors import StepFailed
from responder.model import Alert, AlertKind, Severity, Target, digest_of
from responder.ports import Known
from responder.text import for_terminal

__all__ = ["EVENT", "RULE", "Ruling", "place_of", "question", "ruling"]

EVENT = "deployment_protection_rule"
RULE = "deployment waits"
APPROVED, REJECTED, WAIT, NONE = "approved", "rejected", "wait", "none"

_PATH = re.compile(
    r"/repos/([A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100})"
    r"/actions/runs/([0-9]{1,19})/deployment_protection_rule",
    re.ASCII,
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_DIGESTS_MAX = 20
_CALLBACK_MAX = 1000
_NAME_MAX = 255  # of an environment


def place_of(callback: str, base_url: str) -> tuple[str, int]:
    """Repository and run of a callback at our own API; raises `StepFailed` for another address."""
    try:
        asked, own = urlsplit(callback), urlsplit(base_url)
        same = (asked.scheme, asked.netloc.lower()) == (own.scheme, own.netloc.lower())
    except ValueError:
        same = False
    plain = callback.isascii() and callback.isprintable() and len(callback) <= _CALLBACK_MAX
    if not same or not plain or asked.query or asked.fragment:
        raise StepFailed("the callback's address is not at the API of any [forges] of kind github")
    found = _PATH.fullmatch(asked.path.removeprefix(own.path))
    if not asked.path.startswith(own.path) or not found or {".", ".."} & set(found[1].split("/")):
        raise StepFailed("the callback's address is none of a deployment protection rule")
    return found[1], int(found[2])


def question(data: Mapping[str, Any]) -> Alert | None:
    """An authentic delivery as the alert that a playbook may answer; nothing where it asks nothing.

    Nothing of it is checked here but its shape: `place_of` and the API do that when it is answered.
    """
    about = _table(data.get("deployment"))
    callback, environment = data.get("deployment_callback_url"), data.get("environment")
    repo = _table(data.get("repository")).get("full_name")
    if data.get("action") != "requested" or not isinstance(repo, str):
        return None
    if not isinstance(callback, str) or not isinstance(environment, str):
        return None
    where = for_terminal(f"{repo[:200]} {environment[:_NAME_MAX]}", 300)
    return Alert(
        source="github",
        kind=AlertKind.DETECTION,
        rule=RULE,
        severity=Severity.INFO,
        summary=f"a deployment waits for a verdict: {where}",
        time=0,
        fingerprint=digest_of([callback, environment, about.get("id")])[:32],
        target=Target(host=f"github:{where} {_run_in(callback)}"),
        fields={
            "callback": callback[:_CALLBACK_MAX],
            "environment": environment[:_NAME_MAX],
            "repository": repo[:201],
            "commit": str(about.get("sha") or "")[:64],
            "digests": list(dict.fromkeys(_digests(payload_of(about))))[:_DIGESTS_MAX],
        },
    )


def _run_in(callback: str) -> str:
    found = re.search(r"/runs/([0-9]{1,19})/", callback)
    return f"run {found[1]}" if found else "no run"


def _digests(value: Any, depth: int = 0) -> Iterator[str]:
    """Every digest that a payload names, wherever; not deeper than a person would write it."""
    if isinstance(value, str):
        yield from _DIGEST.findall(value[:4096])
    elif isinstance(value, Mapping | list) and depth < 4:  # noqa: PLR2004
        items = value.values() if isinstance(value, Mapping) else value
        for item in list(items)[:100]:
            yield from _digests(item, depth + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What is answered, and why in our own words; `incident` 0: none of ours has to do with it."""

    answer: str  # approved | rejected | wait | none
    why: str
    incident: int = 0


def ruling(claims: Sequence[str], known: Known, *, undecided: str = "wait") -> Ruling:
    """The verdict. Pure; a claim of others rejects at most, and an unknown run stays unanswered."""
    digests = [digest for digest in claims if _DIGEST.fullmatch(digest)]
    for digest in digests:
        if number := known.blocked.get(digest):
            why = f"{digest} is blocked or being replaced by incident {number}"
            return Ruling(answer=REJECTED, why=why, incident=number)
        if number := known.refused.get(digest):
            why = f"the gate of incident {number} refused {digest}"
            return Ruling(answer=REJECTED, why=why, incident=number)
    if not known.tied:
        why = "no open incident started this run or merged its commit, so it is not ours to answer"
        return Ruling(answer=NONE, why=why)
    return _of_ours(digests, known, undecided)


def _of_ours(digests: Sequence[str], known: Known, undecided: str) -> Ruling:
    number = known.tied[0]
    mine = {digest for digest, whose in known.passed.items() if whose in known.tied}
    if refused := [d for d, whose in known.refused.items() if whose in known.tied]:
        why = f"the gate of incident {known.refused[refused[0]]} refused {refused[0]}"
        return Ruling(answer=REJECTED, why=why, incident=known.refused[refused[0]])
    if known.ungated or not mine:
        number = (known.ungated or known.tied)[0]
        answer = REJECTED if undecided == "reject" else WAIT
        return Ruling(
            answer=answer, why=f"the gate of incident {number} has not passed", incident=number
        )
    if strange := [digest for digest in digests if digest not in mine]:
        why = f"it says that it deploys {strange[0]}, which no gate of ours has let through"
        return Ruling(answer=NONE, why=why, incident=number)
    passed = min(mine)
    return Ruling(
        answer=APPROVED, why=f"the gate of incident {number} let {passed} through", incident=number
    )


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
