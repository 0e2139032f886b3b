"""Make docs/senders from the senders' own tables: `python -m tests.docs.senders --write`.

Above the marker a person writes; below it stands what the code says. Without `--write` it names
the pages that differ and ends with 1.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import integrations
from integrations._source import Table, sample_of
from responder.model import Severity

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "senders"
MARK = "<!-- below: made from the code by `python -m tests.docs.senders --write` -->"
KINDS = {
    "detection": "may start playbooks",
    "vulnerability": "may start playbooks",
}


def pages() -> dict[str, Any]:
    """Source name -> what its module says of itself."""
    found = {}
    for name, module in integrations.SOURCES.items():
        loaded = importlib.import_module(module)
        found[name] = getattr(loaded, "SENDER", None) or loaded.PAGE
    return found


def made(page: Any) -> str:
    """The generated part of one page."""
    table: Table = page.mapping
    parts = [
        f"## What becomes of its words\n\nDescribed by its maker at <{page.home}>.",
        _fields(table),
        _severities(table),
        _kinds(page),
        _answers(page),
        f"## An example\n\n```json\n{sample_of(page.name).decode().rstrip()}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def whole(page: Any, written: str) -> str:
    """A page with its written part kept and the rest made anew."""
    own = written.partition(MARK)[0].rstrip()
    return f"{own}\n\n{MARK}\n\n{made(page)}"


def contents() -> str:
    """The list of all pages."""
    lines = [f'- [{page.title}]({name}.md): `source = "{name}"`' for name, page in pages().items()]
    return (
        "# Senders\n\n"
        "Every detector that can be pointed at a hook, what its words become, and what it sends\n"
        "that never starts anything. Made by `python -m tests.docs.senders --write`.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def _code(paths: tuple[str, ...]) -> str:
    return ", else ".join(f"`{path}`" for path in paths) or "-"


def _fields(table: Table) -> str:
    rows = [
        ("rule", _code(table.rule)),
        ("summary", _code(table.summary)),
        ("severity", _code(table.severity)),
        ("time", _code(table.time)),
        *((f"target.{part}", _code(paths)) for part, paths in table.target.items()),
        ("tags", ", ".join(f"`{path}`" for path in table.tags) or "-"),
        (
            "fingerprint",
            "rule, place" + "".join(f", `{path}`" for path in table.fingerprint),
        ),
    ]
    lines = ["| Alert | Where it comes from |", "| --- | --- |"]
    lines += [f"| {name} | {where} |" for name, where in rows]
    lines += ["", "A path is keys joined by `/`; of several the first that says something wins."]
    lines += [f"\n- **{name}**: {text}" for name, text in table.notes.items()]
    return "\n".join(lines)


def _severities(table: Table) -> str:
    if not table.severity:
        return "## Severity\n\nIt says none: `unknown`."
    by: dict[Severity, list[str]] = {}
    for word, severity in table.severities.items():
        by.setdefault(severity, []).append(f"{word} and up" if isinstance(word, int) else word)
    lines = ["## Severity", "", "| Its word | Severity |", "| --- | --- |"]
    for severity in sorted(by, reverse=True):
        lines.append(f"| {', '.join(by[severity])} | {severity.name.lower()} |")
    lines += ["| anything else | unknown |"]
    return "\n".join(lines)


def _kinds(page: Any) -> str:
    lines = [
        "## What starts nothing",
        "",
        "These are kept and shown, and never acted on; the first that fits decides.",
        "",
        "| What | Kind | Why |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {one.name} | {one.kind.value} | {one.reason} |" for one in page.ignored]
    lines += ["| unreadable | unparsed | what was sent cannot be read |"]
    lines += [f"\nAll else is of kind `{page.mapping.kind.value}` and may start playbooks."]
    return "\n".join(lines)


def _answers(page: Any) -> str:
    also = sorted(kind or "none at all" for kind in page.media)
    text = f"It is answered {page.accepts_status} once everything is on disk."
    if also:
        text += f" Beside JSON it may send as content type: {', '.join(also)}."
    return f"## Answers\n\n{text}"


def differing(found: Mapping[str, Any]) -> dict[Path, str]:
    """Page -> the text it should have, for each that differs."""
    wanted = {FOLDER / "README.md": contents()}
    for name, page in found.items():
        path = FOLDER / f"{name}.md"
        written = path.read_text(encoding="utf-8") if path.exists() else f"# {page.title}\n"
        wanted[path] = whole(page, written)
    return {
        path: text
        for path, text in wanted.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def main() -> int:
    """Write, or name, what differs."""
    wrong = differing(pages())
    for path, text in wrong.items():
        if "--write" in sys.argv:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    return 0 if "--write" in sys.argv else int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
