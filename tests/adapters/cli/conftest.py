"""The command line against the real HTTP door over a service that remembers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from responder.cli.root import cli
from responder.web.limits import Limits
from tests.adapters.web.fakes import FakeService, running

Run = Callable[..., Result]


@pytest.fixture
def service() -> FakeService:
    """The service behind the door."""
    return FakeService()


@pytest.fixture
def url(service: FakeService) -> Iterator[str]:
    """The door."""
    with running(service, Limits(grace_seconds=1)) as found:
        yield found


@pytest.fixture
def run(url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command as an admin of the server."""
    monkeypatch.setenv("RESPONDER_SERVER", url)
    monkeypatch.setenv("RESPONDER_TOKEN", "rsp_admin")
    monkeypatch.delenv("RESPONDER_TOKEN_FILE", raising=False)

    def call(*args: str, **options: object) -> Result:
        return CliRunner().invoke(cli, list(args), **options)  # type: ignore[arg-type]

    return call
