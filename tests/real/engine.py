"""Start a private Docker engine and an image registry, and clear both away.

The engine lives in a network namespace of its own (bridges, firewall rules and published ports are
real and the host has none of them); its unix socket works across namespaces. The registry listens
on the host's loopback and is bridged into the engine's namespace under the same address, so image
names are equal on both sides. Docker trusts a registry on 127.0.0.0/8 without TLS:
https://docs.docker.com/reference/cli/dockerd/#insecure-registries
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.real.missing import unavailable
from tests.real.waiting import wait_until
from tests.real.workshop import Workshop, free_port, sweep

# Debian's own client: it has BuildKit built in. A newer one earlier in PATH may lack buildx.
CLIENT = Path("/usr/bin/docker")
NEEDED = ("dockerd", "containerd", "runc", "docker-registry", "socat", "nsenter", "unshare", "ip")
IN_OWN_NETWORK = ("unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")


@dataclass(frozen=True)
class Engine:
    """A running engine with its registry.

    ``docker_host`` is the engine's address, ``registry`` is "127.0.0.1:PORT", ``pid`` the engine's
    process (its network namespace is where published ports are).
    """

    docker_host: str
    registry: str
    pid: int
    folder: Path

    @property
    def port(self) -> int:
        """Return the registry's port."""
        return int(self.registry.rpartition(":")[2])

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the environment of a program that calls ``docker``: the right client is first."""
        return {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}:{_path()}",
            "DOCKER_HOST": self.docker_host,
            "DOCKER_CONFIG": str(self.folder / "config"),
        }

    def docker(
        self, *args: str, seconds: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run the docker client; AssertionError with its words when it fails and ``check``."""
        done = self._run([str(CLIENT), *args], seconds)
        assert done.returncode == 0 or not check, f"docker {' '.join(args)}: {done.stderr}"
        return done

    def inside(self, argv: Sequence[str], seconds: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a command in the engine's network namespace (iptables, curl to published ports)."""
        return self._run(["nsenter", "-t", str(self.pid), "-n", *argv], seconds)

    def _run(self, argv: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """Run an engine and a registry for the length of a block; skip or fail when it cannot."""
    if os.geteuid() != 0:
        unavailable("the Docker engine needs root")
    for tool in NEEDED:
        if not shutil.which(tool, path=_path()):
            unavailable(f"the Docker engine needs {tool}: run `make setup`")
    if not CLIENT.exists():
        unavailable(f"the Docker engine needs Debian's client {CLIENT}: run `make setup`")
    sweep()
    shop = Workshop("d")
    try:
        port = _start_registry(shop)
        made = _start_engine(shop, port)
        yield made
        _remove_containers(made)
    finally:
        shop.stop("dockerd", 20)
        shop.close()


def _start_registry(shop: Workshop) -> int:
    port = free_port()
    settings = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": str(shop.path / "registry")},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "only-for-tests"},
    }
    file = shop.path / "registry.yml"
    file.write_text(json.dumps(settings))  # JSON is YAML too
    child = shop.start("docker-registry", ["docker-registry", "serve", str(file)], _plain())

    def answers() -> bool:
        assert child.poll() is None, f"the registry ended: {shop.log('docker-registry')}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    wait_until(answers, "the registry")
    return port


def _start_engine(shop: Workshop, port: int) -> Engine:
    for name in ("bin", "config"):
        (shop.path / name).mkdir()
    (shop.path / "bin/docker").symlink_to(CLIENT)
    door = shop.path / "docker.sock"
    options = [
        f"--data-root={shop.path / 'data'}",
        f"--exec-root={shop.path / 'exec'}",
        f"--pidfile={shop.path / 'dockerd.pid'}",
        f"--host=unix://{door}",
        f"--cgroup-parent=/{shop.path.name}",
        "--storage-driver=overlay2",
    ]
    child = shop.start("dockerd", [*IN_OWN_NETWORK, "dockerd", *options], _plain())

    def answers() -> bool:
        assert child.poll() is None, f"the engine ended: {shop.log('dockerd')}"
        return _ping(door)

    wait_until(answers, "the Docker engine", 60)
    meeting = shop.path / "registry.sock"
    shop.start("bridge-host", ["socat", f"UNIX-LISTEN:{meeting},fork", f"TCP:127.0.0.1:{port}"])
    listen = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"
    enter = ["nsenter", "-t", str(child.pid), "-n"]
    shop.start("bridge-engine", [*enter, "socat", listen, f"UNIX-CONNECT:{meeting}"])
    made = Engine(f"unix://{door}", f"127.0.0.1:{port}", child.pid, shop.path)
    probe = ["curl", "-sf", f"http://127.0.0.1:{port}/v2/"]
    wait_until(lambda: made.inside(probe).returncode == 0, "the registry as the engine sees it")
    return made


def _ping(door: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(2)
            link.connect(str(door))
            link.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in link.recv(64)
    except OSError:
        return False


def _remove_containers(made: Engine) -> None:
    """Remove all containers, so that no shim outlives the engine."""
    found = made.docker("ps", "-aq", check=False).stdout.split()
    if found:
        made.docker("rm", "-f", *found, check=False)


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"


def _plain() -> dict[str, str]:
    return {"PATH": _path(), "HOME": "/nonexistent"}
