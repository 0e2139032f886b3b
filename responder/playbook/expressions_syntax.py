"""Text of an expression to a syntax tree with positions: the grammar of our subset of CEL.

Pure. Raises `ExpressionError` with the offset of the fault; never anything else, whatever the
text is (length and depth are capped before the recursion could hurt).
Grammar: https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax
"""

from __future__ import annotations

from typing import Any, Final

from responder.playbook.expressions_tokens import ExpressionError, Token, tokens
from responder.playbook.expressions_tree import (
    Binary,
    Call,
    Choice,
    Has,
    Index,
    ListOf,
    Literal,
    Logic,
    Loop,
    MapOf,
    Name,
    Node,
    Select,
    Unary,
)

__all__ = ["parse"]

MAX_DEPTH: Final = 32
MACROS: Final = frozenset({"exists", "all", "filter", "map"})
_COMPARE: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})
_LITERALS: Final = {"true": True, "false": False, "null": None}
_RESERVED: Final = frozenset(
    {"as", "break", "const", "continue", "else", "for", "function", "if", "import", "let"}
    | {"loop", "namespace", "package", "return", "var", "void", "while"}
)


def parse(text: str) -> Node:
    """The tree of one whole expression; raises `ExpressionError`."""
    parser = _Parser(tokens(text))
    node = parser.expression()
    parser.finish()
    return node


class _Parser:
    """One pass over the tokens by recursive descent, one method per line of the grammar."""

    def __init__(self, found: list[Token]) -> None:
        self._tokens = found
        self._at = 0
        self._depth = 0

    @property
    def _now(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._now
        self._at += 1
        return token

    def _take(self, *signs: str) -> Token | None:
        token = self._now
        if token.kind in {"sign", "name"} and token.text in signs:
            self._at += 1
            return token
        return None

    def _expect(self, sign: str) -> Token:
        token = self._take(sign)
        if token is None:
            raise self._unexpected(f'expected "{sign}"')
        return token

    def _unexpected(self, wanted: str) -> ExpressionError:
        token = self._now
        got = "the end" if token.kind == "end" else f'"{token.text}"'
        return ExpressionError("PB030", f"{wanted}, got {got}", token.start, self._hint(token))

    def _hint(self, token: Token) -> str:
        if token.text == "in" and self._at and self._tokens[self._at - 1].text == "not":
            return "write !(x in y)"
        return {
            "and": 'write "&&"',
            "or": 'write "||"',
            "not": 'write "!", and !(x in y) for "not in"',
        }.get(token.text, "")

    def finish(self) -> None:
        """Nothing may follow the expression."""
        if self._now.kind != "end":
            raise self._unexpected("expected an operator or the end")

    def _deeper(self, token: Token) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(
                "PB035",
                f"the expression is nested more than {MAX_DEPTH} deep",
                token.start,
                "split it over two conditions or use vars",
            )

    def expression(self) -> Node:
        """`or ? or : expression`."""
        self._deeper(self._now)
        node = self._logic("||")
        if self._take("?"):
            yes = self._logic("||")
            self._expect(":")
            no = self.expression()
            node = Choice(node.start, no.end, node, yes, no)
        self._depth -= 1
        return node

    def _logic(self, sign: str) -> Node:
        below = self._relation if sign == "&&" else lambda: self._logic("&&")
        parts = [below()]
        while self._take(sign):
            parts.append(below())
        if len(parts) == 1:
            return parts[0]
        return Logic(parts[0].start, parts[-1].end, sign, tuple(parts))

    def _relation(self) -> Node:
        return self._chain(_COMPARE, self._sum)

    def _sum(self) -> Node:
        return self._chain(frozenset("+-"), self._product)

    def _product(self) -> Node:
        return self._chain(frozenset("*/%"), self._unary)

    def _chain(self, signs: frozenset[str], below: Any) -> Node:
        node: Node = below()
        links = 0
        while token := self._take(*signs):
            self._deeper(token)  # a chain leans left: each link is one level of the tree
            links += 1
            right: Node = below()
            node = Binary(node.start, right.end, token.text, node, right, token.start)
        self._depth -= links
        return node

    def _unary(self) -> Node:
        token = self._take("!", "-")
        if token is None:
            return self._member()
        self._deeper(token)
        if self._now.text == token.text and self._now.kind == "sign":
            of = self._unary()
        else:
            of = self._member(negative=token.text == "-")
        self._depth -= 1
        if token.text == "-" and _positive_number(of):
            return Literal(token.start, of.end, -of.value)  # type: ignore[attr-defined]
        return Unary(token.start, of.end, token.text, of)

    def _member(self, *, negative: bool = False) -> Node:
        node = self._primary(negative=negative)
        links = 0
        while token := self._take(".", "["):
            self._deeper(token)
            links += 1
            node = self._field(node) if token.text == "." else self._index(node)
        self._depth -= links
        return node

    def _index(self, of: Node) -> Node:
        key = self.expression()
        return Index(of.start, self._expect("]").end, of, key)

    def _field(self, of: Node) -> Node:
        token = self._now
        if token.kind != "name" or token.text in {"in", *_LITERALS}:
            raise self._unexpected("expected a field name")
        self._at += 1
        if not self._take("("):
            return Select(of.start, token.end, of, token.text)
        if token.text in MACROS:
            return self._loop(of, token)
        args, end = self._arguments(")")
        return Call(of.start, end, token.text, (of, *args), True, token.start)

    def _loop(self, of: Node, macro: Token) -> Node:
        variable = self._next()
        if variable.kind != "name" or variable.text in _RESERVED | _LITERALS.keys() | {"in"}:
            raise ExpressionError(
                "PB030",
                f"{macro.text} needs a variable name first",
                variable.start,
                f"write list.{macro.text}(x, …)",
            )
        self._expect(",")
        body = self.expression()
        end = self._expect(")").end
        return Loop(of.start, end, macro.text, of, variable.text, body)

    def _arguments(self, close: str) -> tuple[tuple[Node, ...], int]:
        if token := self._take(close):
            return (), token.end
        args = [self.expression()]
        while self._take(","):
            args.append(self.expression())
        return tuple(args), self._expect(close).end

    def _primary(self, *, negative: bool) -> Node:
        token = self._now
        if token.kind in {"int", "double", "string"}:
            self._at += 1
            return self._literal(token, negative=negative)
        if token.kind == "name" and token.text != "in":
            self._at += 1
            return self._name(token)
        if self._take("("):
            node = self.expression()
            self._expect(")")
            return node
        if self._take("["):
            items, end = self._arguments("]")
            return ListOf(token.start, end, items)
        if self._take("{"):
            return self._map(token)
        raise self._unexpected("expected a value")

    def _literal(self, token: Token, *, negative: bool) -> Node:
        if token.kind == "int" and token.value == 2**63 and not negative:
            raise ExpressionError("PB030", f"{token.text} does not fit into 64 bits", token.start)
        return Literal(token.start, token.end, token.value)

    def _name(self, token: Token) -> Node:
        if token.text in _LITERALS:
            return Literal(token.start, token.end, _LITERALS[token.text])
        if token.text in _RESERVED:
            raise ExpressionError(
                "PB030", f'"{token.text}" is a reserved word of the language', token.start
            )
        if not self._take("("):
            return Name(token.start, token.end, token.text)
        args, end = self._arguments(")")
        if token.text != "has":
            return Call(token.start, end, token.text, args, False, token.start)
        if len(args) != 1 or not isinstance(args[0], Select):
            raise ExpressionError(
                "PB030", "has() asks for one field", token.start, "write has(alert.labels.app)"
            )
        return Has(token.start, end, args[0].of, args[0].field)

    def _map(self, token: Token) -> Node:
        entries: list[tuple[Node, Node]] = []
        while not (close := self._take("}")):
            if entries:
                self._expect(",")
            key = self.expression()
            self._expect(":")
            entries.append((key, self.expression()))
        return MapOf(token.start, close.end, tuple(entries))


def _positive_number(node: Node) -> bool:
    """Only these are folded with their sign: -(-9223372036854775808) must overflow when run."""
    return isinstance(node, Literal) and type(node.value) in {int, float} and node.value >= 0
