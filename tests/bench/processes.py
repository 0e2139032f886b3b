"""Processes under measure: started in a session of their own, ended by their own id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process", "folder", "responder", "run_floor", "start", "write_config"]

TOKEN = "bench-token-of-thirty-two-letters"
_TICKS = os.sysconf("SC_CLK_TCK")
_CONFIG = """
[server]
listen = "127.0.0.1:0"
[store]
url = "sqlite:///{folder}/responder.db"
[log]
level = "warning"
"""


@dataclass
class Process:
    """One started program, and where it listens."""

    child: subprocess.Popen[bytes]
    url: str
    ready: float  # seconds from its start until /readyz said 200
    log: Path

    @property
    def cpu(self) -> float:
        """CPU seconds so far."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def rss(self) -> float:
        """MiB in memory now."""
        return self._status("VmRSS")

    @property
    def peak(self) -> float:
        """MiB in memory at most so far."""
        return self._status("VmHWM")

    def _status(self, key: str) -> float:
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) / 1024
        raise LookupError(key)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Signal it and wait until it is gone."""
        if self.child.poll() is None:
            self.child.send_signal(number)
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder of its own on the disk that temporary files are on."""
    path = Path(tempfile.mkdtemp(prefix="responder-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write_config(path: Path, more: str = "") -> Path:
    """A configuration with its store in this folder."""
    path.mkdir(parents=True, exist_ok=True)
    file = path / "config.toml"
    file.write_text(_CONFIG.format(folder=path) + more)
    return file


def start(argv: Sequence[str], place: Path, *, environ: Mapping[str, str] | None = None) -> Process:
    """Start a program that says "listening at URL" on stderr, and wait until it is ready."""
    place.mkdir(parents=True, exist_ok=True)
    log = place / "log"
    begun = time.perf_counter()
    with log.open("wb") as out:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={**os.environ, "BENCH_TOKEN": TOKEN, **(environ or {})},
        )
    process = Process(child, "", 0.0, log)
    try:
        process.url = _listening(process)
        _wait_ready(process)
    except BaseException:
        process.end(signal.SIGKILL)
        raise
    process.ready = time.perf_counter() - begun
    return process


@contextlib.contextmanager
def responder(
    config: Path, *argv: str, environ: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """`responder serve` as anybody starts it, for the length of a block."""
    program = argv or (str(Path(sys.executable).with_name("responder")), "serve")
    process = start([*program, "--config", str(config)], config.parent, environ=environ)
    try:
        yield process
    finally:
        process.end()


@contextlib.contextmanager
def run_floor(place: Path) -> Iterator[Process]:
    """The bare receiver, for the length of a block."""
    place.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "tests.bench.floor"]
    process = start([*argv, str(place / "port"), str(place / "floor.db")], place)
    try:
        yield process
    finally:
        process.end()


def _listening(process: Process, seconds: float = 60) -> str:
    """Its address, from its log or from the file it writes."""
    end = time.monotonic() + seconds
    port = process.log.with_name("port")
    while time.monotonic() < end:
        if process.child.poll() is not None:
            raise RuntimeError(f"it ended early: {process.log.read_text()[-2000:]}")
        if port.exists():
            return port.read_text()
        for line in process.log.read_text().splitlines():
            if "listening at " in line:
                return line.partition("listening at ")[2].strip()
        time.sleep(0.003)
    raise TimeoutError("it never said where it listens")


def _wait_ready(process: Process, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if _is_ready(process.url):
            return
        time.sleep(0.003)
    raise TimeoutError("it never became ready")


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False
