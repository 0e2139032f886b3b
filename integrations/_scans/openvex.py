"""OpenVEX documents: why a finding does not count for a product.

https://github.com/openvex/spec/blob/main/OPENVEX-SPEC.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from integrations._scans.model import Statement, at, digests_in, from_purl, objects, word

__all__ = ["statements"]


def statements(document: dict[str, Any]) -> Iterator[Statement]:
    """The statements in their order; one that names no image speaks of none."""
    for item in objects(document.get("statements")):
        products = [_product(one) for one in _listed(item.get("products"))]
        parts = [part for one in products for part in _listed(one.get("subcomponents"))]
        named = [from_purl(_product(part).get("@id")) for part in parts]
        yield Statement(
            ids=_ids(item.get("vulnerability")),
            status=word(item.get("status")),
            reason=next(filter(None, (word(item.get(key)) for key in _REASONS)), ""),
            digests=frozenset().union(*map(_digests, products)),
            packages=frozenset(one[0].name for one in named if one),
        )


_REASONS = ("justification", "impact_statement", "status_notes", "action_statement")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _product(value: Any) -> dict[str, Any]:
    """A product as an object; early versions of the format have the bare identifier."""
    if isinstance(value, str):
        return {"@id": value}
    return value if isinstance(value, dict) else {}


def _digests(product: dict[str, Any]) -> frozenset[str]:
    named = [product.get("@id"), at(product, "identifiers/purl")]
    hashed = at(product, "hashes/sha-256") or at(product, "hashes/sha256")
    return digests_in(*named, f"sha256:{hashed}" if isinstance(hashed, str) else "")


def _ids(value: Any) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset(filter(None, [word(value)]))
    names = [at(value, "name"), str(at(value, "@id") or "").rpartition("/")[2]]
    return frozenset(filter(None, map(word, [*names, *_listed(at(value, "aliases"))])))
