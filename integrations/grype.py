"""Grype's JSON report, as a pipeline posts it after a scan.

https://github.com/anchore/grype#output-formats

Never: calls a folder an image: only a source of type image names one.
"""

from __future__ import annotations

from integrations._reports import CLEAN, LARGE, MORE, findings, rows
from integrations._source import Sender, Table, at, word
from responder.model import AlertKind, JsonObject
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

MAPPING = Table(
    rule=("rule",),
    summary=("said",),
    severity=("worst",),
    time=("descriptor/timestamp",),
    target={
        "image": ("target/tags/0", "target/userInput", "target/repoDigests/0"),
        "digest": ("target/repoDigests/0", "target/manifestDigest"),
    },
    fingerprint=("all_ids", "source/target"),
    tags=("ids",),
    kind=AlertKind.VULNERABILITY,
    notes=MORE
    | {
        "rule": "`Grype report`.",
        "image": "`target` is `source.target` when the source is an image.",
    },
)
IGNORED = (CLEAN,)


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    matches = item.get("matches")
    if not isinstance(matches, list):
        return "not a report of Grype's: it has no list of matches"
    named = [one["vulnerability"] for one in rows([matches]) if at(one, "vulnerability/id")]
    found = [(word(one["id"]), one.get("severity")) for one in named]
    target = at(item, "source/target") if at(item, "source/type") == "image" else None
    rest = {key: value for key, value in item.items() if key != "matches"}
    return {**rest, "rule": "Grype report", "target": target, **findings(found)}


SENDER = Sender(
    name="grype",
    title="Grype report",
    home="https://github.com/anchore/grype#output-formats",
    mapping=MAPPING,
    ignored=IGNORED,
    shape=_shape,
    body_max=LARGE,
)
setup = SENDER.setup
