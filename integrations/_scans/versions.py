"""Which of two versions is the later one, by the rules of the package system they belong to.

An order that is not known is never guessed: `compare` then says nothing, and nothing is proven.

Rules: deb https://www.debian.org/doc/debian-policy/ch-controlfields.html#version,
rpm https://rpm-software-management.github.io/rpm/man/rpm-version.7, semver https://semver.org/,
Python https://packaging.python.org/en/latest/specifications/version-specifiers/, and for apk
https://wiki.alpinelinux.org/wiki/Package_policies#Version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

__all__ = ["at_least", "compare", "kind_of"]

_LONGEST = 256
_KINDS = {
    "deb": "deb dpkg debian ubuntu bitnami-deb distroless",
    "rpm": "rpm redhat centos rocky alma almalinux amazon oracle fedora photon azurelinux mariner "
    "cbl-mariner suse sles opensuse opensuse-leap opensuse-tumbleweed suse.linux.enterprise.server",
    "apk": "apk alpine wolfi chainguard minimos",
    "pypi": "pypi python python-pkg pip pipenv poetry uv conda-python",
    "npm": "npm node-pkg yarn pnpm bun javascript",
    "golang": "golang go go-module gomod gobinary",
    "cargo": "cargo rust-crate rust rustbinary",
}
_BY_WORD = {word: kind for kind, words in _KINDS.items() for word in words.split()}


def kind_of(word: str) -> str:
    """The package system that a scanner or package URL means, or the word itself in lower case."""
    low = word.strip().lower()
    return _BY_WORD.get(low, low)


def compare(kind: str, left: str, right: str) -> int | None:
    """-1, 0 or 1 as `left` is before, equal to or after `right`; nothing where that is unknown."""
    if not left or not right or max(len(left), len(right)) > _LONGEST:
        return None
    if left == right:
        return 0
    order = _ORDERS.get(kind)
    return order(left, right) if order else None


def at_least(kind: str, installed: str, fixed: Sequence[str]) -> bool:
    """Whether a version is surely no earlier than the fix.

    With several fixes (one for each maintained branch) it must be one of them or no earlier than
    the latest: 1.3.0 is after 1.2.9 and may still lack what 1.3.4 brought.
    """
    found = [compare(kind, installed, one) for one in fixed]
    if not found or None in found:
        return False
    return 0 in found or all(one == 1 for one in found)


# --------------------------------------------------------------------------- deb and rpm

_DEB = re.compile(r"(?:(\d+):)?([A-Za-z0-9.+~:-]*?)(?:-([A-Za-z0-9.+~]+))?", re.ASCII)
_RPM = re.compile(r"(?:(\d+):)?([A-Za-z0-9._+~^]+)(?:-([A-Za-z0-9._+~^]+))?", re.ASCII)
_DIGITS = re.compile(r"\d+|\D+", re.ASCII)
_RPM_PART = re.compile(r"\d+|[A-Za-z]+|~|\^", re.ASCII)


def _deb(left: str, right: str) -> int | None:
    a, b = _DEB.fullmatch(left), _DEB.fullmatch(right)
    if not a or not b or not a[2] or not b[2]:
        return None
    epoch = _sign(int(a[1] or 0), int(b[1] or 0))
    return epoch or _deb_text(a[2], b[2]) or _deb_text(a[3] or "0", b[3] or "0")


def _deb_text(left: str, right: str) -> int:
    """Letters and digits in turn; `~` sorts before the end, letters before other signs."""
    for one, other in zip_longest(_alternating(left), _alternating(right), fillvalue=("", 0)):
        found = _sign([*map(_weight, one[0]), 0], [*map(_weight, other[0]), 0])
        if found or (found := _sign(one[1], other[1])):
            return found
    return 0


def _alternating(text: str) -> list[tuple[str, int]]:
    parts = _DIGITS.findall(text)
    if parts and parts[0].isdigit():
        parts.insert(0, "")
    numbers = [int(part) for part in parts[1::2]]
    if len(numbers) < len(parts[::2]):
        numbers.append(0)
    return list(zip(parts[::2], numbers, strict=True))


def _weight(sign: str) -> int:
    if sign == "~":
        return -1
    return ord(sign) if sign.isalpha() else ord(sign) + 256


def _rpm(left: str, right: str) -> int | None:
    a, b = _RPM.fullmatch(left), _RPM.fullmatch(right)
    if not a or not b:
        return None
    found = _sign(int(a[1] or 0), int(b[1] or 0)) or _rpm_text(a[2], b[2])
    if found or not (a[3] and b[3]):
        return found
    return _rpm_text(a[3], b[3])


def _rpm_text(left: str, right: str) -> int:
    """Part by part: `~` before the end, the end before `^`, letters before numbers."""
    return _sign(_rpm_key(left), _rpm_key(right))


def _rpm_key(text: str) -> list[tuple[int, Any]]:
    ranks: list[tuple[int, Any]] = []
    for part in _RPM_PART.findall(text):
        if part == "~":
            ranks.append((0, 0))
        elif part == "^":
            ranks.append((2, 0))
        else:
            ranks.append((4, int(part)) if part.isdigit() else (3, part))
    return [*ranks, (1, 0)]


# --------------------------------------------------------------------------- apk

_APK = re.compile(r"(\d+(?:\.\d+)*)([a-z]?)((?:_[a-z]+\d*)*)(?:~[0-9a-f]+)?(?:-r(\d+))?", re.ASCII)
_APK_SUFFIX = re.compile(r"_([a-z]+)(\d*)", re.ASCII)
_APK_RANK = {"alpha": -4, "beta": -3, "pre": -2, "rc": -1} | {
    name: rank for rank, name in enumerate(("cvs", "svn", "git", "hg", "p"), 1)
}


def _apk(left: str, right: str) -> int | None:
    a, b = _APK.fullmatch(left), _APK.fullmatch(right)
    if not a or not b:
        return None
    numbers = a[1].split("."), b[1].split(".")
    if any(len(part) > 1 and part[0] == "0" for half in numbers for part in half):
        return None  # apk reads a leading zero as a fraction
    if len(numbers[0]) != len(numbers[1]) and (a[2] or b[2]):
        return None  # a letter against a further number
    tails = _apk_tail(a[3]), _apk_tail(b[3])
    if None in tails:
        return None
    first, second = ([int(part) for part in half] for half in numbers)
    return (
        _sign(first, second)
        or _sign(a[2], b[2])
        or _sign(tails[0], tails[1])
        or _sign(int(a[4] or 0), int(b[4] or 0))
    )


def _apk_tail(text: str) -> list[tuple[int, int]] | None:
    found = [(_APK_RANK.get(name), int(number or 0)) for name, number in _APK_SUFFIX.findall(text)]
    known = [(rank, number) for rank, number in found if rank is not None]
    return [*known, (0, 0)] if len(known) == len(found) else None


# --------------------------------------------------------------------------- semver, Python

_SEMVER = re.compile(r"v?(\d+(?:\.\d+)*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?", re.ASCII)
_PEP440 = re.compile(
    r"v?(?:(\d+)!)?(\d+(?:\.\d+)*)(?:[-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?(\d*))?"
    r"(?:-(\d+)|[-_.]?(post|rev|r)[-_.]?(\d*))?(?:[-_.]?(dev)[-_.]?(\d*))?"
    r"(?:\+([a-z0-9]+(?:[-_.][a-z0-9]+)*))?",
    re.ASCII,
)
_PRE = {"a": 0, "alpha": 0, "b": 1, "beta": 1, "c": 2, "rc": 2, "pre": 2, "preview": 2}
_LOW, _HIGH = -1, 9


def _semver(left: str, right: str) -> int | None:
    a, b = _SEMVER.fullmatch(left), _SEMVER.fullmatch(right)
    if not a or not b:
        return None
    found = _sign(_release(a[1]), _release(b[1]))
    if found or a[2] == b[2]:
        return found
    if not a[2] or not b[2]:
        return 1 if not a[2] else -1
    return _sign(_identifiers(a[2]), _identifiers(b[2]))


def _identifiers(text: str) -> list[tuple[int, Any]]:
    return [(0, int(p)) if p.isdigit() else (1, p) for p in text.split(".")]


def _pypi(left: str, right: str) -> int | None:
    a, b = _PEP440.fullmatch(left.lower()), _PEP440.fullmatch(right.lower())
    return _sign(_pypi_key(a), _pypi_key(b)) if a and b else None


def _pypi_key(m: re.Match[str]) -> tuple[Any, ...]:
    post = (0, int(m[5] or m[7] or 0)) if m[5] or m[6] else (_LOW, 0)
    dev = (0, int(m[9] or 0)) if m[8] else (_HIGH, 0)
    if m[3]:
        pre = (_PRE[m[3]], int(m[4] or 0))
    else:  # a bare development release comes before every pre-release of the same number
        pre = (_LOW, 0) if m[8] and post[0] == _LOW else (_HIGH, 0)
    local = _identifiers(re.sub(r"[-_]", ".", m[10])) if m[10] else []
    ranked = [(1 - rank, part) for rank, part in local]  # here numbers come after words
    return int(m[1] or 0), _release(m[2]), pre, post, dev, ranked


def _release(text: str) -> list[int]:
    """The numbers of a release; zeros at its end mean nothing."""
    numbers = [int(part) for part in text.split(".")]
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    return numbers


def _sign(left: Any, right: Any) -> int:
    return int(left > right) - int(left < right)


_ORDERS: dict[str, Callable[[str, str], int | None]] = {
    "deb": _deb,
    "rpm": _rpm,
    "apk": _apk,
    "pypi": _pypi,
    "npm": _semver,
    "golang": _semver,
    "cargo": _semver,
}
