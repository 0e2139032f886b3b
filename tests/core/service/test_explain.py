"""`explain` says why, for each playbook, and stores nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.errors import BadRequest
from tests.core.engine.bench import ANNA, bench
from tests.core.engine.test_driver import MARK, playbook

ON = "on:\n  - alert: {source: [falco], when: 'alert.severity >= severity.high'}\n"
TEXT = playbook(MARK).replace("on:\n", ON, 1)


@pytest.mark.parametrize(("severity", "starts"), [(5, True), (2, False)])
async def test_explain_says_whether_it_would_start(
    tmp_path: Path, severity: int, *, starts: bool
) -> None:
    """The answer is the one that a real alert would get, and no incident comes of it."""
    async with bench(tmp_path, [TEXT]) as b:
        given = {"source": "falco", "rule": "a shell", "severity": severity}
        (answer,) = await b.app.service.explain(ANNA, alert=given)

        assert [why["starts"] for why in answer["playbooks"]] == [starts]
        assert (await b.app.service.incidents(ANNA))["items"] == []


async def test_an_unknown_word_of_an_alert_is_refused(tmp_path: Path) -> None:
    """A typing slip must not be explained as if it had not been said."""
    async with bench(tmp_path, [TEXT]) as b:
        with pytest.raises(BadRequest, match=r"did you mean"):
            await b.app.service.explain(ANNA, alert={"severty": 5})
