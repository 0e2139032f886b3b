"""Put hostile text and JSON into columns so that no character can break a write.

An intruder chooses the words of an alert. SQLite refuses lone surrogates and other stores refuse
NUL: JSON is written in plain ASCII, and text columns lose those two kinds of character only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from responder.text import compact

__all__ = ["clean", "decode", "encode"]

encode = compact


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
