"""Inputs of a run by hand: typed as declared, joined to a target, refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from responder.errors import BadRequest
from responder.model import Target
from responder.playbook.definition import InputSpec
from responder.service.inputs import checked
from tests.core.engine.runs import load
from tests.core.engine.test_driver import MARK


def book() -> Any:
    """A playbook with one input of each kind."""
    from dataclasses import replace

    kinds = {"text": "string", "number": "int", "flag": "bool", "many": "list"}
    specs = {name: InputSpec(kind) for name, kind in kinds.items()}
    specs |= {"pod": InputSpec("kubernetes.pod"), "namespace": InputSpec("string")}
    specs["number"] = InputSpec("int", default=3)
    return replace(load(MARK), manual=specs)


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"number": "42"}, "number", 42),
        ({"number": "-7"}, "number", -7),
        ({}, "number", 3),
        ({"number": ""}, "number", 3),
        ({"flag": "TRUE"}, "flag", True),
        ({"flag": False}, "flag", False),
        ({"many": ["a"]}, "many", ["a"]),
        ({"text": "${{ inputs.number }}"}, "text", "${{ inputs.number }}"),  # data, not a template
    ],
)
def test_an_input_is_read_as_its_type(given: dict[str, Any], name: str, value: object) -> None:
    """A command line has only text; what it says is read as declared, and never evaluated."""
    assert checked(book(), given, "prod")[0][name] == value


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"numbr": 1}, 'did you mean "number"'),
        ({"number": "many"}, "expected int"),
        ({"number": True}, "expected int"),
        ({"number": 1.5}, "expected int"),
        ({"flag": "perhaps"}, "expected bool"),
        ({"many": "a,b"}, "expected list"),
        ({"text": ["a"]}, "expected string"),
        ({"pod": "web-1"}, "namespace/pod"),
    ],
)
def test_a_wrong_input_is_refused_by_name(given: dict[str, Any], words: str) -> None:
    """The text says which input, what was expected and what came."""
    with pytest.raises(BadRequest, match=words):
        checked(book(), given, "prod")


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ({}, Target(cluster="prod")),
        ({"pod": "shop/web-1"}, Target(cluster="prod", namespace="shop", pod="web-1")),
        (
            {"pod": "web-1", "namespace": "shop"},
            Target(cluster="prod", namespace="shop", pod="web-1"),
        ),
        (  # the pod's own namespace wins: two words for one place must not aim at another pod
            {"pod": "shop/web-1", "namespace": "pay"},
            Target(cluster="prod", namespace="shop", pod="web-1"),
        ),
    ],
)
def test_a_pod_makes_the_target(given: dict[str, Any], target: Target) -> None:
    """Name and namespace come from one input, or from two."""
    assert checked(book(), given, "prod")[1] == target
