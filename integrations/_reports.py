"""Scan reports as one alert each: what was scanned, how bad the worst finding is, and which.

An image is rebuilt once for all its findings, so a report is one alert and not one for each
finding. Its fingerprint hangs on the set of findings: the same report again is a repeat, a new
finding makes a new alert. A report without findings is a note.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from integrations import _values as values
from integrations._source import Ignored, word
from responder.model import AlertKind, JsonObject, Severity

__all__ = ["CLEAN", "LARGE", "MORE", "findings", "rows"]

LARGE = 8 << 20  # bytes: a report of a large image has some megabytes

_IDS_MAX = 64  # named in the alert; the count and the raw report have all
MORE = {
    "summary": "How many findings of which severity.",
    "tags": "The ids of the findings, worst first, at most 64.",
    "fingerprint": "The set of all ids: the same report again is a repeat.",
}
CLEAN = Ignored(
    "clean", AlertKind.NOTE, "a report without findings", lambda item: item["found"] == 0
)


def rows(lists: Iterable[Any]) -> list[JsonObject]:
    """All objects of several lists; what is no list or no object is left out."""
    return [row for one in lists if isinstance(one, list) for row in one if isinstance(row, dict)]


def findings(found: Sequence[tuple[str, Any]]) -> JsonObject:
    """What an alert says of `(id, severity's word)` pairs: counts, worst, ids, one text for all."""
    ranked = sorted(
        {(name, values.severity_of(said)) for name, said in found if name},
        key=lambda pair: (-pair[1], pair[0]),
    )
    counts = {
        severity.name.lower(): sum(1 for _, one in ranked if one is severity)
        for severity in sorted(Severity, reverse=True)
    }
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return {
        "found": len(ranked),
        "worst": ranked[0][1].name.lower() if ranked else "",
        "counts": counts,
        "ids": [word(name) for name, _ in ranked[:_IDS_MAX]],
        "all_ids": values.fingerprint_of(*(name for name, _ in ranked)),
        "said": said or "nothing found",
    }
