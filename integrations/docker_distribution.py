"""Notifications of a Docker registry (CNCF Distribution): push, pull, mount, delete.

https://distribution.github.io/distribution/about/notifications/
Anything but 2xx or 3xx makes the registry send the same event for ever, before all later ones.

An event is a note unless its action is watched: `options.watch`, left out `["delete"]`.

Never: believes the `actor`, which is empty for a registry without its own log-in.
"""

from __future__ import annotations

from integrations._source import Ignored, Sender, Table, at, listed
from integrations._values import image_name, string
from responder.model import AlertKind, JsonObject
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

MAPPING = Table(
    rule=("rule",),
    summary=("said",),
    time=("timestamp",),
    target={"image": ("image",), "digest": ("target/digest",)},
    fingerprint=("action", "target/repository", "target/digest", "target/tag", "actor/name"),
    tags=("action", "target/mediaType"),
    notes={
        "rule": "`registry push`, `registry delete` and so on.",
        "image": "`request.host`, `target.repository`, and the tag or else the digest.",
        "fingerprint": "Without the event's `id`: one push is told of for every layer.",
    },
)
IGNORED = (
    Ignored(
        "not watched",
        AlertKind.NOTE,
        "an event of the registry that this hook does not watch",
        lambda item: item["watched"] is not True,
    ),
)


def _shape(item: JsonObject, hook: HookInfo) -> JsonObject | str:
    action = string(item.get("action"), 32)
    repository = string(at(item, "target/repository"), 512)
    if not action or not repository:
        return "not an event of a registry"
    watch = hook.options.get("watch", ["delete"])
    host = string(at(item, "request/host"), 253)
    place = f"{host}/{repository}" if host else repository
    return {
        **item,
        "rule": f"registry {action}",
        "said": f"{action} {repository}",
        "image": image_name(place, at(item, "target/tag"), at(item, "target/digest")),
        "watched": isinstance(watch, list) and action in watch,
    }


SENDER = Sender(
    name="docker-distribution",
    title="Docker Distribution",
    home="https://distribution.github.io/distribution/about/notifications/",
    mapping=MAPPING,
    ignored=IGNORED,
    split=listed("events"),
    shape=_shape,
    media=frozenset(
        f"application/vnd.docker.distribution.events.v{version}+json" for version in (1, 2)
    ),
)
setup = SENDER.setup
