"""Read keys in one case: several vendors write the same object as `Severity` and as `severity`.

Never: loses a value; where both spellings stand side by side the lower one keeps its place.
"""

from __future__ import annotations

from typing import Any

__all__ = ["lowered"]


def lowered(value: Any) -> Any:
    """The same value with the first letter of every key in lower case, at every depth.

    Calls itself, but no deeper than a decoded body is nested.
    """
    if isinstance(value, list):
        return [lowered(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: lowered(item) for key, item in value.items() if key[:1] == key[:1].lower()}
    for key, item in value.items():
        made.setdefault(key[:1].lower() + key[1:], lowered(item))
    return made
