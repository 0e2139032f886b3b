"""The pages of docs/senders say what the code does, and somebody wrote how to point each here."""

from __future__ import annotations

import json
import tomllib

import pytest

from responder.wiring.known import sources
from tests.docs import senders


def test_the_generated_parts_are_what_the_code_says() -> None:
    """Run `python -m tests.docs.senders --write` when this fails."""
    assert [path.name for path in senders.differing(senders.pages())] == []


@pytest.mark.parametrize("name", senders.pages())
def test_somebody_wrote_how_to_point_it_here(name: str) -> None:
    """A hook for our side that is valid TOML, and the sender's own side in a block of its own."""
    text = (senders.FOLDER / f"{name}.md").read_text(encoding="utf-8")
    written = text.partition(senders.MARK)[0]
    blocks = written.split("```")[1::2]
    tables = [tomllib.loads(block[4:]) for block in blocks if block.startswith("toml")]

    assert any(
        hook["source"] == name for table in tables for hook in table.get("hooks", {}).values()
    )
    assert "## " in written
    assert len(blocks) >= 2 or "no configuration of its own" in written


def test_every_source_has_a_page() -> None:
    """And no page stands for a source that is gone."""
    named = {path.stem for path in senders.FOLDER.glob("*.md")} - {"README"}

    assert named == set(sources())


@pytest.mark.parametrize("name", senders.pages())
def test_every_sample_is_json_for_people(name: str) -> None:
    """Samples are shown on pages and sent by `responder hook test`."""
    json.loads(senders.sample_of(name))
