"""Read values that a stranger chose: times, names, severities, and what "absent" means.

Nothing here raises on a value of the wrong type: it becomes absent, because one odd field must
never cost the alert around it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

from integrations._json import dump
from responder.errors import ConfigError
from responder.model import Alert, AlertKind, Severity
from responder.text import cut

__all__ = [
    "ALERTS_MAX",
    "KEY_MAX",
    "SEVERITIES",
    "container_id",
    "digest",
    "each",
    "fingerprint_of",
    "flat",
    "image_name",
    "known",
    "micros",
    "name",
    "no_settings",
    "severity_of",
    "shorten",
    "string",
    "summary",
    "unparsed",
]

ALERTS_MAX = 900  # of one body, below the 1,000 that intake takes; the rest is kept as one unparsed
VALUE_MAX = 8192  # characters of one field; the raw payload keeps the rest
KEY_MAX = 256  # characters of a field's name or dotted path
_FIELDS_MAX = 1000
_SUMMARY_MAX = 1024

# --------------------------------------------------------------------------- absent and present

# What the tools write where they know nothing. https://falco.org/docs/reference/rules/supported-fields/
_ABSENT = frozenset({"", "<NA>", "N/A", "null", "<nil>", "<no value>"})
_VARIABLE = re.compile(r"\$\{?[A-Za-z_][A-Za-z0-9_]*\}?", re.ASCII)


def known(value: Any) -> bool:
    """Whether a scalar says something; `<NA>`, null, the empty text and `$NOT_RENDERED` do not."""
    if isinstance(value, str):
        return value not in _ABSENT and not (value[0] == "$" and _VARIABLE.fullmatch(value))
    return isinstance(value, int | float)


def string(value: Any, limit: int = VALUE_MAX) -> str:
    """The text, cut to `limit`, or nothing when it is absent or of another type."""
    if isinstance(value, str) and value not in _ABSENT:
        return value if len(value) <= limit else cut(value, limit)
    return ""


def summary(*candidates: Any) -> str:
    """The first candidate that says something, cut to what a list of alerts can show."""
    for candidate in candidates:
        if text := string(candidate, _SUMMARY_MAX):
            return text
    return ""


# Names of pods, nodes, namespaces and Docker containers; nothing that could leave a URL path.
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,252}", re.ASCII)
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-/:@+]{0,511}", re.ASCII)
_CONTAINER_ID = re.compile(r"[0-9a-f]{12,64}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


def name(value: Any) -> str:
    """A well-formed object name, or nothing: a target never holds what no object can be called."""
    if isinstance(value, str) and value not in _ABSENT and _NAME.fullmatch(value):
        return "" if ".." in value else value
    return ""


def container_id(value: Any) -> str:
    """Twelve to 64 hex digits without the runtime's prefix; `host` and the rest are absent."""
    if not isinstance(value, str):
        return ""
    bare = value.rpartition("://")[2]
    return bare if _CONTAINER_ID.fullmatch(bare) else ""


def digest(value: Any) -> str:
    """The `sha256:…` in a digest or in an image id such as `registry/app@sha256:…`."""
    if not isinstance(value, str):
        return ""
    bare = value.rpartition("@")[2]
    return bare if _DIGEST.fullmatch(bare) else ""


def image_name(repository: Any, tag: Any = None, image_digest: Any = None) -> str:
    """`repository:tag`, else `repository@digest`, else the repository; nothing when malformed."""
    base = repository if isinstance(repository, str) else ""
    if base in _ABSENT or ".." in base or not _IMAGE.fullmatch(base):
        return ""
    if named := name(tag):
        return f"{base}:{named}"
    exact = digest(image_digest)
    return f"{base}@{exact}" if exact and "@" not in base else base


# --------------------------------------------------------------------------- time

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?\s?(Z|z|UTC|[+-]\d\d:?\d\d)",
    re.ASCII,
)
_LAST = 253_402_300_799_999_999  # the end of the year 9999, in microseconds
_TIME_TEXT_MAX = 64


def micros(value: Any) -> int:
    """Microseconds UTC of a time in any usual form, 0 when it is absent, unset or no time.

    RFC 3339 with up to nine digits (cut, not rounded), epoch numbers in s, ms, µs or ns (told
    apart by size), and `{seconds, nanos}`. Whole numbers never pass through a float. The years 1
    and 1970 mean "unset" in several tools. A time without a zone is not guessed.
    """
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, bool):
        return 0
    if isinstance(value, int):
        return _from_number(value)
    if isinstance(value, float) and math.isfinite(value):
        return _from_number(int(value)) if abs(value) > 1e11 else _in_range(int(value * 1e6))  # noqa: PLR2004
    if isinstance(value, Mapping):
        return _from_parts(value.get("seconds"), value.get("nanos", 0))
    return 0


def _from_text(text: str) -> int:
    if len(text) > _TIME_TEXT_MAX:
        return 0
    match = _RFC3339.fullmatch(text)
    if match is None:
        return _from_number(int(text)) if text.isascii() and text.isdigit() else 0
    day, clock, fraction, zone = match.groups()
    offset = "+00:00" if zone in {"Z", "z", "UTC"} else zone
    try:
        moment = dt.datetime.fromisoformat(f"{day}T{clock}{offset}")
    except ValueError:
        return 0
    seconds = int(moment.timestamp())  # whole seconds: a float holds them exactly
    return _in_range(seconds * 1_000_000 + int((fraction or "0").ljust(6, "0")[:6]))


def _from_number(number: int) -> int:
    for least, divide, times in (
        (10**17, 1000, 1),
        (10**14, 1, 1),
        (10**11, 1, 1000),
        (0, 1, 1_000_000),
    ):
        if number >= least:
            return _in_range(number // divide * times)
    return 0


def _from_parts(seconds: Any, nanos: Any) -> int:
    """Protobuf's two numbers; its JSON writes 64-bit ones as text."""
    if isinstance(seconds, str) and seconds.isascii() and seconds.isdigit() and len(seconds) <= 12:  # noqa: PLR2004
        seconds = int(seconds)
    if type(seconds) is not int or type(nanos) is not int:
        return 0
    return _in_range(seconds * 1_000_000 + nanos // 1000)


def _in_range(moment: int) -> int:
    return moment if 0 < moment <= _LAST else 0


# --------------------------------------------------------------------------- severity

# One table, because the words mean the same wherever they are used; sources document their part.
SEVERITIES: Mapping[str, Severity] = {
    **dict.fromkeys(
        ("emergency", "alert", "critical", "crit", "fatal", "page", "disaster", "p1"),
        Severity.CRITICAL,
    ),
    **dict.fromkeys(("error", "err", "high", "major", "p2"), Severity.HIGH),
    **dict.fromkeys(("warning", "warn", "medium", "moderate", "average", "p3"), Severity.MEDIUM),
    **dict.fromkeys(("notice", "low", "minor", "p4"), Severity.LOW),
    **dict.fromkeys(("informational", "information", "info", "debug", "none", "p5"), Severity.INFO),
}


def severity_of(word: Any) -> Severity:
    """The severity of a word in any case; unknown words and other types are UNKNOWN."""
    if not isinstance(word, str):
        return Severity.UNKNOWN
    return SEVERITIES.get(word) or SEVERITIES.get(word.strip().lower(), Severity.UNKNOWN)


# --------------------------------------------------------------------------- whole alerts


def fingerprint_of(*parts: str) -> str:
    """32 hex digits; each part's length is hashed too, so no text can shift the borders."""
    joined = "".join([f"{len(part)}:{part}" for part in parts])
    return hashlib.sha256(joined.encode("utf-8", "replace")).hexdigest()[:32]


def unparsed(source: str, reason: str, raw: str) -> Alert:
    """What a sender said and we cannot read: kept whole, shown to a person, starts nothing."""
    return Alert(
        source=source,
        kind=AlertKind.UNPARSED,
        rule="",
        severity=Severity.UNKNOWN,
        summary=f"unreadable alert from {source}: {reason}",
        time=0,
        fingerprint=fingerprint_of(source, "unparsed", raw),
        reason=reason,
        raw=raw,
    )


def each(
    items: list[Any],
    make: Callable[[Any, str], Alert],
    keep: Callable[[str, str], Alert],
    whole: str | None = None,
) -> list[Alert]:
    """`make(item, its text)` for every item; what is beyond `ALERTS_MAX` is kept as one alert.

    `whole` is the text of the only item, where the body is that item as it came.

    `keep(reason, raw)` makes that last one. One body can hold hundreds of thousands of empty
    items, and each would cost a row.
    """
    if whole is not None and len(items) == 1:
        return [make(items[0], whole)]
    made = [make(item, dump(item)) for item in items[:ALERTS_MAX]]
    rest = items[ALERTS_MAX:]
    if rest:
        made.append(keep(f"{len(rest)} more alerts than {ALERTS_MAX} in one body", dump(rest)))
    return made


def shorten(value: Any) -> Any:
    """A scalar as it is, a long text cut; the raw payload keeps the rest."""
    if isinstance(value, str) and len(value) > VALUE_MAX:
        return cut(value, VALUE_MAX)
    return value


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Scalars of a JSON value by dotted path; absent ones left out, number and lengths bounded."""
    found: dict[str, Any] = {}
    if isinstance(value, dict | list):
        _flatten(value, prefix, found)
    elif prefix and len(prefix) <= KEY_MAX and known(value):
        found[prefix] = shorten(value)
    return found


def _flatten(value: Any, path: str, found: dict[str, Any]) -> None:
    """Depth first, in the document's order; `decode` has bounded the depth."""
    pairs: Iterable[tuple[Any, Any]] = value.items() if type(value) is dict else enumerate(value)
    for key, part in islice(pairs, _FIELDS_MAX):
        if len(found) >= _FIELDS_MAX:
            return
        name = f"{path}.{key}" if path else str(key)
        if len(name) > KEY_MAX:
            continue
        if isinstance(part, dict | list):
            _flatten(part, name, found)
        elif name and known(part):
            found[name] = shorten(part)


def no_settings(section: Mapping[str, Any], source: str) -> None:
    """Refuse settings for a source that has none; raises `ConfigError` that names the first."""
    for key in section:
        raise ConfigError(
            f"[{source}] {key}: expected no settings here; what differs per sender "
            "belongs to its [hooks.…] section"
        )
