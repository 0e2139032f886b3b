"""A shop on a real node: images of a real engine, pods that talk, and an intruder in one of them.

The app's image holds its base's version in `/etc/base`, so that a test can see on which base the
code runs; the container echoes on port 7000 and logs every connection.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.doubles.executors import PIPELINE
from tests.real.cluster import Node, programs
from tests.real.engine import Engine
from tests.real.pods import is_ready, pod
from tests.real.waiting import wait_until

APP, CONTAINER, PORT = "cart", "cart", 7000
BASE = """FROM scratch
COPY busybox /bin/busybox
COPY probe /bin/probe
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox mkdir -p /srv /etc && echo {version} > /etc/base"]
"""
START = 'echo "serving on base $(/bin/busybox cat /etc/base)"; exec /bin/probe serve'
KEEP = "controller.kubernetes.io/pod-deletion-cost"

Json = dict[str, Any]


@dataclass(frozen=True)
class Shop:
    """The workload `cart` in one namespace of a node's cluster, with a neighbour to talk to."""

    node: Node
    engine: Engine
    namespace: str
    folder: Path

    @property
    def image(self) -> str:
        """The app's repository, as engine, registry and node name it."""
        return f"{self.engine.registry}/{self.namespace}/{APP}"

    @property
    def base(self) -> str:
        """The base image's tag, the same for the vulnerable and the patched one."""
        return f"{self.engine.registry}/{self.namespace}/base:stable"

    # ------------------------------------------------------------------ images

    def push_base(self, version: str) -> None:
        """Build and push a base image of this version under the one tag."""
        place = self.folder / f"base-{version}"
        place.mkdir()
        for name, file in (("busybox", Path("/bin/busybox")), ("probe", self.node.probe_program)):
            shutil.copyfile(file, place / name)
            (place / name).chmod(0o755)
        (place / "Dockerfile").write_text(BASE.format(version=version))
        self.engine.docker("build", "-q", "--network", "none", "-t", self.base, str(place))
        self.engine.docker("push", "-q", self.base)

    def push_app(self, tag: str) -> None:
        """Build and push the app on the base that the tag means now."""
        name, argument = f"{self.image}:{tag}", f"BASE={self.base}"
        self.engine.docker(
            "build", "-q", "--network", "none", "--build-arg", argument, "-t", name,
            str(PIPELINE / "app"),
        )  # fmt: skip
        self.engine.docker("push", "-q", name)

    # ------------------------------------------------------------------ pods

    def open(self, tag: str, replicas: int = 3) -> None:
        """Deploy the app with a Service, and two neighbours; wait until all are Ready."""
        self._create("services", _service())
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments"
        self.node.must("POST", path, _deployment(f"{self.image}:{tag}", replicas))
        others = ("neighbour", "bystander")
        for name in others:
            self._create("pods", pod(name, ["serve"]))
        wait_until(
            lambda: all(is_ready(self.node, self.namespace, name) for name in others),
            "the neighbours to be Ready",
        )
        wait_until(lambda: len(self.ready()) == replicas, "the shop to open", 40)

    def _create(self, plural: str, body: Json) -> None:
        self.node.must("POST", f"/api/v1/namespaces/{self.namespace}/{plural}", body)

    def ready(self) -> list[Json]:
        """The workload's pods that are Ready and not ending."""
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector=app%3D{APP}"
        return [item for item in self.node.must("GET", path)["items"] if _is_ready(item)]

    def pod(self, name: str) -> Json | None:
        """One pod as it is now, or nothing when it is gone."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}"
        status, found = self.node.request("GET", path)
        assert status in (200, 404), found
        return found if status == 200 else None

    def keep(self, name: str) -> None:
        """Ask the ReplicaSet to spare this pod when it has one too many."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}"
        self.node.must("PATCH", path, {"metadata": {"annotations": {KEEP: "100"}}})

    def policies(self) -> list[Json]:
        """The NetworkPolicies of the namespace."""
        path = f"/apis/networking.k8s.io/v1/namespaces/{self.namespace}/networkpolicies"
        return list(self.node.must("GET", path)["items"])

    def endpoints(self) -> set[str]:
        """The pods that the Service sends requests to."""
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
        slices = self.node.must("GET", path)["items"]
        return {e["targetRef"]["name"] for piece in slices for e in piece.get("endpoints") or []}

    def bases(self) -> set[str]:
        """The versions in `/etc/base` of the Ready pods."""
        return {self.exec(item["metadata"]["name"], "/bin/busybox", "cat", "/etc/base")
                for item in self.ready()}  # fmt: skip

    # ------------------------------------------------------------------ inside and around a pod

    def kubectl(self, *argv: str) -> list[str]:
        """The command line of kubectl as the administrator."""
        config = self.folder / "admin.kubeconfig"
        if not config.exists():
            shutil.copyfile(self.node.kubeconfig(), config)
        cache = f"--cache-dir={self.folder / 'kubectl'}"
        return [str(programs() / "kubectl"), f"--kubeconfig={config}", cache, *argv]

    def exec(self, name: str, *argv: str) -> str:
        """What a program in a pod prints; its exit code is not looked at."""
        command = self.kubectl("exec", "-n", self.namespace, name, "--", *argv)
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=30,
        ).stdout.strip()  # fmt: skip

    def intrude(self, name: str) -> str:
        """Start a shell in the app's container and leave a line in its log; returns the line."""
        mark = f"intruder at {time.time_ns()}"
        self.exec(name, "/bin/busybox", "sh", "-c", f"echo {mark} > /proc/1/fd/1")
        return mark

    def dial(self, source: str, target: str) -> str:
        """Open one new connection between pods, or the world outside: `ok`, `timeout`, …"""
        address = f"{self.address(target)}:{PORT}"
        if source != "outside":
            return self.exec(source, "/bin/probe", "dial", address, "-t", "1500ms")
        command = [str(self.node.probe_program), "dial", address, "-t", "1500ms"]
        return self.node.exec(command, outside=True).stdout.strip()

    def address(self, name: str) -> str:
        """The address of a pod, or of the host beyond the node's uplink."""
        if name == "outside":
            return self.node.outside_ip
        found = self.pod(name)
        assert found, f"pod {name} is gone"
        return str(found["status"]["podIP"])

    def world_listens(self) -> AbstractContextManager[None]:
        """Let the host beyond the node's uplink echo, for the length of a block."""
        return self.node.running([str(self.node.probe_program), "serve"], outside=True)

    def reach(self, name: str) -> dict[str, str]:
        """What new connections in and out of a pod come to."""
        others = ("outside", "neighbour")
        inward = {f"{other} -> pod": self.dial(other, name) for other in others}
        return inward | {f"pod -> {other}": self.dial(name, other) for other in others}

    def until_reach(self, name: str, wanted: Mapping[str, str], seconds: float = 15) -> None:
        """Wait until new connections come to this; AssertionError with what they came to last."""
        seen: dict[str, str] = {}

        def look() -> bool:
            seen.update(self.reach(name))
            return seen == wanted

        try:
            wait_until(look, f"{name} to reach", seconds)
        except TimeoutError:
            assert seen == wanted

    @contextmanager
    def talking(self, source: str, target: str) -> Iterator[Path]:
        """Hold one connection between two pods open for a block; the file shows each round trip."""
        file = self.folder / f"talk-{time.time_ns()}"
        address = f"{self.address(target)}:{PORT}"
        held = ["/bin/probe", "hold", address, "-every", "100ms", "-t", "1500ms"]
        with file.open("wb") as out:
            child = subprocess.Popen(
                self.kubectl("exec", "-n", self.namespace, source, "--", *held),
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
            try:
                wait_until(lambda: " ok" in file.read_text(), "a first round trip")
                yield file
            finally:
                child.terminate()
                child.wait(10)


def falco_event(item: Json) -> Json:
    """What Falco's http_output sends about a shell in the app's container.

    https://falco.org/docs/concepts/outputs/channels/
    """
    metadata, [state] = item["metadata"], item["status"]["containerStatuses"]
    repository, _, tag = state["image"].rpartition(":")
    now = datetime.now(UTC)
    return {
        "hostname": "falco-x7v2p",
        "output": f"{now:%H:%M:%S}: Notice A shell was spawned in a container with a terminal",
        "priority": "Notice",
        "rule": "Terminal shell in container",
        "source": "syscall",
        "tags": ["T1059", "container", "mitre_execution", "shell"],
        "time": f"{now:%Y-%m-%dT%H:%M:%S.%f}000Z",
        "output_fields": {
            "container.id": state["containerID"].rpartition("//")[2][:12],
            "container.image.repository": repository,
            "container.image.tag": tag,
            "container.name": state["name"],
            "evt.time": int(now.timestamp() * 1_000_000_000),
            "k8s.ns.name": metadata["namespace"],
            "k8s.pod.name": metadata["name"],
            "proc.cmdline": "sh -c id",
            "proc.name": "sh",
            "proc.tty": 34816,
            "user.name": "root",
        },
    }


def running_images(pods: list[Json]) -> set[str]:
    """The image ids that the kubelet reports for pods."""
    return {state["imageID"] for item in pods for state in item["status"]["containerStatuses"]}


def _is_ready(item: Mapping[str, Any]) -> bool:
    conditions = item["status"].get("conditions") or []
    going = item["metadata"].get("deletionTimestamp")
    return not going and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _service() -> Json:
    spec = {"selector": {"app": APP}, "ports": [{"port": 80, "targetPort": PORT}]}
    return {"metadata": {"name": APP}, "spec": spec}


def _deployment(image: str, replicas: int) -> Json:
    container = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": "Always",
        "command": ["/bin/busybox", "sh", "-c", START],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
    }
    template = {
        "metadata": {"labels": {"app": APP, "tier": "web"}},
        "spec": {
            "containers": [container],
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
        },
    }
    selector = {"matchLabels": {"app": APP}}
    spec = {"replicas": replicas, "selector": selector, "template": template}
    return {"metadata": {"name": APP, "labels": {"app": APP}}, "spec": spec}
