"""The whole journey on real parts by GitLab: one alert, all the way to a patched redeploy.

As `test_first_light`, with gitlab-ci-local running the project's `.gitlab-ci.yml` behind a double
of GitLab's API that checks every request and its own answers.
"""

from pathlib import Path

import pytest

from tests.journeys.forging import by_gitlab
from tests.journeys.shop import Shop
from tests.journeys.test_first_light import go_through
from tests.real.cluster import Node
from tests.real.engine import Engine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize(("mode", "ending"), [("survive", "removed"), ("strict", "released")])
def test_an_alert_leads_by_gitlab_all_the_way_to_a_patched_redeploy(
    node: Node, node_namespace: str, engine: Engine, ci_local_path: Path, tmp_path: Path,
    mode: str, ending: str,
) -> None:  # fmt: skip
    """Contained, evidenced, rebuilt by one pipeline, rolled out, the pod removed or released."""
    go_through(Shop(node, engine, node_namespace, tmp_path), by_gitlab(ci_local_path), mode, ending)
