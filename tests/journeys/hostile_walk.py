"""Collect whatever a running server shows: every GET of every role, files, processes, commands."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from responder.web.routes import ROUTES
from tests.journeys.hostile_canaries import Finder
from tests.journeys.real import Door


def walk(door: Door, role: str, finder: Finder) -> int:
    """Ask every GET route with everything that it can name; how many answers were good."""
    good = 0
    for path in _paths(door):
        status, body, headers = door.ask("GET", path)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        finder.look(f"GET {path} as {role}: {status}", raw)
        finder.look(f"headers of GET {path} as {role}", str(headers))
        good += status == 200
    return good


def _paths(door: Door) -> Iterator[str]:
    names = _names(door)
    for route in ROUTES:
        if route.method == "GET":
            yield from _filled(route.path, names)


def _filled(path: str, names: Mapping[str, list[dict[str, str]]]) -> Iterator[str]:
    """The path with everything that may stand in its places."""
    if "{sha256" in path:
        kind = "artefact"
    elif "{step}" in path:
        kind = "step"
    else:
        kind = next((k for k in ("n", "run", "name") if f"{{{k}}}" in path), "")
    for parts in names[kind] if kind else [{}]:
        filled = path.replace("{sha256:[0-9a-f]{64}}", parts.get("sha256", ""))
        for key, value in parts.items():
            filled = filled.replace(f"{{{key}}}", value)
        if not (path.endswith("/events") and parts["live"]):  # that stream would not end
            yield filled


def _names(door: Door) -> dict[str, list[dict[str, str]]]:
    """What there is to ask for, as this caller can list it."""
    found: dict[str, list[dict[str, str]]] = {"n": [], "run": [], "step": [], "artefact": []}
    for item in door.get("/v1/incidents?limit=200")["items"]:
        number = str(item["number"])
        live = "" if item["status"] in {"resolved", "closed"} else "live"
        found["n"].append({"n": number, "live": live})
        for run in door.get(f"/v1/incidents/{number}")["runs"]:
            found["run"].append({"run": run["id"]})
            found["step"] += [{"run": run["id"], "step": step["id"]} for step in run["steps"]]
        for file in door.get(f"/v1/incidents/{number}/evidence")["items"]:
            found["artefact"].append({"n": number, "sha256": file["sha256"]})
    found["name"] = [{"name": item["name"]} for item in door.get("/v1/playbooks")["items"]]
    return found


def look_at_processes(root: int, finder: Finder) -> None:
    """The arguments of a process and of all that it started."""
    for pid in _tree(root):
        for name in ("cmdline", "comm"):
            try:
                finder.look(f"/proc/{pid}/{name}", Path(f"/proc/{pid}/{name}").read_bytes())
            except OSError:
                continue  # it has ended


def _tree(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                stat = (folder / "stat").read_text(encoding="ascii", errors="replace")
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(folder.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += parents.get(pid, [])
    return found


def told(result: Any) -> bytes:
    """Both outputs of a command."""
    return bytes(result.stdout) + b"\n" + bytes(result.stderr)
