"""What an integration may implement: the only words that core and outside world share.

A source turns bytes into alerts without I/O. An action reads and returns a plan, applies exactly
that plan, says whether it is done, verifies, and can take it back. A resolver says what a target
is *now*. Every integration module has one entry, `setup(section, world, kit)`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from responder.clock import World
from responder.model import Alert, Effect, Plan, Secret, Target, Verdict

__all__ = [
    "Action",
    "ActionInfo",
    "Call",
    "Command",
    "CommandSource",
    "Done",
    "EvidenceSink",
    "Heard",
    "HookInfo",
    "ImageChange",
    "ImageRoute",
    "Integration",
    "Kit",
    "Known",
    "Notice",
    "Notifier",
    "Param",
    "Pending",
    "Permission",
    "Resolver",
    "Setup",
    "Source",
    "Standing",
    "Watcher",
    "needed",
    "redact",
]


# --------------------------------------------------------------------------- sources


@dataclass(frozen=True, slots=True, kw_only=True)
class HookInfo:
    """One configured door as its source sees it."""

    name: str
    source: str
    cluster: str = ""  # the one cluster this sender may speak of
    auth: Mapping[str, Any] = field(default_factory=dict)  # values are Secret or list[Secret]
    options: Mapping[str, Any] = field(default_factory=dict)  # the source's own settings
    expect_every: float = 0.0  # seconds: longer silence is an alert of its own; 0: it may be silent
    media: frozenset[str] = frozenset()  # content types its source takes beside JSON, "" for none
    body_max: int = 0  # bytes its source takes; 0: what the door takes of everybody


class Source(Protocol):
    """Turns a sender's payload into alerts. Never does I/O, never reads a clock."""

    name: str
    accepts_status: int  # what the sender takes for "stored": 202, or 200 for senders that insist

    def verify(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Return when the sender is who the hook says; raise `Unauthorized` when not.

        `headers` has lower-case names; a name sent twice arrives joined by ", ".
        """
        ...

    def parse(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[Alert]:
        """The alerts in an authentic body, in its order.

        An authentic alert that cannot be read becomes one of kind *unparsed* with the reason.
        Raises `BadAlert` only where the body is not what the format allows at all (not JSON).
        """
        ...


# --------------------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One parameter of an action, or one of its results."""

    type: str  # string | int | bool | duration | list | map | kubernetes.pod | image | …
    summary: str
    required: bool = False
    default: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """One right that an action needs, in the words of the system it is asked of."""

    system: str = "kubernetes"
    group: str = ""  # API group, "" is core
    resource: str = ""  # "pods", "pods/log"
    verbs: tuple[str, ...] = ()
    scope: str = "namespace"  # namespace | cluster | home (our own namespace)
    why: str = ""
    optional: bool = False  # without it the action works, and says what it could not see
    when: tuple[str, ...] = ()  # only where a playbook says one of these: "action param=value"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionInfo:
    """Everything that docs, RBAC manifests, JSON Schema and preflight are generated from."""

    name: str  # integration.verb_object
    summary: str
    effect: Effect
    params: Mapping[str, Param] = field(default_factory=dict)
    results: Mapping[str, Param] = field(default_factory=dict)
    permissions: tuple[Permission, ...] = ()
    undoable: bool = False
    looks_up: bool = True  # apply(resumed) finds an earlier attempt; False: a person is asked
    containment: bool = False  # runs in the lane that never queues behind anything else
    stage: str = ""  # what an incident has reached when it succeeds: contained | evidenced | …
    concern: str = ""  # whose role holds its rights; empty: by effect, see `role`
    on_expiry: str = "stay"  # when `expires` passes: stay and call a person, or revert
    always_asks: bool = False  # a person says yes even where the playbook may act alone
    timeout: float = 60.0  # seconds for one attempt, unless the step says otherwise
    recheck: float = 0.0  # seconds between two looks at what it holds, after it has ended; 0: none
    example: Mapping[str, Any] = field(default_factory=dict)

    @property
    def role(self) -> str:
        """The concern that its rights belong to: reader, containment, identity, …"""
        return self.concern or ("reader" if self.effect is Effect.READ else "containment")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One step's request to its action; the same for plan, apply, poll, verify and undo."""

    action: str
    key: str  # "run_…/step": stable over retries and restarts; outside names derive from it
    incident: int
    run: str
    step: str
    params: Mapping[str, Any]
    target: Target
    attempt: int = 1
    resumed: bool = False  # an earlier apply may have happened: look before acting
    deadline: float | None = None  # seconds left for this step, None: no limit
    started: int = 0  # when the first apply of this key began, microseconds; 0 before
    recheck: bool = False  # a later look at what holds already: `verify` may be cheaper


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The action has ended well; `result` holds the values named in `ActionInfo.results`."""

    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """It goes on elsewhere: look again after `after` seconds, or when `correlation` is heard of."""

    state: Mapping[str, Any]
    after: float
    waiting_for: str = ""  # one line for a person: "GitHub run 4711 (queued)"
    correlation: str = ""  # what a webhook would carry
    person: bool = False  # a person's word is waited for: that time is not the step's


class Action(Protocol):
    """One verb on one kind of object. All methods may raise the failure classes of `errors`.

    `StepRetry`: nothing happened, try later. `StepFailed`: never. `Conflict`: plan again.
    `Uncertain`: it may have happened and cannot be looked up; a person is asked.
    """

    info: ActionInfo

    async def plan(self, call: Call) -> Plan:
        """Read, and say what would change. Touches nothing; same world, same plan."""
        ...

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Change what the plan lists and nothing else; safe to repeat with the same key."""
        ...

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Look at what goes on elsewhere. Never starts anything."""
        ...

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Check what was reached; must be able to fail."""
        ...

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Take back what was applied; raise `Conflict` with the difference if others changed it."""
        ...


class Standing(Action, Protocol):
    """An action that looks again in its own way (`ActionInfo.recheck`); others `verify` again."""

    async def recheck(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Like `verify`; raises `NotFound` when there is nothing left to hold.

        `StepFailed` says that somebody took away what was put there: it is put back a few times.
        """
        ...


Heard = Callable[[str], Awaitable[None]]  # "cluster:prod", "cluster:prod/namespace[/object]"
Watcher = Callable[[Heard], Awaitable[None]]  # runs until cancelled; says what may have changed


class Resolver(Protocol):
    """Says what a target is now, or that it is not what the alert spoke of."""

    async def resolve(self, target: Target) -> Target:
        """Fill in UID, workload, node, image and digest.

        Raises `StepFailed` when name, UID and container id do not belong together now (a recycled
        name), `NotFound` when the pod is gone, `StepRetry` when nobody can say at the moment.
        """
        ...


# --------------------------------------------------------------------------- notices, commands


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something a person should hear of."""

    incident: int
    title: str
    text: str
    severity: int = 0


class Notifier(Protocol):
    """Tells people. A failure here never delays anything else."""

    name: str

    async def notify(self, notice: Notice) -> None:
        """Deliver once; raise `StepRetry` to be asked again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A verb a person typed somewhere, not yet checked for rights."""

    verb: str
    args: tuple[str, ...]
    person: str
    door: str


class CommandSource(Protocol):
    """Turns a chat's payload into a command."""

    name: str

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raise `Unauthorized` unless the chat itself sent this."""
        ...

    def parse(self, headers: Mapping[str, str], body: bytes) -> Command:
        """The command in an authentic body."""
        ...


# --------------------------------------------------------------------------- set-up


class EvidenceSink(Protocol):
    """Where an action puts what it collected."""

    async def put(self, call: Call, name: str, data: bytes, origin: Mapping[str, Any]) -> str:
        """Store one artefact and return its SHA-256; the same bytes twice are one artefact."""
        ...

    async def list(self, incident: int) -> Sequence[Mapping[str, Any]]:
        """What is stored for an incident: name, sha256, size, origin."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageChange:
    """One file that names an image, and where a person may be asked to change it there."""

    name: str  # what a playbook says; an alert never does
    forge: str
    repo: str
    branch: str
    file: str
    kind: str  # dockerfile | manifest | values | kustomize
    key: str = ""  # where in the file: "cart.image.digest"
    workloads: tuple[str, ...] = ()  # globs on CLUSTER/NAMESPACE/KIND/NAME; empty: all
    checks: bool = True  # nothing is merged before the repository's own checks have passed


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRoute:
    """One line of the image map: which pipeline may rebuild which images. It bounds everything."""

    match: str  # glob on the image's repository
    forge: str  # name under [forges]
    repo: str
    workflow: str
    ref: str = "main"
    inputs: Mapping[str, str] = field(default_factory=dict)
    digest_input: str = ""  # the input that gets the digest of the image that runs, if it has one
    event: str = ""  # GitHub: it is started by a repository_dispatch of this type instead
    changes: tuple[ImageChange, ...] = ()  # files that name the image: a digest is proposed there


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the open incidents know: of digests, and of one commit or run of a forge.

    Each maps a digest to an incident, or names incidents. Nothing in it is a claim of others.
    """

    blocked: Mapping[str, int] = field(default_factory=dict)  # it is blocked, or being replaced
    refused: Mapping[str, int] = field(default_factory=dict)  # its gate refused it
    passed: Mapping[str, int] = field(default_factory=dict)  # its gate let it through
    tied: tuple[int, ...] = ()  # they started the run, or merged the commit
    ungated: tuple[int, ...] = ()  # those of them whose gate has not spoken


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What the product lends to an integration while it is set up."""

    evidence: EvidenceSink
    images: tuple[ImageRoute, ...] = ()
    protected: Mapping[str, Sequence[str]] = field(default_factory=dict)
    digest_of: Callable[[str], Awaitable[str]] | None = None  # image reference -> registry's digest
    artefact: Callable[[str], Awaitable[bytes]] | None = None  # bytes of evidence by their SHA-256
    # actions of the loaded playbooks, and "action param=value" for what their steps give
    used: Callable[[], frozenset[str]] | None = None
    # Sigstore bundles that the line's forge keeps about a digest
    bundles: Callable[[ImageRoute, str], Awaitable[Sequence[bytes]]] | None = None
    # what is known of "forge:owner/repo", a run's number and its commit
    knows: Callable[[str, int, str], Awaitable[Known]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """What one outside system brings."""

    sources: Sequence[Source] = ()
    actions: Sequence[Action] = ()
    resolvers: Mapping[str, Resolver] = field(default_factory=dict)  # cluster name -> resolver
    notifiers: Sequence[Notifier] = ()
    commands: Sequence[CommandSource] = ()
    checks: Mapping[str, Callable[[], Awaitable[str]]] = field(default_factory=dict)  # for doctor
    digest_of: Callable[[str], Awaitable[str]] | None = None  # a registry's word on a reference
    bundles: Callable[[ImageRoute, str], Awaitable[Sequence[bytes]]] | None = None  # see `Kit`
    pausers: Sequence[Callable[[], Awaitable[str]]] = ()  # say why changes must wait, "" when not
    watchers: Sequence[Watcher] = ()  # say at once that what an action holds may have changed
    permissions: tuple[Permission, ...] = ()  # what it needs beside its actions: to know a target
    close: Callable[[], Awaitable[None]] | None = None


Setup = Callable[[Mapping[str, Any], World, Kit], Integration]


def needed(permissions: Iterable[Permission], used: Collection[str]) -> tuple[Permission, ...]:
    """The rights that are needed where these words are used: "action", "action param=value".

    A parameter whose value is known only when it runs, "action param=*", may have any value.
    """
    open_ended = {word.removesuffix("*") for word in used if word.endswith("=*")}
    return tuple(
        right
        for right in permissions
        if not right.when
        or any(word in used or f"{word.partition('=')[0]}=" in open_ended for word in right.when)
    )


def redact(value: Any) -> Any:
    """The same value with every `Secret` shown as `***`; for logs, plans and errors."""
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, Mapping):
        return {key: redact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value
