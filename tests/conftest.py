"""Fixtures for every test: the real parts, each started once a session, when first asked for."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real import cluster
from tests.real.act import find_act
from tests.real.alertmanager import AlertmanagerFactory
from tests.real.alertmanager import alertmanager as run_alertmanager
from tests.real.ci_local import find_ci_local
from tests.real.engine import Engine
from tests.real.engine import engine as run_engine

PARTS = ("control_plane", "node", "engine", "alertmanager")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the real parts that it asks for, so that ``-m "not node"`` works."""
    for item in items:
        for part in set(PARTS) & set(getattr(item, "fixturenames", ())):
            item.add_marker(part)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[cluster.ControlPlane]:
    """Give a real Kubernetes control plane without nodes (see tests/real/cluster.py)."""
    with cluster.control_plane() as plane:
        yield plane


@pytest.fixture(scope="session")
def node() -> Iterator[cluster.Node]:
    """Give a real Kubernetes node with containers and packets; needs root."""
    with cluster.node() as machine:
        yield machine


@pytest.fixture
def namespace(control_plane: cluster.ControlPlane) -> Iterator[str]:
    """Give a namespace of the control plane that ends with the test."""
    name = control_plane.namespace()
    yield name
    control_plane.drop_namespace(name)


@pytest.fixture
def node_namespace(node: cluster.Node) -> Iterator[str]:
    """Give a namespace of the node's cluster that ends with the test, its pods with it."""
    name = node.namespace()
    yield name
    node.drop_namespace(name)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Give a real Docker engine with a registry on loopback; needs root."""
    with run_engine() as made:
        yield made


@pytest.fixture(scope="session")
def act_path() -> Path:
    """Give the program that runs GitHub workflow files (see tests/real/act.py)."""
    return find_act()


@pytest.fixture(scope="session")
def ci_local_path() -> Path:
    """Give the program that runs GitLab pipeline files (see tests/real/ci_local.py)."""
    return find_ci_local()


@pytest.fixture
def alertmanager() -> Iterator[AlertmanagerFactory]:
    """Give a function that starts an Alertmanager for a hook: ``alertmanager(url, token=...)``."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(run_alertmanager(*args, **kwargs))
