"""`flux.notify`: one POST to a Receiver, after which Flux fetches and applies.

The path is made of token, name and namespace and protects a plain `generic` Receiver, so it is a
secret: it never gets into a plan, an error or a log. A `generic-hmac` Receiver checks the body's
signature too (https://fluxcd.io/flux/components/notification/receivers/#generic-hmac-receiver).

Flux treats two notices as one wish to look now, so a lost answer is simply asked again.
"""

# ruff: noqa: ARG002 - the port fixes what every method takes

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import aiohttp

from integrations._calling import Caller, Fault, FaultKind
from integrations._fetch import HttpError, fetch, new_session, own_classifier
from integrations._forge import correlation_id
from integrations.flux.settings import ReceiverSettings
from responder.clock import World
from responder.errors import NotFound, StepFailed, StepRetry, Uncertain
from responder.model import Change, Effect, ObjectRef, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending, Permission
from responder.text import for_terminal, suggestion

__all__ = ["INFO", "Notify", "Receiver"]

_ANSWER_MAX = 64 << 10
_OPEN = "that Flux has brought it is not known yet: kubernetes.reconcile_flux waits for it"
INFO = ActionInfo(
    name="flux.notify",
    summary="Tell a Flux Receiver that there is something new, so that Flux fetches it now",
    effect=Effect.CHANGE,
    params={
        "receiver": Param(type="string", summary="the [flux.NAME] table; the only one by default"),
        "revision": Param(type="string", summary="what is new, for Flux's log", default=""),
    },
    results={"receiver": Param(type="string", summary="who was told")},
    permissions=(
        Permission(
            system="flux",
            resource="receivers",
            verbs=("notify",),
            scope="receiver",
            why="to have Flux look now",
        ),
    ),
    concern="deployer",
    timeout=60.0,
    example={"revision": "${{ steps.merge.commit }}"},
)


class Receiver:
    """One Receiver. Never shows its path, and never follows a redirect."""

    def __init__(self, name: str, settings: ReceiverSettings, world: World) -> None:
        self.name = name
        self.settings = settings
        self._common = own_classifier(world)
        self._caller = Caller(
            f"flux {name}", world, classify=self._classify, deadline=settings.timeout, threads=2
        )
        self._session: aiohttp.ClientSession | None = None

    @property
    def label(self) -> str:
        """Its namespace and name: all that may be shown."""
        return f"{self.settings.namespace}/{self.settings.receiver}"

    async def tell(self, order: Mapping[str, Any]) -> None:
        """Send one notice. Raises `Uncertain` when it may have been heard."""
        body = json.dumps(order, sort_keys=True).encode()
        headers = {"Content-Type": "application/json"}
        if self.settings.type == "generic-hmac":
            key = self.settings.token.reveal().encode()
            mark = hmac.new(key, body, hashlib.sha256).hexdigest()
            headers["X-Signature"] = f"sha256={mark}"

        async def once() -> None:
            answer = await fetch(
                self._open(), "POST", self._url(), limit=_ANSWER_MAX, headers=headers, data=body
            )
            if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
                raise HttpError(answer.status, answer.headers)

        await self._caller.awaiting(f"notify receiver {self.label}", once, write=True)

    async def close(self) -> None:
        """Close connections and pool."""
        if self._session:
            await self._session.close()
        self._caller.close()

    def _url(self) -> str:
        known = self.settings
        seed = f"{known.token.reveal()}{known.receiver}{known.namespace}"
        return f"{known.url}/hook/{hashlib.sha256(seed.encode()).hexdigest()}"

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            context: ssl.SSLContext | bool = True
            if self.settings.ca:
                context = ssl.create_default_context(cafile=self.settings.ca)
            self._session = new_session(self._caller, timeout=self.settings.timeout, ssl=context)
        return self._session

    def _classify(self, error: Exception) -> Fault:
        status = error.status if isinstance(error, HttpError) else 0
        if status == HTTPStatus.NOT_FOUND:
            text = "there is no such Receiver: check its name, namespace and token"
            return Fault(FaultKind.NOT_FOUND, text)
        if status == HTTPStatus.BAD_REQUEST:
            return Fault(FaultKind.FINAL, "it refuses the signature: check its token and type")
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            return Fault(FaultKind.REFUSED, "it is suspended or not ready", 15.0)
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return Fault(FaultKind.FINAL, f"HTTP {status}: sent elsewhere; check url")
        return self._common(error)


class Notify:
    """The action; see the module for what it promises."""

    def __init__(self, receivers: Mapping[str, Receiver]) -> None:
        self.info = INFO
        self._receivers = dict(receivers)

    async def plan(self, call: Call) -> Plan:
        """Who would be told. Raises `StepFailed` for a Receiver that is not configured."""
        receiver = self._receiver(call)
        known = receiver.settings
        ref = ObjectRef(
            kind="Receiver",
            name=known.receiver,
            namespace=known.namespace,
            system=f"flux:{receiver.name}",
        )
        revision = for_terminal(str(call.params.get("revision") or ""), 100)
        return Plan(
            action=self.info.name,
            summary=f"tell Receiver {receiver.label} that there is something new",
            changes=(Change(verb="notify", ref=ref, after={"revision": revision}),),
            residual=(_OPEN,),
            params={"receiver": receiver.name, "revision": revision},
        )

    def _receiver(self, call: Call) -> Receiver:
        names = tuple(self._receivers)
        if not names:
            raise StepFailed("no [flux.NAME] is configured: no Receiver can be told")
        name = str(call.params.get("receiver") or (names[0] if len(names) == 1 else ""))
        if name not in self._receivers:
            shown = for_terminal(name, 60)
            raise StepFailed(f"receiver: there is no [flux.{shown}]; {suggestion(name, names)}")
        return self._receivers[name]

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Tell it. Raises `StepRetry` when the answer was lost: being told twice does no harm."""
        receiver = self._receiver(call)
        order = {
            "revision": str(plan.params["revision"]),
            "correlation_id": correlation_id(call.key, call.attempt),
        }
        try:
            await receiver.tell(order)
        except Uncertain as lost:
            raise StepRetry(f"{lost}; it is told again, which does no harm") from lost
        except NotFound as error:
            raise StepFailed(str(error)) from error
        return Done(result={"receiver": receiver.label})

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: telling ends at once."""
        raise StepFailed("flux.notify has nothing to wait for")

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """That it was heard; what Flux made of it stays open."""
        checks = {"receiver": f"{result['receiver']} answered"}
        return Verdict(level=VerdictLevel.APPLIED, residual=plan.residual, checks=checks)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """There is nothing to take back: looking now changes nothing by itself."""
        raise StepFailed("a notice has no undo: revert the commit in its source")
