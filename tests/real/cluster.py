"""Start a real Kubernetes control plane, with or without a real node, and clear it away.

The programs are built from Go modules by ``tests/cluster/build.sh`` and kept outside the checkout
(``CLUSTER_BIN``, default ``~/.cache/responder-cluster/bin``); a build that matches is a no-op.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tests.real.api import Api
from tests.real.missing import unavailable
from tests.real.pods import PROBE_IMAGE, SHELL_IMAGE
from tests.real.waiting import wait_until
from tests.real.workshop import Workshop, end_family, is_alive, sweep, write_mark

SCRIPTS = Path(__file__).resolve().parent.parent / "cluster"
BUILD_SECONDS = 3600
START_SECONDS = 240

AnyApi = TypeVar("AnyApi", bound=Api)


def programs() -> Path:
    """Return the folder of the built cluster programs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("CLUSTER_BIN") or cache / "responder-cluster/bin")


class ControlPlane(Api):
    """Tier 1: etcd, API server, controller manager and scheduler; no kubelet, no packets.

    Pods stay Pending until a ``FakeKubelet`` marks them.
    """

    def restart_api_server(self) -> None:
        """Kill the API server and start it again as it was; return once it is ready.

        Never do this to the control plane of a session: other tests are using it.
        """
        mark = self.state / "pids" / "kube-apiserver"
        assert is_alive(mark), "the API server is not running"
        pid = int(mark.read_text().split()[0])
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(mark), "the end of the API server")
        log = self.state / "logs" / "kube-apiserver-again.log"
        streams = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        # not Popen: nobody here waits for its end, down.sh sees to that
        child = os.posix_spawn(argv[0], argv, os.environ, file_actions=streams, setsid=True)
        write_mark(mark, child)
        wait_until(self._is_ready, "the API server to be ready again", seconds=60)

    def _is_ready(self) -> bool:
        try:
            return self.request("GET", "/readyz")[0] == 200
        except OSError:
            return False


class Node(Api):
    """Tier 2: a control plane and one node with containerd, kubelet, CNI, kube-proxy, packets.

    All of it runs in private namespaces. ``probe_image`` (an echo server and dialler) and
    ``shell_image`` (busybox) are loaded; pods must use them with ``imagePullPolicy: Never``
    (``tests/real/pods.py`` makes such pods).
    """

    probe_image = PROBE_IMAGE
    shell_image = SHELL_IMAGE

    @property
    def facts(self) -> dict[str, str]:
        """Return what the start script wrote down."""
        return _facts(self.state)

    @property
    def name(self) -> str:
        """Return the node's name."""
        return self.facts["CLUSTER_NODE"]

    @property
    def outside_ip(self) -> str:
        """Return the address of the host beyond the node's uplink (the "internet")."""
        return self.facts["CLUSTER_OUTSIDE_IP"]

    @property
    def probe_program(self) -> Path:
        """Return the probe program's file, to run it outside of a pod."""
        return programs() / "probe"

    def exec(
        self, argv: Sequence[str], *, outside: bool = False, seconds: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the node's namespaces, or on the host beyond its uplink.

        It never raises for an exit code. TimeoutExpired after ``seconds``.
        """
        return subprocess.run(
            self._inside(argv, outside=outside),
            env=_environment(self.state),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    @contextlib.contextmanager
    def running(self, argv: Sequence[str], *, outside: bool = False) -> Iterator[None]:
        """Keep a program running in the node (or beyond it) for the length of a block."""
        child = subprocess.Popen(
            self._inside(argv, outside=outside),
            env=_environment(self.state),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
        finally:
            end_family(child)

    def policy(self, mode: str) -> None:
        """Switch NetworkPolicy enforcement: ``none``, ``survive`` or ``strict``.

        ``survive`` leaves established connections alone, ``strict`` cuts them.
        """
        _script("policy.sh", mode, state=self.state, seconds=60)

    def bridge_registry(self, port: int) -> None:
        """Make 127.0.0.1:PORT inside the node the same registry as on the host.

        Image names are then equal on both sides, and containerd speaks plain HTTP to loopback.
        Calling it again for the same port does nothing. The bridge ends with the node.
        """
        _script("bridge.sh", str(port), state=self.state, seconds=30)

    def _inside(self, argv: Sequence[str], *, outside: bool) -> list[str]:
        return [str(SCRIPTS / "node-exec.sh"), *(["--outside"] if outside else []), *argv]


@contextlib.contextmanager
def control_plane(*flags: str) -> Iterator[ControlPlane]:
    """Run a control plane for the length of a block; skip or fail when it cannot be built.

    ``flags`` are further ones of the API server, without spaces.
    """
    with _cluster("up.sh", "tier1", "c", {"CLUSTER_APISERVER_FLAGS": " ".join(flags)}) as state:
        plane = _open(ControlPlane, state)
        try:
            yield plane
        finally:
            plane.close()


@contextlib.contextmanager
def node() -> Iterator[Node]:
    """Run a control plane with a node for the length of a block; skip or fail when it cannot."""
    if os.geteuid() != 0:
        unavailable("the node needs root")
    for tool in ("containerd", "runc", "iptables", "conntrack", "ip", "socat"):
        if not shutil.which(tool, path=_path()):
            unavailable(f"the node needs {tool}: run `make setup`")
    with _cluster("up-node.sh", "all", "n") as state:
        machine = _open(Node, state)
        try:
            yield machine
        finally:
            machine.close()


@contextlib.contextmanager
def _cluster(
    script: str, wanted: str, kind: str, more: Mapping[str, str] | None = None
) -> Iterator[Path]:
    sweep()
    shop = Workshop(kind)
    try:
        built = _run("build.sh", wanted, state=shop.path, seconds=BUILD_SECONDS)
        if built.returncode:
            unavailable(f"the cluster programs could not be built: {built.stderr[-800:]}")
        _script(script, state=shop.path, seconds=START_SECONDS, more=more)
        yield shop.path
    finally:
        _run("down.sh", "--wipe", state=shop.path, seconds=60)
        shop.close()


def _open(kind: type[AnyApi], state: Path) -> AnyApi:
    facts = _facts(state)
    return kind(
        api=facts["CLUSTER_API"],
        ca=Path(facts["CLUSTER_CA"]),
        admin_token=facts["CLUSTER_TOKEN"],
        state=state,
    )


def _facts(state: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (state / "env").read_text().splitlines())


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"


def _environment(state: Path) -> dict[str, str]:
    return {**os.environ, "PATH": _path(), "CLUSTER_STATE": str(state)}


def _run(
    script: str, *args: str, state: Path, seconds: float, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPTS / script), *args],
        env=_environment(state) | dict(more or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


def _script(
    script: str, *args: str, state: Path, seconds: float, more: Mapping[str, str] | None = None
) -> None:
    done = _run(script, *args, state=state, seconds=seconds, more=more)
    assert done.returncode == 0, f"{script} {' '.join(args)}: {done.stderr[-2000:]}{_logs(state)}"


def _logs(state: Path) -> str:
    """Return the ends of all logs: the folder is gone by the time someone reads the failure."""
    text = ""
    for file in sorted((state / "logs").glob("*.log")):
        end = file.read_text(errors="replace").splitlines()[-5:]
        text += "\n".join(["", f"--- {file.name}", *end])
    return text
