"""What all senders of AWS share: SNS envelopes, Lambda's records, EventBridge, confirmations.

https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html

A subscription is confirmed by opening a URL that holds a token. Neither is kept, only whether the
URL leads to SNS and the topic is one that the hook allows. Whether it is opened is decided after
the check, by `_sns.confirmation_url`.

Never: takes an envelope's word for anything it does not hold.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from integrations._json import decode, dump
from integrations._secrets import table
from integrations._source import Ignored, at, listed
from integrations._values import string
from responder.errors import BadAlert
from responder.model import Alert, AlertKind, JsonObject
from responder.ports import HookInfo

__all__ = [
    "CONFIRMATIONS",
    "confirmation",
    "envelopes",
    "message",
    "messages",
    "quiet",
    "sns_host",
    "topics",
]

_KEPT = ("Type", "TopicArn", "MessageId", "Timestamp")
_ASKS = ("SubscriptionConfirmation", "UnsubscribeConfirmation")
# Regional endpoints of SNS and nothing else.
# https://docs.aws.amazon.com/general/latest/gr/sns.html
_SNS_URL = re.compile(
    r"https://(sns\.[a-z]{2}(?:-[a-z]{2,9}){1,3}-[0-9]\.amazonaws\.com(?:\.cn)?)/[!-~]{0,2000}",
    re.ASCII,
)

CONFIRMATIONS = (
    Ignored(
        "confirmation",
        AlertKind.HEALTH,
        "SNS asks to confirm a subscription of a topic that this hook allows",
        lambda item: item.get("Type") in _ASKS and "host" in item,
    ),
    Ignored(
        "foreign confirmation",
        AlertKind.HEALTH,
        "SNS asks to confirm a subscription of a topic or host that this hook does not allow",
        lambda item: item.get("Type") in _ASKS,
    ),
)


def sns_host(value: Any) -> str:
    """The host of a URL when it is one of SNS itself over https, else nothing."""
    found = _SNS_URL.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found else ""


def topics(hook: HookInfo) -> tuple[str, ...]:
    """The topics that a hook allows, by its `auth.sns` or its `options.topics`."""
    for wanted in (table(hook.auth.get("sns")).get("topics"), hook.options.get("topics")):
        if isinstance(wanted, list | tuple):
            return tuple(topic for topic in wanted if isinstance(topic, str))
    return ()


def envelopes(payload: Any) -> list[Any]:
    """The envelopes of a body: one, an array of them, or those in a Lambda's `Records`."""
    parts = listed("Records")(payload)
    return [part["Sns"] if isinstance(at(part, "Sns"), dict) else part for part in parts]


def message(envelope: JsonObject) -> Any:
    """What a notification carries: a JSON value, or the text when it is none."""
    text = envelope.get("Message")
    if not isinstance(text, str):
        return text
    try:
        return decode(text.encode("utf-8", "replace"))
    except BadAlert:
        return text


def messages(payload: Any) -> list[Any]:
    """What a body carries, without SNS around it; a confirmation stays an envelope."""
    return [
        message(part) if at(part, "Type") == "Notification" and "Message" in part else part
        for part in envelopes(payload)
    ]


def confirmation(item: JsonObject, hook: HookInfo) -> JsonObject | None:
    """A confirmation as it is kept, None when the item is none."""
    if item.get("Type") not in _ASKS:
        return None
    kept: JsonObject = {key: item[key] for key in _KEPT if key in item}
    host = sns_host(item.get("SubscribeURL"))
    if string(item.get("TopicArn")) in topics(hook) and host:
        kept["host"] = host
    return kept


def quiet(alert: Alert, item: JsonObject) -> Alert:
    """A confirmation without its token in what is kept beside it; every other alert as it is."""
    return replace(alert, raw=dump(item)) if item.get("Type") in _ASKS else alert
