"""What every recorded payload must become: one file of `expected/` for each sender's folder.

A row is one alert of a payload, in its order. `acts` says whether it may start anything, `why`
why not. `refused` stands for a body that is answered with 400. After a wanted change of a mapping,
`python -m tests.adapters.senders.table FOLDER SOURCE` writes a folder anew: read the difference.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from responder.errors import BadAlert
from responder.model import Alert
from responder.playbook.loading import load_dump
from tests.adapters.senders.parts import parsed
from tests.adapters.sources.parts import corpus_root

HERE = Path(__file__).parent / "expected"
# Their payloads are no detector's alerts: chats, forges' hints and people's verbs have other doors.
OTHER_DOORS = frozenset({"github", "gitlab", "mattermost", "slack", "teams"})


def row(alert: Alert) -> dict[str, Any]:
    """One alert as a line of the table."""
    target = alert.target.to_json()
    target.pop("cluster", None)
    made: dict[str, Any] = {
        "kind": alert.kind.value,
        "acts": alert.kind.may_start,
        "severity": alert.severity.name,
        "rule": alert.rule,
        "time": alert.time,
        "target": target,
        "fingerprint": alert.fingerprint[:12],
    }
    if alert.reason:
        made["why"] = alert.reason
    return made


def rows(source: str, path: Path) -> list[dict[str, Any]] | str:
    """What a recorded payload becomes now."""
    try:
        return [row(alert) for alert in parsed(source, path.read_bytes())]
    except BadAlert:
        return "refused"


def read() -> dict[str, dict[str, Any]]:
    """Folder -> its table."""
    tables = {}
    for path in sorted(HERE.glob("*.yaml")):
        [table] = load_dump(path.read_text(encoding="utf-8"))
        tables[path.stem] = table
    return tables


def write(folder: str, sources: dict[str, str]) -> None:
    """Write a folder's table from what the code does now."""
    root = corpus_root()
    assert root is not None
    lines = ["files:"]
    for path in sorted((root / "alerts" / folder).glob("*.json")):
        source = next(s for prefix, s in sources.items() if path.name.startswith(prefix))
        found = rows(source, path)
        lines += [f"  {path.name}:", f"    source: {source}"]
        if isinstance(found, str):
            lines.append(f"    alerts: {found}")
            continue
        lines.append("    alerts:")
        for one in found:
            pairs = list(one.items())
            lines.append(f"      - {pairs[0][0]}: {json.dumps(pairs[0][1])}")
            lines += [f"        {k}: {json.dumps(v, ensure_ascii=False)}" for k, v in pairs[1:]]
    (HERE / f"{folder}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    given = dict(pair.split("=") if "=" in pair else ("", pair) for pair in sys.argv[2:])
    write(sys.argv[1], given)
