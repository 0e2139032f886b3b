"""A short folder for one real part: its owner, what was started in it, and how it is cleared.

Layout of a folder ``/tmp/rr-KIND-XXXXXXXX`` (short, because unix socket paths end at 107 bytes):
``owner`` and ``pids/NAME`` each hold "PID START_TICKS". The start time (field 22 of
``/proc/PID/stat``, https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html) makes a reused
process id harmless. ``tests/cluster/lib.sh`` uses the same form.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PREFIX = "rr-"
CGROUPS = Path("/sys/fs/cgroup")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_ticks(pid: int) -> str:
    """Return when the process started, in ticks since boot; empty when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def is_alive(mark: Path) -> bool:
    """Tell whether the very process that a mark file names still runs."""
    try:
        pid, ticks = mark.read_text().split()
    except (OSError, ValueError):
        return False
    return start_ticks(int(pid)) == ticks


def write_mark(mark: Path, pid: int) -> None:
    """Write a process id with its start time, at once: a reader never sees half a mark."""
    half = mark.parent / f".{mark.name}"
    half.write_text(f"{pid} {start_ticks(pid)}\n")
    half.replace(mark)


class Workshop:
    """One folder and the processes that were started in it.

    It never signals a process that it did not start, or whose id was given to another since.
    """

    def __init__(self, kind: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-", dir="/tmp"))
        self.path.chmod(0o700)
        self._pids = self.path / "pids"
        self._pids.mkdir()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        write_mark(self.path / "owner", os.getpid())

    def start(
        self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program in its own session; its output goes to ``NAME.log`` of the folder."""
        with (self.path / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(env) if env is not None else None,
                cwd=self.path,
                start_new_session=True,
            )
        write_mark(self._pids / name, child.pid)
        self._children[name] = child
        return child

    def log(self, name: str, lines: int = 15) -> str:
        """Return the last lines that a program wrote, for an error text."""
        with contextlib.suppress(OSError):
            text = (self.path / f"{name}.log").read_text(errors="replace")
            return "\n".join(text.splitlines()[-lines:])
        return ""

    def stop(self, name: str, seconds: float = 10.0) -> None:
        """Ask one program to end, wait, and end it by force when it does not."""
        child = self._children.pop(name, None)
        if child is None:
            return
        child.terminate()
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(seconds)
        (self._pids / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop all programs, the last one first, unmount what they left and remove the folder."""
        for name in reversed(list(self._children)):
            self.stop(name)
        clear(self.path)


def clear(path: Path) -> None:
    """End every process that runs out of this folder, unmount below it and remove it.

    It touches only a folder that a Workshop made: the name carries a random part, so a command
    line that holds it belongs to us.
    """
    if not path.name.startswith(PREFIX):
        raise ValueError(f"{path} is no folder of the test bench")
    for mark in (path / "pids").glob("*"):
        if is_alive(mark):
            _kill(int(mark.read_text().split()[0]))
    for pid in _running_from(path):
        _kill(pid)
    for mount in _mounts_below(path):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
    for group in [*CGROUPS.glob(f"*/{path.name}"), *CGROUPS.glob(path.name)]:
        _remove_groups(group)
    shutil.rmtree(path, ignore_errors=True)


def leftovers() -> list[Path]:
    """Return the folders of our own user whose owner is gone."""
    return [
        path
        for path in Path("/tmp").glob(f"{PREFIX}*-*")
        if path.is_dir()
        and path.stat().st_uid == os.geteuid()
        and (path / "owner").exists()
        and not is_alive(path / "owner")
    ]


def end_family(child: subprocess.Popen[bytes]) -> None:
    """End a program that was started in its own session, and its children with it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(5)


def sweep() -> None:
    """Clear what sessions that were killed have left, clusters too."""
    for old in leftovers():
        if (old / "mode").exists():
            down = Path(__file__).resolve().parent.parent / "cluster/down.sh"
            subprocess.run(
                [str(down), "--wipe"],
                env={**os.environ, "CLUSTER_STATE": str(old)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=60,
            )
        clear(old)


def _kill(pid: int) -> None:
    """End one process by force and wait until it is gone, at most two seconds."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 2
    while start_ticks(pid) and time.monotonic() < end:
        time.sleep(0.01)


def _running_from(path: Path) -> list[int]:
    """Return processes whose command line names the folder, their children first."""
    owners, parents = [], {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid = int(entry.name)
            parents[pid] = int((entry / "stat").read_text().rpartition(") ")[2].split()[1])
            if f"{path}/".encode() in (entry / "cmdline").read_bytes() and pid != os.getpid():
                owners.append(pid)
    shims = [pid for pid in owners if _is_shim(pid)]
    contained = [pid for pid, parent in parents.items() if parent in shims]
    return contained + owners


def _is_shim(pid: int) -> bool:
    """Tell whether the process is containerd's keeper of one container."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].find(b"-shim-") > 0
    return False


def _mounts_below(path: Path) -> list[str]:
    """Return the mount points below a folder, the deepest first."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((p for p in points if p.startswith(f"{path}/")), reverse=True)


def _remove_groups(top: Path) -> None:
    """Remove an empty tree of control groups, the deepest first."""
    for folder, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
