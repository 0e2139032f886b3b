"""Any JSON as alerts, by expressions in the hook's configuration.

`hook.options["mapping"]` is a `Mapping[str, Callable[[dict], Any]]` that the wiring has made from
the configuration's expressions; this module never sees their text, so it needs no language:

    [hooks.scanner.mapping]                        what the expression gives
    items       = "body.findings"                  the list of alerts; left out: the body itself,
                                                   or each item of a body that is an array
    rule        = "body.check.title"               text; without it the alert is *unparsed*
    severity    = "body.level"                     a usual word in any case, or 0 (unknown) to
                                                   5 (critical)
    time        = "body.seen"                      RFC 3339, or s, ms, µs, ns since 1970
    summary     = "body.text"                      text
    kind        = "body.ok ? 'resolved' : 'detection'"   detection, vulnerability, health, test,
                                                   resolved; left out: detection
    fingerprint = "body.id"                        text, equal for repeats; left out: computed
                                                   from rule, summary and target
    resolves    = "body.id"                        the `fingerprint` that a resolved alert ends;
                                                   left out: the one this alert itself would have
    tags        = "body.labels"                    list of texts
    "target.pod" = "body.resource.name"            and the other parts of a target but cluster

Each function gets one alert's object (for `items` the whole body) and returns a JSON value, or
anything else for "missing". Without a mapping the sender speaks our own words: the keys above,
`target` as an object, `labels`.

Never: starts something because a mapped `kind` said nothing (that alert is *unparsed*), takes a
malformed name into the target, or lets the payload choose the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from integrations import _values as values
from integrations._json import as_text, decode
from integrations._source import Page, Table, sample_of
from integrations._webhook import Guard
from responder.clock import World
from responder.errors import ConfigError
from responder.model import Alert, AlertKind, Severity, Target
from responder.ports import HookInfo, Integration, Kit
from responder.text import suggestion

__all__ = ["KEYS", "PAGE", "Generic", "Mapper", "check_mapping", "setup"]

Mapper = Mapping[str, Callable[[Any], Any]]

_RULE_MAX = 256
_TAGS_MAX = 64
_WORKLOAD = re.compile(r"[A-Z][A-Za-z]{0,62}/[A-Za-z0-9][A-Za-z0-9_.\-]{0,252}", re.ASCII)


def _workload(value: Any) -> str:
    """`Kind/name` when it is well-formed, else nothing."""
    return value if isinstance(value, str) and _WORKLOAD.fullmatch(value) else ""


_TARGET: Mapping[str, Callable[[Any], str]] = {
    "namespace": values.name,
    "pod": values.name,
    "pod_uid": values.name,
    "container": values.name,
    "container_id": values.container_id,
    "image": values.image_name,
    "digest": values.digest,
    "workload": _workload,
    "node": values.name,
    "host": values.name,
}
_PLAIN = ("rule", "severity", "time", "summary", "kind", "fingerprint", "resolves", "tags")
KEYS = frozenset({"items", *_PLAIN, *(f"target.{part}" for part in _TARGET)})


PAGE = Page(
    name="generic",
    title="Any JSON",
    home="https://www.rfc-editor.org/rfc/rfc8259",
    mapping=Table(
        rule=("rule",),
        summary=("summary",),
        severity=("severity",),
        time=("time",),
        target={part: (f"target/{part}",) for part in _TARGET},
        fingerprint=("fingerprint",),
        tags=("tags",),
        notes={
            "mapping": "These are our own words; `[hooks.NAME.mapping]` says where each is found "
            "in any other JSON.",
            "severity": "Or our own numbers: 0 unknown to 5 critical.",
            "kind": "`kind` says test, health or resolved; a word nobody knows is *unparsed*.",
        },
    ),
)


class _Failure(Exception):
    """An expression broke on this payload."""


class Generic:
    """The source `generic`."""

    name = "generic"
    accepts_status = 202

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def preverify(self, headers: Mapping[str, str], hook: HookInfo) -> None:
        """What can be checked before the body is read; raises `Unauthorized`."""
        self._guard.before(headers, hook)

    def verify(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Raise `Unauthorized` unless the sender holds this hook's credentials."""
        self._guard.whole(headers, body, hook)

    @property
    def sample(self) -> bytes:
        """An alert in our own words."""
        return sample_of(self.name)

    def parse(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[Alert]:
        """The alerts that the mapping finds; raises `BadAlert` when the body is not JSON."""
        del headers
        payload = decode(body)
        mapping: Mapper = hook.options.get("mapping") or {}
        if "items" in mapping:
            try:
                payload = _ask(mapping, "items", payload)
            except _Failure as failure:
                return [_unparsed(str(failure), as_text(body))]
            if not isinstance(payload, list):
                return [_unparsed("the mapping's items are not a list", as_text(body))]
        if isinstance(payload, list):
            return values.each(
                payload, lambda item, raw: _read(item, raw, mapping, hook), _unparsed
            )
        return [_read(payload, as_text(body), mapping, hook)]


def setup(section: Mapping[str, Any], world: World, kit: Kit) -> Integration:
    """Offer the source `generic`; its mapping belongs to each hook."""
    del kit
    values.no_settings(section, Generic.name)
    return Integration(sources=[Generic(Guard(world))])


def check_mapping(keys: Iterable[str], where: str) -> None:
    """Check the keys of one hook's mapping when it is configured; raises `ConfigError`."""
    listed = list(keys)
    for key in listed:
        if key == "target.cluster":
            raise ConfigError(f"{where}: a payload never chooses the cluster; the hook names it")
        if key not in KEYS:
            raise ConfigError(f'{where}: unknown key "{key}"; {suggestion(key, KEYS)}')
    if "rule" not in listed:
        raise ConfigError(f"{where}: rule is missing: playbooks are found by it")


def _unparsed(reason: str, raw: str) -> Alert:
    return values.unparsed(Generic.name, reason, raw)


def _ask(mapping: Mapper, key: str, item: Any) -> Any:
    """What the mapping finds in one alert; absent keys give nothing."""
    find = mapping.get(key)
    if find is None:
        return None
    try:
        return find(item)
    except Exception as error:  # noqa: BLE001 - a mapping never costs the alert, whatever it does
        raise _Failure(f"the mapping of {key} failed: {type(error).__name__}") from None


def _own_words(item: Mapping[str, Any]) -> Mapper:
    """The mapping for senders that speak our own words."""
    target = item.get("target")
    parts = target if isinstance(target, dict) else {}
    own: dict[str, Callable[[Any], Any]] = {
        key: lambda body, key=key: body.get(key)  # type: ignore[misc]
        for key in _PLAIN
        if key in item
    }
    for part in _TARGET:
        own[f"target.{part}"] = lambda _body, part=part: parts.get(part)  # type: ignore[misc]
    return own


def _read(item: Any, raw: str, mapping: Mapper, hook: HookInfo) -> Alert:
    if not isinstance(item, dict):
        return _unparsed("the alert is not an object", raw)
    try:
        return _alert(item, raw, mapping or _own_words(item), hook)
    except _Failure as failure:
        return _unparsed(str(failure), raw)


def _alert(item: dict[str, Any], raw: str, mapping: Mapper, hook: HookInfo) -> Alert:
    """One object as an alert."""
    rule = values.string(_ask(mapping, "rule", item), _RULE_MAX)
    if not rule:
        return _unparsed("the mapping finds no rule", raw)
    kind = _kind(mapping, item)
    if kind is None:
        return _unparsed("kind is missing or no known word", raw)
    target = _target(mapping, item, hook.cluster)
    summary = values.summary(_ask(mapping, "summary", item), rule)
    opened = _identity(_ask(mapping, "fingerprint", item), rule, summary, target)
    resolved = kind is AlertKind.RESOLVED
    return Alert(
        source=Generic.name,
        kind=kind,
        rule=rule,
        severity=_severity(_ask(mapping, "severity", item)),
        summary=summary,
        time=values.micros(_ask(mapping, "time", item)),
        fingerprint=_told(opened, kind),
        target=target,
        tags=_tags(_ask(mapping, "tags", item)),
        labels=_labels(item.get("labels")),
        fields=values.flat(item),
        reason="" if kind.may_start else f"the sender says that it is {kind.value}",
        resolves=_ended(_ask(mapping, "resolves", item), opened) if resolved else "",
        raw=raw,
    )


def _kind(mapping: Mapper, item: dict[str, Any]) -> AlertKind | None:
    """What the alert is; nothing when the mapping has a word for it and it cannot be read."""
    if "kind" not in mapping:
        return AlertKind.DETECTION
    word = values.string(_ask(mapping, "kind", item)).lower()
    return AlertKind(word) if word in set(AlertKind) - {AlertKind.UNPARSED} else None


def _severity(value: Any) -> Severity:
    """A word, or our own numbers 0 to 5."""
    if type(value) is int and value in set(Severity):
        return Severity(value)
    return values.severity_of(value)


def _target(mapping: Mapper, item: dict[str, Any], cluster: str) -> Target:
    parts = {part: read(_ask(mapping, f"target.{part}", item)) for part, read in _TARGET.items()}
    return Target(cluster=cluster, **parts)


def _told(opened: str, kind: AlertKind) -> str:
    """An end, a test or a health event is no repeat of the detection with the same words."""
    return opened if kind.may_start else values.fingerprint_of(opened, kind.value)


def _identity(given: Any, rule: str, summary: str, target: Target) -> str:
    if text := _key(given):
        return values.fingerprint_of("generic", text)
    parts = [part for pair in target.to_json().items() for part in pair]
    return values.fingerprint_of("generic", "computed", rule, summary, *parts)


def _ended(given: Any, opened: str) -> str:
    text = _key(given)
    return values.fingerprint_of("generic", text) if text else opened


def _key(given: Any) -> str:
    """A sender's id: text, or a whole number."""
    return str(given) if type(given) is int else values.string(given)


def _tags(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list | tuple):
        return ()
    return tuple(tag for item in given[:_TAGS_MAX] if (tag := values.string(item, _RULE_MAX)))


def _labels(given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        return {}
    return {
        key: text
        for key, value in given.items()
        if len(key) <= values.KEY_MAX and (text := values.string(value))
    }
