"""Text of an expression to tokens: numbers, texts, names and signs, each with its offset.

Pure. Raises `ExpressionError` and nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from responder.errors import ResponderError

__all__ = ["ExpressionError", "Token", "tokens"]

MAX_LENGTH: Final = 4096
_INT_MAX: Final = 2**63  # the sign is applied by the parser, which checks the range again
_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n\f]+|//[^\n]*)
  | (?P<double>[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
  | (?P<int>0[xX][0-9a-fA-F]+|[0-9]+)
  | (?P<string>[rR]?(?:"(?:[^"\\\n\r]|\\.)*"|'(?:[^'\\\n\r]|\\.)*'))
  | (?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
  | (?P<sign>==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]{}])
    """,
    re.VERBOSE | re.ASCII,
)
_RAW = re.compile(r"""[rR](?:"[^"\n\r]*"|'[^'\n\r]*')""")
_ESCAPE = re.compile(
    r"""\\(?:([abfnrtv"'`?\\])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2}))"""
)
_SIMPLE: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    '"': '"', "'": "'", "`": "`", "?": "?", "\\": "\\",
}  # fmt: skip
_HINTS: Final = {
    "=": 'compare with "=="',
    "&": 'write "&&"',
    "|": 'write "||"',
    "$": "inside an expression names stand bare",
    '"': "the text has no end",
    "'": "the text has no end",
}


class ExpressionError(ResponderError):
    """An expression is refused: a stable code, the offset of the fault, and the likely fix."""

    def __init__(
        self, code: str, message: str, offset: int, fix: str = "", *, unknown: str = ""
    ) -> None:
        super().__init__(f"{message} ({fix})" if fix else message)
        self.code, self.message, self.offset, self.fix = code, message, offset, fix
        self.unknown = unknown  # "steps.rebuild" when that is the field nobody declared


@dataclass(frozen=True, slots=True)
class Token:
    """One word of an expression; `kind` is int, double, string, name, sign or end."""

    kind: str
    text: str
    value: Any
    start: int
    end: int


def tokens(text: str) -> list[Token]:
    """All tokens, the last one of kind `end`; raises `ExpressionError`."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            "PB035", f"the expression has {len(text)} characters, at most {MAX_LENGTH} are read", 0
        )
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _RAW.match(text, at) or _TOKEN.match(text, at)
        if match is None:
            sign = text[at]
            raise ExpressionError(
                "PB030", f'unexpected "{sign}" in an expression', at, _HINTS.get(sign, "")
            )
        kind = "string" if match.re is _RAW else str(match.lastgroup)
        if kind != "space":
            found.append(_token(kind, match.group(), at))
        at = match.end()
    found.append(Token("end", "", None, len(text), len(text)))
    return found


def _token(kind: str, text: str, at: int) -> Token:
    value: Any = text
    if kind == "int":
        value = _integer(text, at)
    elif kind == "double":
        value = float(text)
    elif kind == "string":
        value = _unquote(text, at)
    return Token(kind, text, value, at, at + len(text))


def _integer(text: str, at: int) -> int:
    value = int(text, 16) if text[:2] in {"0x", "0X"} else int(text)
    if value > _INT_MAX:
        raise ExpressionError("PB030", f"{text} does not fit into 64 bits", at)
    return value


def _unquote(text: str, at: int) -> str:
    """The meaning of a quoted text. A raw text (r"…") keeps its backslashes."""
    if text[0] in "rR":
        return text[2:-1]
    body, parts, here = text[1:-1], [], 0
    while (slash := body.find("\\", here)) >= 0:
        match = _ESCAPE.match(body, slash)
        if match is None:
            raise ExpressionError(
                "PB030",
                f'"{body[slash : slash + 2]}" is no escape in a text',
                at + 1 + slash,
                r"write \\ for a backslash, or r\"…\" for a pattern",
            )
        parts += [body[here:slash], _escape(match, at + 1 + slash)]
        here = match.end()
    return "".join([*parts, body[here:]])


def _escape(match: re.Match[str], at: int) -> str:
    simple, two, four, eight, octal = match.groups()
    if simple:
        return _SIMPLE[simple]
    code = int(octal, 8) if octal else int(two or four or eight, 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004 - Unicode's own bounds
        raise ExpressionError("PB030", f"{match.group()} is no character", at)
    return chr(code)
