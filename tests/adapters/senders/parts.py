"""All sources of this build with a still clock, their samples, and hooks for them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import integrations
from integrations._source import sample_of
from responder.model import Alert
from responder.ports import HookInfo, Kit, Source
from tests.adapters.sources.parts import WORLD

KIT = Kit(evidence=None)  # type: ignore[arg-type] - a source collects nothing


def made() -> dict[str, Source]:
    """Every source by name, as the wiring sets them up."""
    return {
        name: integrations.load(module)({}, WORLD, KIT).sources[0]
        for name, module in integrations.SOURCES.items()
    }


SOURCES = made()


def hook_of(source: str, **options: Any) -> HookInfo:
    """A hook that anybody may use, for the cluster `prod`."""
    return HookInfo(
        name=f"{source}-prod", source=source, cluster="prod", auth={"none": True}, options=options
    )


def parsed(source: str, payload: Any, **options: Any) -> list[Alert]:
    """What a payload (bytes, or a JSON value) becomes."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return SOURCES[source].parse({}, body, hook_of(source, **options))


def sample(source: str) -> Any:
    """The sample of a source as a JSON value, to be changed by a test."""
    return json.loads(sample_of(source))


def changed(payload: Any, changes: Mapping[str, Any]) -> Any:
    """A copy with values put at paths such as `spec/alerts/0/alertName`; `...` takes away."""
    made_ = copy.deepcopy(payload)
    for path, value in changes.items():
        *way, last = path.split("/")
        holder = made_
        for step in way:
            holder = holder[int(step)] if isinstance(holder, list) else holder.setdefault(step, {})
        if isinstance(holder, list):
            holder[int(last)] = value
        elif value is ...:
            holder.pop(last, None)
        else:
            holder[last] = value
    return made_


def places(value: Any, path: str = "", most: int = 2) -> Iterator[str]:
    """The path of every value inside; of a list only the first `most`."""
    if isinstance(value, dict):
        for key in value:
            here = f"{path}/{key}" if path else key
            yield here
            if "/" not in key:
                yield from places(value[key], here, most)
    elif isinstance(value, list):
        for at in range(min(len(value), most)):
            here = f"{path}/{at}" if path else str(at)
            yield here
            yield from places(value[at], here, most)
