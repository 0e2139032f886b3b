"""Put hostile text and JSON into columns so that no character can break a write.

An intruder chooses the words of an alert. SQLite refuses lone surrogates and other stores refuse
NUL: JSON is written in plain ASCII, and text columns lose those two kinds of character only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["clean", "decode", "encode"]

# Compact and ASCII only: a surrogate or NUL becomes six harmless characters and comes back.
_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True)


def _made_once() -> Callable[[Any], str]:
    """The encoder's own function in C, made once: `encode` makes it anew at every call.

    A third of what a small object costs. Where this Python has none, the slow way serves.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    text = getattr(json.encoder, "encode_basestring_ascii", None)
    if make is None or text is None:
        return _encoder.encode
    chunks = make(None, _encoder.default, text, None, ":", ",", False, False, True)

    def fast(value: Any) -> str:
        return "".join(chunks(value, 0))

    return fast


encode = _made_once()


def clean(text: str) -> str:
    """The same text with NUL and lone surrogates replaced; never raises."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def decode(text: str) -> Mapping[str, Any]:
    """The JSON object that `encode` wrote."""
    value: Mapping[str, Any] = json.loads(text)
    return value
