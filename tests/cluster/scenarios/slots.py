"""Namespaces on the real node, each with a target and a friend, used by one scenario at a time."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.adapters.kubernetes.policy.bench import NETWORKING, PORTS, Bench, Dial, server
from tests.cluster.scenarios.reading import WAYS, Scenario
from tests.real.cluster import Node
from tests.real.pods import is_ready
from tests.real.waiting import wait_until
from tests.real.workshop import end_family

Json = dict[str, Any]
SLOTS = 12  # the node takes 40 pods, and the product's own come on top
_HELD = "2500ms"  # a held connection that is silent so long has ended
_TRIES = 3  # a busy machine may be slow


class Slots(Bench):
    """What the scenarios are played on: prepared, isolated, tried, and prepared again."""

    def set_up(self) -> None:
        """Start the pods; the fence tells when all that was written has arrived."""
        wanted = [(space, name) for space in self.spaces for name in ("target", "friend")]
        wanted.append((self.fence, "fence"))
        for space, name in wanted:
            self.node.must("POST", f"/api/v1/namespaces/{space}/pods", server(name))
        for space, name in wanted:
            wait_until(lambda s=space, n=name: is_ready(self.node, s, n), f"{name} Ready", 120)
            found = self.node.must("GET", f"/api/v1/namespaces/{space}/pods/{name}")
            self.pods[f"{space}/{name}"] = found["status"]["podIP"]
        self.relabel({f"{space}/friend": {"role": "friend"} for space in self.spaces})
        self.networks = self._network_namespaces()
        self.outside_source = self._source()
        self._fence_policies()

    def _source(self) -> str:
        some = next(iter(self.pods.values()))
        route = self.node.exec(["ip", "route", "get", some], outside=True).stdout.split()
        return route[route.index("src") + 1]

    def clear(self, spaces: Iterable[str]) -> None:
        """Nobody denies anything."""
        paths = [f"{NETWORKING}/{space}/networkpolicies" for space in spaces]
        together(lambda path: self.node.must("DELETE", path), paths)

    def prepare(self, wanted: dict[str, Scenario], words: dict[str, str]) -> None:
        """Each target with its labels and owner, and the policies of others alone."""
        together(lambda one: self._prepare(*one, words), wanted.items())

    def _prepare(self, space: str, one: Scenario, words: dict[str, str]) -> None:
        path = f"/api/v1/namespaces/{space}/pods/target"
        now = self.node.must("GET", path)["metadata"]
        gone = {k: None for k in now.get("annotations") or {} if k.startswith("responder.dev/")}
        owners = [self._owner(space)] if one.owner == "custom" else []
        body = {"metadata": {"annotations": gone, "ownerReferences": owners}}
        self.node.must("PATCH", path, body)
        self.relabel({f"{space}/target": dict(one.labels)})
        self._add(space, one.written(**words)[0])

    def change(self, wanted: dict[str, Scenario], words: dict[str, str]) -> None:
        """The policies that others make after the isolation."""
        together(lambda one: self._add(one[0], one[1].written(**words)[1]), wanted.items())

    def _add(self, space: str, policies: list[Json]) -> None:
        for spec in policies:
            body = {"metadata": {"generateName": "other-"}, "spec": spec}
            self.node.must("POST", f"{NETWORKING}/{space}/networkpolicies", body)

    def _owner(self, space: str) -> Json:
        path = f"/api/v1/namespaces/{space}/configmaps/kube-root-ca.crt"
        found = wait_until(lambda: self.node.request("GET", path)[1].get("metadata"), "an owner")
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": found["name"],
            "uid": found["uid"],
            "controller": True,
        }

    # ------------------------------------------------------------------ connections

    def seen(self, wanted: dict[str, Scenario], mode: str) -> dict[str, dict[str, str]]:
        """What new connections really come to, each way, `open` where one of two ports is."""
        tries = {space: self._tries(space) for space in wanted}
        answers = self.dial([d for ways in tries.values() for way in ways.values() for d in way])
        late = [  # a busy machine may be slow: a yes that did not come is asked for again
            dial
            for space, one in wanted.items()
            for way, mine in tries[space].items()
            if (mode == "none" or one.packets[way] == "open")
            and not any(answers[dial] == "ok" for dial in mine)
            for dial in mine
        ]
        answers |= self.dial(late, "4s") if late else {}
        return {space: _read(ways, answers) for space, ways in tries.items()}

    def _tries(self, space: str) -> dict[str, list[Dial]]:
        mine, friend = f"{space}/target", f"{space}/friend"
        ends = {
            "in friend": (friend, mine),
            "in outside": ("outside", mine),
            "out friend": (mine, friend),
            "out outside": (mine, "outside"),
        }
        return {way: [Dial(*ends[way], port) for port in PORTS.values()] for way in WAYS}

    def dial(self, dials: list[Dial], limit: str = "900ms") -> dict[Dial, str]:
        """Try connections, all at once."""
        return super().dial(dials, limit)

    @contextlib.contextmanager
    def holding(self, spaces: list[str], folder: Path) -> Iterator[dict[str, Path]]:
        """One connection from each friend to its target, open for the length of a block."""
        files = {space: folder / f"{space}-{self.round}.txt" for space in spaces}
        with contextlib.ExitStack() as stack:
            left = list(files)
            for _ in range(_TRIES):
                for space in left:
                    stack.enter_context(self._held(space, files[space]))
                left = [space for space in left if " ok" not in _first(files[space])]
            assert not left, [files[space].read_text() for space in left]
            yield files

    @contextlib.contextmanager
    def _held(self, space: str, file: Path) -> Iterator[None]:
        network = self.networks[self.pods[f"{space}/friend"]]
        address = f"{self.pods[f'{space}/target']}:{PORTS['echo']}"
        held = [str(self.node.probe_program), "hold", address, "-every", "100ms", "-t", _HELD]
        with file.open("wb") as out:
            child = subprocess.Popen(
                self.node._inside(["nsenter", f"--net={network}", *held], outside=False),
                env={**os.environ, "CLUSTER_STATE": str(self.node.state)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            yield
        finally:
            end_family(child)


def together(work: Callable[[Any], Any], on: Iterable[Any]) -> None:
    """Do the same to many things, a few at a time."""
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, on))


def _read(ways: dict[str, list[Dial]], answers: dict[Dial, str]) -> dict[str, str]:
    got = {way: {answers[dial] for dial in dials} for way, dials in ways.items()}
    return {way: "open" if "ok" in words else "cut" for way, words in got.items()}


def _first(file: Path) -> str:
    """What a held connection has told once it has had its first round trip, or has ended."""

    def begun() -> bool:
        text = file.read_text()
        return " ok" in text or "connect " in text or "timeout" in text

    with contextlib.suppress(TimeoutError):
        wait_until(begun, "a round trip", 10)
    return file.read_text()


def lives(files: dict[str, Path]) -> dict[str, bool]:
    """Whether held connections go on: two seconds of round trips more, or the end in the file."""
    before = {space: file.read_text().count(" ok") for space, file in files.items()}

    def look(space: str, file: Path) -> str:
        text = file.read_text()
        if "timeout" in text or "error" in text:
            return "cut"
        return "lives" if text.count(" ok") > before[space] + 25 else ""

    return {
        space: wait_until(lambda s=space, f=file: look(s, f), "a held connection", 30) == "lives"
        for space, file in files.items()
    }


@contextlib.contextmanager
def slots(node: Node) -> Iterator[Slots]:
    """The pods, and what answers outside of the node; nothing enforces anything afterwards."""
    serve = [str(node.probe_program), "serve"]
    with contextlib.ExitStack() as stack:
        spaces = tuple(node.namespace("s") for _ in range(SLOTS))
        fence = node.namespace("fence")
        for space in (*spaces, fence):
            stack.callback(node.drop_namespace, space)
        for port in PORTS.values():
            call = [*serve, "-tcp", f":{port}", "-http", f":{port + 1000}"]
            stack.enter_context(node.running(call, outside=True))
        made = Slots(node, spaces, fence)
        made.set_up()
        yield made
        node.policy("none")
