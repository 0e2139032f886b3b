"""CloudEvents 1.0 over HTTP: structured, batched, and binary, where attributes are headers.

https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/http-protocol-binding.md
https://github.com/cloudevents/spec/blob/main/cloudevents/formats/json-format.md

For Falcosidekick, Harbor and others whose events have a source of their own, use that source.

Never: guesses what an unknown event means: its type is the rule, and its data is only read where
it names severity and target by our words.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from integrations._json import as_text, decode
from integrations._source import Sender, Table
from integrations._values import string
from responder.errors import BadAlert
from responder.model import JsonObject
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_PLACES = ("namespace", "pod", "pod_uid", "container", "container_id", "image", "digest", "node")

MAPPING = Table(
    rule=("type",),
    summary=("data/summary", "data/message", "subject", "data"),
    severity=("severity", "data/severity", "data/priority"),
    time=("time",),
    target={part: (f"data/{part}",) for part in _PLACES},
    fingerprint=("source", "id"),
    tags=("source", "subject"),
    notes={
        "data": "`data_base64` is opened; what holds no JSON stays text.",
        "binary": "Headers `ce-…` are the attributes, percent-decoded; the body is `data`.",
        "fingerprint": "Source and id together name an event, by the specification.",
    },
)
IGNORED = ()


def _receive(headers: Mapping[str, str], body: bytes) -> list[Any]:
    """The bodies' events; in binary mode the headers and the body are one."""
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if "ce-specversion" not in headers or media.startswith("application/cloudevents"):
        return []
    event: JsonObject = {
        name.removeprefix("ce-"): unquote(value, errors="replace").replace("\x00", "\ufffd")
        for name, value in headers.items()
        if name.startswith("ce-")
    }
    return [{**event, "datacontenttype": media, "data": _data(body)} if body else event]


def _data(body: bytes) -> Any:
    try:
        return decode(body)
    except BadAlert:
        return as_text(body).replace("\x00", "\ufffd")


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    if not string(item.get("specversion")).startswith(("1.", "0.3")):
        return "not a CloudEvent: no specversion that is known"
    for attribute in ("id", "source", "type"):
        if not string(item.get(attribute)):
            return f"not a CloudEvent: {attribute} is missing"
    packed = item.get("data_base64")
    if packed is None:
        return item
    try:
        opened = _data(base64.b64decode(packed, validate=True))
    except (binascii.Error, ValueError, TypeError):
        return "data_base64 is not base64"
    return {**{key: item[key] for key in item if key != "data_base64"}, "data": opened}


SENDER = Sender(
    name="cloudevents",
    title="CloudEvents",
    home="https://github.com/cloudevents/spec",
    mapping=MAPPING,
    ignored=IGNORED,
    receive=_receive,
    shape=_shape,
    media=frozenset(
        {
            "application/cloudevents+json",
            "application/cloudevents-batch+json",
            "application/xml",
            "text/xml",
            "text/plain",
            "application/octet-stream",
            "",
        }
    ),
)
setup = SENDER.setup
