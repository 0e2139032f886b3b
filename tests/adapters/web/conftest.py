"""One server for a test, over a service that remembers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from responder.web.limits import Limits
from tests.adapters.web.fakes import FakeService, running


@pytest.fixture
def service() -> FakeService:
    """The service behind the door."""
    return FakeService()


@pytest.fixture
def url(service: FakeService) -> Iterator[str]:
    """The door, with deadlines short enough to wait for."""
    limits = Limits(
        body_seconds=0.6, header_seconds=0.6, write_seconds=0.6, grace_seconds=1, connections=40
    )
    with running(service, limits) as found:
        yield found
