"""The product never acts as the cluster's administrator in a test, but where a reason is written.

It gets the account that its own generated roles and guard make (`tests.adapters.kubernetes.
accounts`), so a right that an action needs and does not declare fails its test. Users, intruders
and installers are administrators; they do not go through the product.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
OWN = ("real",)  # defines the token and asks as the administrator; knows no product
# file -> how often it speaks of the administrator's token or kubeconfig, and why
ALLOWED = {
    "adapters/kubernetes/asking.py": (1, "sets the scene: who isolates before is not judged"),
    "adapters/kubernetes/test_rights.py": (4, "reads what actions declare; asks no cluster"),
    "adapters/kubernetes/test_guard.py": (1, "doctor must say of it that it is not guarded"),
    "adapters/sandbox/test_cluster_contract.py": (1, "compares two API servers; no product"),
    "bench/containing.py": (2, "as the bare script beside it: speed, not rights"),
    "bench/flooding.py": (1, "speed, not rights"),
    "bench/forge.py": (1, "not a token: the rehearsal world asks for none"),
    "docs/test_readme_story.py": (1, "the person who installs; the server has its own account"),
    "journeys/shop.py": (1, "kubectl in the hands of user and intruder"),
    "journeys/test_audit_webhook.py": (1, "the stranger's exec that must be seen"),
}


def spoken(text: str) -> int:
    """How often a file speaks of the administrator's token or kubeconfig."""
    found = 0
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute | ast.keyword):
            found += (node.attr if isinstance(node, ast.Attribute) else node.arg) == "admin_token"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found += node.func.attr == "kubeconfig" and not (node.args or node.keywords)
    return found


def test_the_administrators_token_is_used_where_a_reason_is_written_and_nowhere_else() -> None:
    """Every file counted; an entry that is no longer needed fails as well."""
    found = {}
    for file in sorted(TESTS.rglob("*.py")):
        name = file.relative_to(TESTS)
        count = spoken(file.read_text(encoding="utf-8"))
        if count and name.parts[0] not in OWN:
            found[name.as_posix()] = count
    assert found == {name: count for name, (count, _) in ALLOWED.items()}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("product(plane, plane.admin_token)", 1),
        ("config(plane.kubeconfig())", 1),
        ("config(plane.kubeconfig(token))", 0),
        ("Plane(admin_token='x')", 1),
        ("'admin_token in a sentence'", 0),
    ],
)
def test_both_ways_to_the_token_are_seen(text: str, count: int) -> None:
    """As an attribute, as a keyword, and as the file that is written with it."""
    assert spoken(text) == count
