"""Fixtures for every test: the real parts, each started once a session, when first asked for."""

from collections.abc import Iterator

import pytest

from tests.real import cluster


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
