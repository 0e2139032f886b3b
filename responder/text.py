"""Make text that came from outside safe for the place it is going to.

An alert's words are chosen by an intruder. Whatever leaves this product as a terminal line, a
log line, a label or an object's name passes through one of these first.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

__all__ = [
    "SOUNDS_SECRET",
    "Secret",
    "compact",
    "cut",
    "did_you_mean",
    "for_label",
    "for_terminal",
    "slug",
    "suggestion",
    "veiled",
]

_LABEL = re.compile(r"[^A-Za-z0-9_.-]+")
_LABEL_MAX = 63  # https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
_CONTROL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}

# Names of settings and variables whose values are not shown.
SOUNDS_SECRET = re.compile(
    r"passw|passphrase|pwd|secret|token|credential|bearer|auth|(api|access|private|routing)[_-]?key",
    re.IGNORECASE,
)
_VEILED_MAX = 4096  # characters looked at; the patterns below are not linear in every text
_VEILS = (
    re.compile(r"(?P<keep>\b(?:bearer|basic|token) +)[\w.~+/=-]{8,}", re.IGNORECASE),
    re.compile(r"(?P<keep>://)(?:[^\s@/:]*:[^\s@]+|[^\s@/]+)(?=@)"),
    re.compile(
        rf"(?P<keep>(?<![\w.-])[\w.-]*(?:{SOUNDS_SECRET.pattern})[\w.-]*"
        r"(?:=[\"']?|\\?[\"'] *: *\\?[\"']))[^\s\"'\\,;&]+",
        re.IGNORECASE,
    ),
    re.compile(r"(?P<keep>\bvalue\\?[\"']? *: *\\?[\"'])[^\"'\\]+", re.IGNORECASE),
)


class Secret:
    """A text that shows itself as `***` everywhere but through `reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself: only for the call that needs it, never for a log or an error."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        raise TypeError("secrets are compared with hmac.compare_digest only")

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


def for_terminal(text: str, limit: int = 1024) -> str:
    """One line without control, direction or surrogate characters; each is shown as `\\xNN`."""
    if len(text) <= limit and text.isprintable():
        return text
    shown = "".join(
        character
        if character.isprintable() or unicodedata.category(character) not in _CONTROL
        else f"\\x{ord(character):02x}"
        for character in cut(text, limit)
    )
    return shown.replace("\n", "\\n").replace("\r", "\\r")


def cut(text: str, limit: int) -> str:
    """At most `limit` characters; says how many were left out."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}…(+{len(text) - limit})"


def veiled(text: str, *known: str) -> str:
    """The text without credentials: the known ones, and whatever has the shape of one.

    For sentences of outside systems, which may repeat what they were sent: credentials of a
    header, user and password of a URL, `NAME=value` and `"name": "value"` where the name sounds
    secret, and the value that a validation complains about. Never a proof that nothing is left.
    """
    text = cut(text, _VEILED_MAX)
    for secret in known:
        if secret:
            text = text.replace(secret, "***")
    for pattern in _VEILS:
        text = pattern.sub(r"\g<keep>***", text)
    return text


def for_label(text: str) -> str:
    """A valid Kubernetes label value, as near to the text as the rules allow."""
    return _LABEL.sub("-", text)[:_LABEL_MAX].strip("-_.")


def slug(text: str, limit: int = 40) -> str:
    """A DNS label that stays different for different texts, even when cut."""
    clean = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if clean == text and len(clean) <= limit:
        return clean
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{clean[: limit - 9].strip('-')}-{mark}".strip("-")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known word, or nothing when none is near."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return near[0] if near else ""


def suggestion(word: str, known: Iterable[str]) -> str:
    """`did you mean "x"?`, or the known words when none is near."""
    options = sorted(known)
    near = did_you_mean(word, options)
    if near:
        return f'did you mean "{near}"?'
    return f"known: {', '.join(options[:12])}" + (", …" if len(options) > 12 else "")  # noqa: PLR2004


def _made_once() -> Callable[[Any], str]:
    """The encoder's own function in C, made once: `encode` makes it anew at every call.

    A third of what a small object costs. Where this Python has none, the slow way serves.
    """
    encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True)
    make = getattr(json.encoder, "c_make_encoder", None)
    text = getattr(json.encoder, "encode_basestring_ascii", None)
    if make is None or text is None:
        return encoder.encode
    chunks = make(None, encoder.default, text, None, ":", ",", False, False, True)

    def compact(value: Any) -> str:
        return "".join(chunks(value, 0))

    return compact


# Compact JSON, ASCII only: a surrogate or NUL becomes six harmless characters and comes back.
compact = _made_once()
