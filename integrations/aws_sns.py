"""Amazon SNS over HTTPS: whatever a topic carries, CloudWatch's alarms among it.

https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
For GuardDuty and Security Hub point the topic at a hook of their own source: those read more.

Never: opens SubscribeURL by itself; takes raw delivery, which has neither envelope nor signature.
"""

from __future__ import annotations

from typing import Any

from integrations import _aws as aws
from integrations._source import Ignored, Sender, Table, at
from integrations._values import string
from responder.model import AlertKind, JsonObject
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_ENVELOPE = ("Type", "TopicArn", "Subject", "MessageId", "Timestamp", "MessageAttributes")

MAPPING = Table(
    rule=("message/AlarmName", "message/detail-type", "topic"),
    summary=("Subject", "message/NewStateReason", "message/summary", "message"),
    severity=("message/severity",),
    time=("message/StateChangeTime", "message/time", "Timestamp"),
    target={
        part: (f"message/{part}",)
        for part in ("namespace", "pod", "container", "container_id", "image", "node")
    },
    fingerprint=("about",),
    tags=("topic",),
    notes={
        "rule": "The alarm's name, the event's type, else the topic's name.",
        "target": "A message of your own may name one by these keys; AWS's own name none.",
        "fingerprint": "`about` is the alarm, else the event's id, else the message's id.",
    },
)
IGNORED = (
    *aws.CONFIRMATIONS,
    Ignored(
        "test",
        AlertKind.TEST,
        "a test notification, or a sample finding",
        lambda item: (
            string(at(item, "message/Event")).endswith((":TEST_NOTIFICATION", ":TestEvent"))
            or at(item, "message/detail/service/additionalInfo/sample") is True
        ),
    ),
    Ignored(
        "coverage",
        AlertKind.HEALTH,
        "GuardDuty speaks about its own coverage",
        lambda item: string(at(item, "message/detail-type")).startswith(
            "GuardDuty Runtime Protection"
        ),
    ),
    Ignored(
        "resolved",
        AlertKind.RESOLVED,
        "the alarm is over",
        lambda item: at(item, "message/NewStateValue") == "OK",
    ),
    Ignored(
        "no data",
        AlertKind.HEALTH,
        "the alarm has no data to judge by",
        lambda item: at(item, "message/NewStateValue") == "INSUFFICIENT_DATA",
    ),
)


def _shape(item: JsonObject, hook: HookInfo) -> JsonObject | str:
    """The envelope without signature and links, its message opened."""
    if asks := aws.confirmation(item, hook):
        return asks
    topic = string(item.get("TopicArn"))
    if item.get("Type", "Notification") != "Notification" or not topic or "Message" not in item:
        return "not an envelope of SNS"
    inside = aws.message(item)
    about = at(inside, "AlarmArn") or at(inside, "id") or item.get("MessageId")
    kept: dict[str, Any] = {key: item[key] for key in _ENVELOPE if key in item}
    return {**kept, "topic": topic.rpartition(":")[2], "message": inside, "about": about}


SENDER = Sender(
    name="aws-sns",
    title="Amazon SNS",
    home="https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html",
    mapping=MAPPING,
    ignored=IGNORED,
    split=aws.envelopes,
    shape=_shape,
    finish=aws.quiet,
    media=frozenset({"text/plain"}),
)
setup = SENDER.setup
