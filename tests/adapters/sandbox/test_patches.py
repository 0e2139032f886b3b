"""The three languages of patches, as tables; the real server is the judge in the contract."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.sandbox.failure import Refusal
from responder.sandbox.patches import json_patch, merge_patch, strategic_patch

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("old", "patch", "new"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_its_standard_shows(old: Any, patch: Any, new: Any) -> None:
    """Cases in the manner of RFC 7386's appendix."""
    before = copy.deepcopy(old)
    assert merge_patch(old, patch) == new
    assert old == before


@given(VALUES)
def test_a_merge_patch_of_itself_changes_nothing_but_nulls(value: Any) -> None:
    """Merging twice is merging once, and no input is changed."""
    once = merge_patch({}, value)
    assert merge_patch(once, value) == once


def test_a_strategic_patch_merges_containers_by_name() -> None:
    """One container changes, the others stay, one is removed, one is added."""
    old = {"containers": [{"name": "a", "image": "1", "x": 1}, {"name": "b"}, {"name": "c"}]}
    patch = {
        "containers": [
            {"name": "a", "image": "2"},
            {"name": "c", "$patch": "delete"},
            {"name": "d"},
        ]
    }
    new = {"containers": [{"name": "a", "image": "2", "x": 1}, {"name": "b"}, {"name": "d"}]}
    assert strategic_patch(old, patch) == new


@pytest.mark.parametrize(
    ("operations", "new"),
    [
        ([{"op": "add", "path": "/l/1", "value": 9}], {"l": [1, 9, 2], "m": {"a/b": 1}}),
        ([{"op": "add", "path": "/l/-", "value": 9}], {"l": [1, 2, 9], "m": {"a/b": 1}}),
        ([{"op": "remove", "path": "/l/0"}], {"l": [2], "m": {"a/b": 1}}),
        ([{"op": "replace", "path": "/m/a~1b", "value": 2}], {"l": [1, 2], "m": {"a/b": 2}}),
        ([{"op": "move", "from": "/l", "path": "/k"}], {"k": [1, 2], "m": {"a/b": 1}}),
        ([{"op": "copy", "from": "/l/0", "path": "/k"}], {"k": 1, "l": [1, 2], "m": {"a/b": 1}}),
        ([{"op": "test", "path": "/l", "value": [1, 2]}], {"l": [1, 2], "m": {"a/b": 1}}),
    ],
)
def test_a_json_patch_does_each_operation(operations: Any, new: Any) -> None:
    """Every operation of RFC 6902, on members, items and escaped names."""
    old = {"l": [1, 2], "m": {"a/b": 1}}
    before = copy.deepcopy(old)
    assert json_patch(old, operations) == new
    assert old == before


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "remove", "path": "/b"},
        {"op": "remove", "path": ""},
        {"op": "add", "path": "/l/5", "value": 1},
        {"op": "add", "path": "/l/-1", "value": 1},
        {"op": "add", "path": "no-slash", "value": 1},
        {"op": "add", "path": "/b/c", "value": 1},
        {"op": "add", "path": "/a/c", "value": 1},
        {"op": "add", "path": "/a"},
        {"op": "odd", "path": "/a"},
        {"path": "/a"},
        "text",
        None,
    ],
)
def test_a_json_patch_that_does_not_apply_is_refused(operation: Any) -> None:
    """Whatever is wrong with an operation, the answer is 422 and never a traceback."""
    with pytest.raises(Refusal) as caught:
        json_patch({"a": 1, "l": [1]}, [operation])
    assert caught.value.code == 422
