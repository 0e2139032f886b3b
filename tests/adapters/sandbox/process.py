"""Runs the sandbox as a process of its own, as kill tests do."""

import contextlib
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.real.waiting import wait_until


@contextlib.contextmanager
def sandbox_process(folder: Path, *args: str) -> Iterator[dict[str, Any]]:
    """Start it, give its addresses, and end it with SIGTERM; its end must be clean."""
    file = folder / "sandbox.json"
    command = [sys.executable, "-m", "responder.sandbox", "--port-file", str(file), *args]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:

        def there() -> bool:
            assert child.poll() is None, "the sandbox ended early"
            return file.exists()

        wait_until(there, "the sandbox")
        yield json.loads(file.read_text())
    finally:
        child.send_signal(signal.SIGTERM)
        code = child.wait(timeout=10)
    assert code == 0, code


def fetch(url: str) -> Any:
    """The JSON at a loopback address."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)
