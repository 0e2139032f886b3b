"""The demo's teller: the story as it happens, and an answer where one is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from responder.cli.demo import Teller
from tests.adapters.web.fakes import PLAN, RUN, FakeService, entry_of


@pytest.fixture
def service() -> FakeService:
    """A story with one question in it."""
    asked = {"run": RUN, "step": "isolate", "event": "approval_asked"}
    reached = {"event": "step_done", "stage": "contained"}
    entries: list[dict[str, Any] | None] = [
        entry_of(1, "Terminal shell"),
        None,
        {**entry_of(2, "isolate waits", "approval"), "data": asked},
        {**entry_of(3, "pod isolated: proven", "step"), "data": reached},
    ]
    return FakeService(open_on_loopback=True, entries=entries)


async def test_with_yes_the_plan_that_was_shown_is_approved(
    service: FakeService, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exactly one decision, for exactly that hash; the story goes on to its next commands."""
    status = await Teller(service, "http://x", yes=True).tell(42)  # type: ignore[arg-type]
    told = capsys.readouterr().out
    decided = [call for call in service.calls if call[0] == "decide"]
    assert decided == [("decide", RUN, "isolate", True, PLAN, "demo")]
    assert status == "open"
    order = ["detected", "isolate waits", "contained", "Verified:", "Next:", "incident show 42"]
    places = [told.index(word) for word in order]
    assert places == sorted(places)


async def test_without_a_terminal_the_command_is_shown_and_nothing_decided(
    service: FakeService,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody else may answer over the API."""
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO())
    await Teller(service, "http://x", yes=False).tell(42)  # type: ignore[arg-type]
    assert not [call for call in service.calls if call[0] == "decide"]
    expected = f"waiting for: responder approve 42 isolate --plan {PLAN} --server http://x"
    assert expected in capsys.readouterr().out
