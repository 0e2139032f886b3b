"""`evolve` changes every field of a state as `dataclasses.replace` does, whatever it is called."""

from __future__ import annotations

import dataclasses

import pytest

from responder.engine.state import StepState, evolve


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(StepState)])
def test_every_field_can_be_changed(name: str) -> None:
    """One field is called `state`, as a parameter well might be."""
    step = StepState(id="rebuild")
    value = object()
    changed = evolve(step, **{name: value})
    assert changed == dataclasses.replace(step, **{name: value})  # type: ignore[arg-type]
    assert getattr(changed, name) is value
    assert step == StepState(id="rebuild")


def test_an_unknown_field_is_refused() -> None:
    """A misspelt field must not be lost in silence."""
    with pytest.raises(TypeError, match="stat"):
        evolve(StepState(id="rebuild"), stat="x")
