"""The server as a process: stops under load, signals, one owner of a store, no open door."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

GRACE = 5  # seconds that `server.drain` allows below
CONFIG = """
[server]
listen = "127.0.0.1:{port}"
drain = "{grace}s"
[store]
url = "sqlite:///{folder}/r.db"
[playbooks]
folders = ["{folder}/playbooks"]
[hooks.falco]
source = "falco"
auth = {{none = true}}
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def configure(folder: Path) -> tuple[Path, int]:
    """A configuration with one open hook and no outside system."""
    (folder / "playbooks").mkdir(exist_ok=True)
    port = free_port()
    path = folder / "config.toml"
    path.write_text(CONFIG.format(port=port, folder=folder, grace=GRACE), encoding="utf-8")
    return path, port


def command(config: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "responder", "serve", "--config", str(config), *more]


@contextmanager
def serving(config: Path) -> Iterator[subprocess.Popen[str]]:
    """A server that says it listens; killed at the end if it still runs."""
    process = subprocess.Popen(command(config), stderr=subprocess.PIPE, text=True)
    try:
        said_until(process, "listening at")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def said_until(process: subprocess.Popen[str], words: str) -> str:
    """The line on stderr that holds these words."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            return line
    raise AssertionError(f"never said {words!r}: {''.join(lines)}")


def alert(number: int) -> dict[str, Any]:
    fields = {"k8s.ns.name": "shop", "k8s.pod.name": f"web-{number}"}
    return {
        "uuid": f"00000000-0000-0000-0000-{number:012d}",
        "output": f"a shell in web-{number}",
        "priority": "Critical",
        "rule": "Terminal shell in container",
        "time": "2026-01-01T00:00:00.000000000Z",
        "output_fields": fields,
    }


async def load(port: int, first: int, stop: asyncio.Event, accepted: list[str]) -> None:
    """Post alerts one after the other until told to stop; keep the ids that were acknowledged."""
    number = first
    async with aiohttp.ClientSession() as session:
        while not stop.is_set():
            number += 1
            try:
                url = f"http://127.0.0.1:{port}/v1/hooks/falco"
                async with session.post(url, json=alert(number)) as answer:
                    if answer.status in {200, 202}:
                        accepted.append((await answer.json())["alerts"][0]["id"])
            except aiohttp.ClientError:
                await asyncio.sleep(0.01)


@pytest.mark.timeout(180)
async def test_a_stop_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """SIGTERM at 20 random moments: exit 0 within the grace, and what was acknowledged is kept."""
    config, port = configure(tmp_path)
    moments, accepted = random.Random(7), list[str]()
    for turn in range(20):
        with serving(config) as process:
            stop = asyncio.Event()
            callers = [
                asyncio.create_task(load(port, turn * 1_000_000 + n * 10_000, stop, accepted))
                for n in range(4)
            ]
            await asyncio.sleep(moments.uniform(0.0, 0.4))
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            while process.poll() is None and time.monotonic() < begun + GRACE + 5:
                await asyncio.sleep(0.01)
            took = time.monotonic() - begun
            stop.set()
            await asyncio.gather(*callers)
            assert process.returncode == 0
            assert took < GRACE

    with sqlite3.connect(tmp_path / "r.db") as db:
        stored = [row[0] for row in db.execute("SELECT id FROM alerts WHERE duplicate_of IS NULL")]
        bodies = [json.loads(row[0]) for row in db.execute("SELECT body FROM alerts")]
    db.close()
    assert set(accepted) <= set(stored)
    assert len(stored) == len(set(stored))
    pods = [body["target"]["pod"] for body in bodies]
    assert len(pods) == len(set(pods))
    assert len(accepted) > 20


@pytest.mark.timeout(60)
def test_a_second_process_on_the_same_store_is_refused(tmp_path: Path) -> None:
    """One owner at a time; the first one goes on."""
    config, _ = configure(tmp_path)
    with serving(config) as first:
        second = subprocess.run(
            command(config, "--listen", f"127.0.0.1:{free_port()}"),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 2
        assert "store" in second.stderr or "another" in second.stderr
        assert first.poll() is None


@pytest.mark.timeout(60)
@pytest.mark.parametrize("listen", ["0.0.0.0", "[::]"])
def test_no_door_is_open_to_others_while_nobody_has_a_token(tmp_path: Path, listen: str) -> None:
    """It does not start, and says how to make the first token."""
    config, _ = configure(tmp_path)
    ended = subprocess.run(
        command(config, "--listen", f"{listen}:{free_port()}"),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert "token create" in ended.stderr


@pytest.mark.timeout(60)
def test_a_hangup_reloads_all_playbooks_or_none(tmp_path: Path) -> None:
    """A bad file keeps the old set, and so does a change that only a restart can put in force."""
    config, _ = configure(tmp_path)
    text = config.read_text(encoding="utf-8")
    with serving(config) as process:
        (tmp_path / "playbooks" / "bad.yaml").write_text("playbook: [", encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        assert "bad.yaml" in said_until(process, "not reloaded")

        (tmp_path / "playbooks" / "bad.yaml").unlink()
        process.send_signal(signal.SIGHUP)
        said_until(process, "reloaded")

        config.write_text(text + '[guards]\nmode = "enforce"\n', encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        assert "guards" in said_until(process, "not reloaded")
        process.send_signal(signal.SIGTERM)
        assert process.wait(GRACE + 5) == 0


@pytest.mark.timeout(60)
def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """Somebody in a hurry is obeyed: no process is left after two signals."""
    config, _ = configure(tmp_path)
    with serving(config) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.wait(GRACE)
