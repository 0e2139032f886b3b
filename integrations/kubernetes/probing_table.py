"""A node's connection table for one pod's address: read it, and take the pod's entries out.

By a pod of ours on the node's network with NET_ADMIN, for some seconds, and only where the
configuration allows it (`probe.cut_flows`). Reading changes nothing; cutting makes the next packet
of an old connection count as a new one, which a deny then stops
(nf_conntrack_tcp_loose in https://docs.kernel.org/networking/nf_conntrack-sysctl.html).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.probing import Bench, Broken
from integrations.kubernetes.probing_flows import Flow, own_addresses, read_flows
from integrations.kubernetes.probing_pods import Task, addresses_of, mark_of, pod
from integrations.kubernetes.probing_scripts import CUT, LIST
from responder.errors import ResponderError

__all__ = ["Table", "cut", "read"]

_LIMIT = 4 * 1024 * 1024  # bytes of a listing
_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Table:
    """What the node's table says of an address, as it was printed and as it was read."""

    raw: bytes
    flows: tuple[Flow, ...]
    own: frozenset[str]

    @property
    def alive(self) -> tuple[Flow, ...]:
        """Flows with anybody but the pod's own node, whose traffic no policy stops."""
        return tuple(
            flow for flow in self.flows if not any(end[0] in self.own for end in flow.ends)
        )


async def read(api: Api, key: str, target: Json) -> Table:
    """List the entries. Raises `Broken` with the reason when they cannot be had."""
    name, raw = await _run(api, f"{key}/table", "table", LIST, target)
    if name:
        raise Broken(f"the connection table cannot be read: {name}")
    text = raw.decode(errors="replace")
    return Table(raw, read_flows(text), own_addresses(text))


async def cut(api: Api, key: str, target: Json) -> int:
    """Take the entries out; how many there were. Raises `Broken`."""
    told, _ = await _run(api, f"{key}/cut", "cut", CUT, target)
    if not told.isdigit():
        raise Broken(f"the connection table cannot be changed: {told}")
    return int(told)


async def _run(api: Api, key: str, role: str, script: str, target: Json) -> tuple[str, bytes]:
    """What the pod told at its end, and what it printed."""
    addresses = addresses_of(target)
    node = str(target["spec"].get("nodeName") or "")
    if not addresses or not node:
        raise Broken("the pod has no address on a node")
    image = api.connection.settings.probe.image
    body = pod(
        mark_of(key),
        role,
        image,
        [Task(role, script, addresses)],
        seconds=int(_SECONDS) + 10,
        node=node,
        on_node_network=True,
    )
    try:
        async with asyncio.timeout(_SECONDS), Bench(api, mark_of(key)).open() as bench:
            await bench.start([body])
            told = (await bench.told(role))[role]
            printed = b"" if script is CUT else await bench.log(role, _LIMIT)
    except TimeoutError:
        raise Broken(f"it did not end within {_SECONDS:g} s") from None
    except ResponderError as error:
        raise Broken(str(error)) from error
    return ("" if told.startswith("nothing (exit code 0,") else told), printed
