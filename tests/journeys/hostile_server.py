"""The server as an operator starts it, for tests that only see it from outside.

A configuration file, an environment, `responder serve` as a process of its own. What it writes to
its terminal is kept in a file, whole, for the test to look through afterwards.
"""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.real.waiting import wait_until

PROGRAM = Path(sys.executable).with_name("responder")
MIB = 1 << 20


@dataclass(frozen=True)
class Serving:
    """A running server: where it is, what it keeps, what it has said."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def said(self) -> str:
        """Everything it wrote to stdout and stderr so far."""
        return (self.folder / "said").read_text(encoding="utf-8", errors="replace")

    def forget_peak(self) -> int:
        """Begin to measure the memory's peak anew; bytes resident now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")
        return self.peak()

    def peak(self) -> int:
        """The most bytes that were resident at once since `forget_peak`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def rows(self, question: str) -> list[tuple[object, ...]]:
        """What its store answers, read beside it."""
        place = f"file:{self.folder / 'responder.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(place, uri=True)) as store:
            return list(store.execute(question))

    def stop(self) -> int:
        """Ask it to end, and wait; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def environment(folder: Path, secrets: Mapping[str, str]) -> dict[str, str]:
    """What a process of ours inherits: a path, a home, and these."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C", **secrets}


def run(
    folder: Path, secrets: Mapping[str, str], *arguments: str, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """One command of ours, to its end."""
    return subprocess.run(
        [str(PROGRAM), *arguments],
        env=environment(folder, secrets),
        cwd=folder,
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


@contextlib.contextmanager
def served(folder: Path, config: str, secrets: Mapping[str, str]) -> Iterator[Serving]:
    """Run the server on a free port of loopback; leaving the block ends it."""
    file = folder / "config.toml"
    head = f'[server]\nlisten = "127.0.0.1:0"\ndrain = "2s"\n[store]\nurl = "sqlite:///{folder}'
    file.write_text(f'{head}/responder.db"\n{config}', encoding="utf-8")
    with (folder / "said").open("ab") as said:
        process = subprocess.Popen(
            [str(PROGRAM), "serve", "--config", str(file)],
            env=environment(folder, secrets),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        serving = Serving(_address(folder, process), folder, process)
        yield serving
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    def look() -> str:
        text = (folder / "said").read_text(encoding="utf-8", errors="replace")
        assert process.poll() is None, text
        found = re.findall(r"listening at (\S+)", text)
        return found[-1] if found else ""

    return wait_until(look, "the server to listen", 30)
