"""One forge of either kind with a repository, and lives of the product that come and go beside it.

A life is everything that a process would hold: clients, pools, brakes. What a later life knows of
an earlier one is what the forge shows it.
"""

import contextlib
import importlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from integrations._forges import setup
from integrations._merging import ProposeChange
from integrations._merging_accept import MergeChange
from responder.clock import World
from responder.errors import Conflict, StepRetry
from responder.model import Plan, Secret, Target
from responder.ports import Action, Call, Done, ImageChange, ImageRoute, Integration, Kit, Pending
from tests.adapters.github.world import NoEvidence, agreeing
from tests.doubles import github, gitlab
from tests.doubles.contract import description
from tests.doubles.github_pulls import Pulls
from tests.doubles.gitstore import GitStore
from tests.doubles.lab_contract import description as lab_description
from tests.doubles.lab_requests import Repository

KINDS = ("github", "gitlab")
IMAGE = "registry.example/shop/cart"
DIGEST = f"sha256:{'a' * 64}"
OLD_DIGEST = f"sha256:{'0' * 64}"
OLD_BASE = "registry.example/base:1"
NEW_BASE = f"registry.example/base@sha256:{'b' * 64}"
TOKEN = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"
PRODUCTION = ImageChange(
    name="production",
    forge="forge",
    repo="acme/shop",
    branch="main",
    file="shop/cart/values.yaml",
    kind="values",
    key="cart.image.digest",
)


@dataclass
class Life:
    """One process of the product: it knows nothing of the one before."""

    propose: ProposeChange
    merge: MergeChange
    integration: Integration


@dataclass
class Forge:
    """A double of one kind with what it has of files and requests."""

    kind: str
    double: Any
    part: Any  # Pulls or Repository: knobs and requests
    route: ImageRoute
    settings: Mapping[str, Any]
    plans: dict[str, Plan] = field(default_factory=dict)
    lives: int = 0

    @property
    def git(self) -> GitStore:
        """The repository itself."""
        store: GitStore = self.part.git
        return store

    @property
    def made(self) -> Counter[str]:
        """The writes that acted."""
        return self.git.made

    @property
    def requests(self) -> list[dict[str, Any]]:
        """Every pull or merge request as the forge tells it."""
        found: list[dict[str, Any]] = self.part.requests
        return found

    @property
    def body(self) -> str:
        """The text of the only request."""
        [one] = self.requests
        return str(one["body" if self.kind == "github" else "description"])

    def proposed(self) -> str:
        """The text of the changed file at the only branch of ours."""
        [branch] = self.git.own()
        [change] = self.route.changes
        return self.git.at(branch, change.file) or ""

    def push(self) -> None:
        """Somebody pushes to the branch of the only request."""
        [one] = self.requests
        if self.kind == "github":
            one["head"]["sha"] = "9" * 40
        else:
            one["sha"] = "9" * 40

    def close(self) -> None:
        """Somebody closes the only request."""
        [one] = self.requests
        one["state"] = "closed"

    def merge(self) -> None:
        """Somebody merges the only request by hand."""
        [one] = self.requests
        self.part.merged(one)

    @contextlib.asynccontextmanager
    async def life(self) -> AsyncIterator[Life]:
        """Start a process of the product, and end it."""
        self.lives += 1
        table = {
            "kind": self.kind,
            "base_url": self.double.base_url,
            "token": Secret(self.double.token),
            "poll": 1,
            "settle": 0.2,
            "timeout": 2,
            **self.settings,
        }
        kit = Kit(evidence=NoEvidence(), images=(self.route,), digest_of=agreeing)
        made = setup({"forge": table}, World(), kit)
        try:
            yield Life(_only(made, ProposeChange), _only(made, MergeChange), made)
        finally:
            assert made.close
            await made.close()

    # -------------------------------------------------------------- as the engine would

    async def proposed_by(self, call: Call, lives: int = 6) -> Done:
        """Plan and apply, in another life after each failure that may be tried again."""
        found = await self._driven("propose", call, lives)
        assert isinstance(found, Done)
        return found

    async def merged_by(self, call: Call, lives: int = 8) -> Done:
        """Plan, apply and look, in another life after each failure that may be tried again."""
        found = await self._driven("merge", call, lives)
        assert isinstance(found, Done)
        return found

    async def _driven(self, verb: str, call: Call, lives: int) -> Done:
        waiting: Pending | None = None
        for left in range(lives, 0, -1):
            async with self.life() as life:
                action: Action = getattr(life, verb)
                try:
                    plan = self.plans.get(call.key) or await action.plan(call)
                    self.plans[call.key] = plan
                    now = (
                        await action.poll(call, waiting.state)
                        if waiting
                        else await action.apply(call, plan)
                    )
                    for _ in range(6):
                        if isinstance(now, Done):
                            return now
                        waiting = now
                        now = await action.poll(call, now.state)
                except StepRetry:
                    if left == 1:
                        raise
                except Conflict:
                    self.plans.pop(call.key)
        raise AssertionError(f"it does not end: {waiting}")


def _only(made: Integration, kind: type[Any]) -> Any:
    [found] = [one for one in made.actions if isinstance(one, kind)]
    return found


@contextlib.asynccontextmanager
async def forge(
    kind: str,
    *,
    change: ImageChange | None = PRODUCTION,
    settings: Mapping[str, Any] | None = None,
    **knobs: Any,
) -> AsyncIterator[Forge]:
    """Serve a double of this kind; checks what it was asked and what it answered."""
    importlib.import_module(kind)  # loaded before the clock of any call runs
    description()
    lab_description()
    part: Any = Pulls(**knobs) if kind == "github" else Repository(**knobs)
    more = {"parts": (part,)} if kind == "github" else {"repository": part}
    serve: Any = github.running if kind == "github" else gitlab.running
    workflow = "rebuild.yml" if kind == "github" else ".gitlab-ci.yml"
    route = ImageRoute(
        match="registry.example/shop/*",
        forge="forge",
        repo="acme/shop",
        workflow=workflow,
        changes=(change,) if change else (),
    )
    async with serve(token=TOKEN, **more) as double:
        yield Forge(kind, double, part, route, settings or {})
        assert not double.wrong_answers, double.wrong_answers
        assert not double.wrong_requests, double.wrong_requests


def a_call(verb: str = "propose", **changes: Any) -> Call:
    """Return the call of one step; what is no field of a call is a parameter."""
    values: dict[str, Any] = {
        "action": f"change.{verb}",
        "key": f"run_01j9/{verb}",
        "incident": 42,
        "run": "run_01j9",
        "step": verb,
        "target": Target(image=f"{IMAGE}:1.4", digest=OLD_DIGEST),
    }
    own = {name: changes.pop(name) for name in tuple(changes) if name in values}
    params = changes or {"digest": DIGEST}
    return Call(**{**values, **own}, params=params)


def merging(done: Done, **changes: Any) -> Call:
    """Return the call that merges what was proposed."""
    names = ("request", "sha", "change")
    params = {**{name: done.result[name] for name in names}, **changes}
    return replace(a_call("merge"), params=params)
