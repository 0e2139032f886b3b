"""Logs: one line an event, JSON off a terminal, short text on one.

Control characters are escaped and values cut at 1 kB, so that no payload floods or forges a log.
A `Secret` shows itself as `***` wherever it is formatted; payloads are never logged at all.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from typing import Any

from responder.clock import iso
from responder.text import for_terminal

__all__ = ["JsonFormatter", "TextFormatter", "set_up"]

_LIMIT = 1000
_FIELDS = ("event", "incident", "run", "step", "source", "task", "reason", "trace_id")
_QUIET = ("aiohttp.access", "asyncio", "urllib3", "github", "kubernetes")


class JsonFormatter(logging.Formatter):
    """A log record as one JSON line with `ts`, `level`, `event`, `msg` and what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": iso(int(record.created * 1_000_000)),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", record.name),
            "msg": for_terminal(record.getMessage(), _LIMIT),
        }
        for name in _FIELDS[1:]:
            value = getattr(record, name, None)
            if value:
                line[name] = value if isinstance(value, int) else for_terminal(str(value), _LIMIT)
        if record.exc_info:
            line["where"] = _where(record)
        return json.dumps(line, ensure_ascii=True)


class TextFormatter(logging.Formatter):
    """The same, short, for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        about = " ".join(
            f"{name}={for_terminal(str(value), 200)}"
            for name in _FIELDS[1:]
            if (value := getattr(record, name, None))
        )
        when = iso(int(record.created * 1_000_000))[11:]
        text = for_terminal(record.getMessage(), _LIMIT)
        where = f" at {_where(record)}" if record.exc_info else ""
        return f"{when} {record.levelname.lower():7} {text} {about}{where}".rstrip()


def _where(record: logging.LogRecord) -> str:
    """Class of the exception and the innermost places: never its text, which may hold anything."""
    kind, error, _ = record.exc_info or (None, None, None)
    if kind is None or error is None:
        return ""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in reversed(frames))
    return f"{kind.__name__} {places}".strip()


def set_up(level: str = "info", style: str = "auto") -> None:
    """Send every library's logs to stderr in one form. Called once, by the command line."""
    handler = logging.StreamHandler(sys.stderr)
    json_lines = style == "json" or (style == "auto" and not sys.stderr.isatty())
    handler.setFormatter(JsonFormatter() if json_lines else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
