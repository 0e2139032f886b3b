"""A pod's open connections, as its own network namespace and its node's table show them. Pure.

An established socket says that a connection was there, not that it still works: one that a policy
cuts stays "established" for a quarter of an hour. So what counts is whether bytes moved between two
looks, whether the network plug-in is known to cut, and whether the node's connection table still
has the flow, in this order. A connection that is merely silent counts as open.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

__all__ = ["Flow", "Socket", "own_addresses", "read_flows", "read_sockets"]

_PARTS = 5  # word, two ends, two counters

Ends = frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Socket:
    """One established TCP connection of a pod; `moved` is None where nobody could tell."""

    local: tuple[str, int]
    peer: tuple[str, int]
    moved: bool | None

    @property
    def text(self) -> str:
        """For people."""
        return f"{_text(self.local)} with {_text(self.peer)}"

    @property
    def ends(self) -> Ends:
        """The two ends, whoever opened it."""
        return frozenset({self.local, self.peer})


@dataclass(frozen=True, slots=True)
class Flow:
    """One entry of a node's connection table that may carry data both ways."""

    protocol: str
    source: tuple[str, int]
    destination: tuple[str, int]
    ends: frozenset[tuple[str, int]]  # of both directions: a translated address is among them

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.protocol} {_text(self.source)} to {_text(self.destination)}"


def _text(end: tuple[str, int]) -> str:
    address, port = end
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def read_sockets(lines: Sequence[str]) -> tuple[Socket, ...] | None:
    """What the container inside the pod told; None when it could not see all connections.

    It tells how many there were, so that a list that was cut short is not taken for whole.
    """
    for line in lines:
        word, _, rest = line.partition(" ")
        how, _, count = rest.partition(" ")
        if word == "seen" and how in {"ss", "proc"} and count.isdigit():
            found = _bare(lines) if how == "proc" else _compared(lines)
            whole = found if len(found) == int(count) else None
            return whole and tuple(one for one in whole if not _loops(one.peer))
    return None


def _bare(lines: Iterable[str]) -> tuple[Socket, ...]:
    found = [line.split() for line in lines if line.startswith("bare ")]
    return tuple(Socket(_hex_end(one[1]), _hex_end(one[2]), None) for one in found)


def _compared(lines: Sequence[str]) -> tuple[Socket, ...]:
    """What the later look shows, against the earlier one; what is new has moved."""
    was, now = _counted(lines, "was "), _counted(lines, "is ")
    return tuple(Socket(*ends, moved=was.get(ends) != counts) for ends, counts in now.items())


def _counted(
    lines: Iterable[str], word: str
) -> dict[tuple[tuple[str, int], tuple[str, int]], tuple[str, ...]]:
    found = {}
    for line in lines:
        parts = line.split()
        if line.startswith(word) and len(parts) == _PARTS:  # the first one may be cut in two
            found[_end(parts[1]), _end(parts[2])] = tuple(parts[3:])
    return found


def _end(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    return _plain(address.strip("[]").partition("%")[0]), int(port)


def _hex_end(text: str) -> tuple[str, int]:
    """An end in the words of /proc/net/tcp: 32-bit words in the machine's byte order, then a port.

    https://www.kernel.org/doc/Documentation/networking/proc_net_tcp.txt
    """
    address, _, port = text.partition(":")
    raw = bytes.fromhex(address)
    swapped = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    made = IPv4Address(swapped) if len(swapped) == 4 else IPv6Address(swapped)  # noqa: PLR2004
    return _plain(str(made)), int(port, 16)


def _plain(text: str) -> str:
    """One spelling for one address; IPv4 that is written as IPv6 is IPv4."""
    try:
        found = ip_address(text)
    except ValueError:
        return text
    inner = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(inner or found)


def _loops(end: tuple[str, int]) -> bool:
    try:
        return ip_address(end[0]).is_loopback
    except ValueError:
        return False


_TUPLE = re.compile(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)")


def read_flows(listing: str) -> tuple[Flow, ...]:
    """The live entries of `conntrack -L`: established TCP, and what else has been answered.

    https://manpages.debian.org/bookworm/conntrack/conntrack.8.en.html
    """
    found = {}
    for line in listing.splitlines():
        ways = [((_plain(a), int(c)), (_plain(b), int(d))) for a, b, c, d in _TUPLE.findall(line)]
        words = line.split()
        live = "ESTABLISHED" in words if words[:1] == ["tcp"] else "[ASSURED]" in words
        if ways and live:
            flow = Flow(words[0], *ways[0], frozenset(end for way in ways for end in way))
            found[flow.protocol, flow.source, flow.destination] = flow
    return tuple(found.values())


def own_addresses(listing: str) -> frozenset[str]:
    """The node's own addresses, which its probe pod told beside the table."""
    return frozenset(
        _plain(line.split()[1]) for line in listing.splitlines() if line.startswith("own ")
    )
