# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.block_image`: no new pod of a bad image, in the whole cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from integrations.kubernetes import admission, blocking
from integrations.kubernetes.blocking import DENY, LIST, WARN, Block
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet, insist
from integrations.kubernetes.paths import collection, named
from integrations.kubernetes.rights import right
from integrations.kubernetes.together import together
from responder.errors import Conflict, StepFailed
from responder.model import Blast, Change, Effect, ObjectRef, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending

__all__ = ["INFO", "BlockImage"]

INFO = ActionInfo(
    name="kubernetes.block_image",
    summary="Refuse every new pod of an image, by digest and by name, in the whole cluster",
    effect=Effect.CHANGE,
    params={
        "image": Param(type="image", summary="Image to block; the target's when left out"),
        "digest": Param(type="string", summary="sha256:…; the target's when left out"),
        "cluster": Param(type="string", summary="Cluster; the target's when left out"),
    },
    results={
        "digests": Param(type="list", summary="Digests that this step blocks"),
        "refs": Param(type="list", summary="Image names that this step blocks"),
    },
    permissions=(
        right("ConfigMap", "get", "create", "patch", scope="home", why="the list of images"),
        right(
            "ConfigMap",
            "get",
            scope="cluster",
            why="the API server asks it of whoever makes a policy with parameters of this kind",
        ),
        right("PodTemplate", "create", scope="home", why="try the policy, in dry runs only"),
        right(admission.POLICY, "get", "create", "patch", why="refuse pods"),
        right(admission.BINDING, "get", "create", "patch", why="warn first, then refuse"),
        right("Pod", "list", why="which pods run the image now"),
    ),
    undoable=True,
    concern="admission",
    timeout=60.0,
    example={"image": "registry.example/shop/cart:1.4", "digest": "sha256:…"},
)
_TRIES = 6
_LOOKS = 24  # how often the policy is tried until it answers as it should
_PAUSE = 0.25  # seconds: the API server reads its policies once a second


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class BlockImage:
    """One list and one policy for all blocks. Undo takes lines off; no policy is ever deleted."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Read the list, and who runs the image now. Raises `StepFailed` without an image."""
        api = self._api(call)
        block = _block(call)
        home = _home(api)
        watched = api.connection.settings.namespaces
        places = sorted({*watched, *([call.target.namespace] if call.target.namespace else [])})
        for place in places or [home]:
            await self.fleet.require(api, self.info, place)
        found = await admission.find(api, "ConfigMap", LIST, home)
        lists = await together(api.items(collection("Pod", place), cached=True) for place in places)
        running = [_label(pod) for pods in lists for pod in pods if _runs(pod, block)]
        plan = _design(call, api, block, found, _consequences(block, places, running))
        if self.fleet.dry_runs(api):
            await together(_rehearse(api, change) for change in plan.changes)
        return plan

    def _api(self, call: Call) -> Api:
        """The cluster that the step names, else the target's."""
        cluster = str(call.params.get("cluster") or "")
        named = replace(call.target, cluster=cluster) if cluster else call.target
        return self.fleet.api(replace(call, target=named))

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Policies, list, then warn, and refuse only once the warning came as it should.

        Raises `StepFailed` when the policy does not answer as planned; then nothing is refused.
        """
        api = self._api(call)
        home = _home(api)
        block = Block(**{key: tuple(plan.data[key]) for key in ("digests", "refs")})
        policy, refusing = blocking.policies(home, DENY)
        for item in (*blocking.keeper(home), policy):
            await admission.install(api, item)
        await _write(api, lambda data: blocking.with_block(data, block, call.key))
        there = await admission.find(api, admission.BINDING, refusing["metadata"]["name"])
        if not there or there["spec"] != refusing["spec"]:
            await admission.install(api, blocking.policies(home, WARN)[1])
            await _must_warn(api, home, block)
            await admission.install(api, refusing)
        return Done(result={"digests": list(block.digests), "refs": list(block.refs)})

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: applying ends at once."""
        return Done()

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Try the policy in dry runs: `enforced` only when every entry was refused.

        Raises `StepFailed` when list or policy is not as planned, or refuses every pod.
        """
        api = self._api(call)
        home = _home(api)
        block = Block(**{key: tuple(plan.data[key]) for key in ("digests", "refs")})
        await _as_planned(api, home, block)
        if await _refused(api, home, blocking.INNOCENT):
            raise StepFailed(
                f"policy {_policy(home)} refuses every pod: set its binding to Warn by hand, then "
                "look at the policy"
            )
        open_ = [image for image in blocking.samples(block) if not await _until(api, home, image)]
        told = tuple(
            f"a dry run with {image} was not refused: not enforced; if the list is right, the API "
            "server reads an old one and has to be restarted"
            for image in open_
        )
        checks = dict.fromkeys(block.entries, "refused in a dry run") if not open_ else {}
        return Verdict(
            level=VerdictLevel.RESIDUAL if open_ else VerdictLevel.ENFORCED,
            residual=(*told, *plan.residual),
            checks={**checks, "another image": "passed in a dry run"},
        )

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Take this step's lines off the list; what others block stays blocked.

        Raises `StepFailed` when the policy still refuses afterwards.
        """
        api = self._api(call)
        home = _home(api)
        block = Block(**{key: tuple(plan.data[key]) for key in ("digests", "refs")})
        if not await admission.find(api, "ConfigMap", LIST, home):
            return Done()
        data = await _write(api, lambda data: blocking.without_block(data, call.key))
        stay = blocking.listed(data, block)
        free = Block(
            digests=tuple(text for text in block.digests if text not in stay),
            refs=tuple(text for text in block.refs if text not in stay),
        )
        for image in blocking.samples(free):
            if not await _until(api, home, image, refused=False):
                raise StepFailed(f"{image} is off the list and still refused; see {_policy(home)}")
        return Done()


# --------------------------------------------------------------------------- the plan, pure


def _block(call: Call) -> Block:
    image, digest = str(call.params.get("image") or ""), str(call.params.get("digest") or "")
    if not image and not digest:
        image, digest = call.target.image, call.target.digest
    return blocking.wanted(image, digest)


def _design(
    call: Call, api: Api, block: Block, found: Json | None, residual: tuple[str, ...]
) -> Plan:
    home = _home(api)
    old = blocking.without_block((found or {}).get("data") or {}, call.key)
    new = blocking.with_block(old, block, call.key)
    others = bool(old["digests"] or old["refs"])
    listing = Change(
        verb="patch" if others else "create",
        ref=_ref(api, blocking.config_map(home, {})),
        before={"data": old} if others else None,
        after=blocking.config_map(home, new),
    )
    policy, binding = blocking.policies(home, DENY)
    made = [*blocking.keeper(home), policy, binding]
    creations = [Change(verb="create", ref=_ref(api, item), after=item) for item in made]
    return Plan(
        action=call.action,
        summary=f"block image {', '.join(block.entries[:3])}"
        + (f" and {len(block.entries) - 3} more spellings" if len(block.entries) > 3 else ""),  # noqa: PLR2004 - what fits a line
        changes=(listing, *creations),
        blast=Blast(),
        residual=residual,
        undo=f"take the lines off ConfigMap {home}/{LIST}; the policies stay",
        params={"digests": list(block.digests), "refs": list(block.refs)},
        data={"digests": list(block.digests), "refs": list(block.refs)},
    )


def _consequences(block: Block, places: list[str], running: list[str]) -> tuple[str, ...]:
    told = []
    if running:
        shown = ", ".join(sorted(running)[:5])
        told.append(
            f"{len(running)} pods run it now ({shown}): they go on, and what would replace them is "
            "refused"
        )
    told.append(f"pods were counted in: {', '.join(places) or 'no namespace'}")
    if not block.refs:
        told.append("a tag that leads to the same digest passes: block the tag as well")
    if not block.digests:
        told.append("the same image under another name passes: block its digest as well")
    told.append("static pods are started by their node without asking")
    return tuple(told)


def _runs(pod: Json, block: Block) -> bool:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    names = {item.get("image", "") for item in containers}
    ids = {item.get("imageID", "") for item in status.get("containerStatuses") or []}
    return bool(names & set(block.refs)) or any(
        text.endswith(f"@{digest}") for text in names | ids for digest in block.digests
    )


def _label(pod: Json) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _ref(api: Api, item: Json) -> ObjectRef:
    metadata = item["metadata"]
    return ObjectRef(
        kind=item["kind"],
        name=metadata["name"],
        namespace=metadata.get("namespace", ""),
        system=f"cluster:{api.cluster}",
    )


def _home(api: Api) -> str:
    return api.connection.settings.home


def _policy(home: str) -> str:
    return str(blocking.policies(home, DENY)[0]["metadata"]["name"])


# --------------------------------------------------------------------------- outside


async def _rehearse(api: Api, change: Change) -> None:
    if change.ref.kind == admission.BINDING:
        return  # refused in a dry run as long as its policy is not there
    path = collection(change.ref.kind, change.ref.namespace)
    try:
        await api.create(path, change.after, dry_run=True)
    except Conflict:
        return  # it is there; applying looks whether it is as wanted


async def _write(
    api: Api, edit: Callable[[Mapping[str, str]], dict[str, str]]
) -> Mapping[str, str]:
    """Change the list as it is now, whoever else changes it; what it holds then.

    Raises `Conflict` when it changes faster than it can be written.
    """

    async def attempt() -> Mapping[str, str]:
        home = _home(api)
        found = await admission.find(api, "ConfigMap", LIST, home)
        data = edit((found or {}).get("data") or {})
        if found is None:
            await api.create(collection("ConfigMap", home), blocking.config_map(home, data))
        elif found.get("data") != data:
            version = found["metadata"]["resourceVersion"]
            body = {"metadata": {"resourceVersion": version}, "data": data}
            await api.patch(named("ConfigMap", home, LIST), body)
        return data

    for _ in range(_TRIES):
        try:
            return await insist(api, attempt)
        except Conflict:
            continue
    raise Conflict(f"ConfigMap {LIST} changes faster than it can be written")


async def _must_warn(api: Api, home: str, block: Block) -> None:
    """Wait for the policy's warning. Raises `StepFailed` when it is wrong or does not come.

    For about a second the API server may still judge by what policy or binding was before.
    """
    bad = blocking.samples(block)[0]
    said = other = ""
    for _ in range(_LOOKS):
        said, other = await _answer(api, home, bad), await _answer(api, home, blocking.INNOCENT)
        if (said, other) == ("warned", ""):
            return
        await api.connection.world.clock.sleep(_PAUSE)
    if said and other:
        raise StepFailed(
            f"policy {_policy(home)} would refuse every pod, so it only warns now: nothing is "
            "blocked"
        )
    raise StepFailed(
        f"policy {_policy(home)} does not see the list, so it only warns now and nothing is "
        "blocked; the API server has stopped watching ConfigMaps for policies: restart it"
    )


async def _answer(api: Api, home: str, image: str) -> str:
    """What the policy does about an image: `warned`, `refused`, or nothing."""
    asking = api.warnings(collection("PodTemplate", home), blocking.sample(home, image))
    told: list[str] = []

    async def ask() -> None:
        told.extend(await asking)

    if await admission.refusal(ask(), _policy(home)):
        return "refused"
    return "warned" if any(f"'{_policy(home)}'" in text for text in told) else ""


async def _refused(api: Api, home: str, image: str) -> bool:
    attempt = api.create(
        collection("PodTemplate", home), blocking.sample(home, image), dry_run=True
    )
    return bool(await admission.refusal(attempt, _policy(home)))


async def _until(api: Api, home: str, image: str, *, refused: bool = True) -> bool:
    """Try until the policy answers so; whether it ever did."""
    for _ in range(_LOOKS):
        if await _refused(api, home, image) is refused:
            return True
        await api.connection.world.clock.sleep(_PAUSE)
    return False


async def _as_planned(api: Api, home: str, block: Block) -> None:
    for item in (*blocking.policies(home, DENY), *blocking.keeper(home)):
        name = item["metadata"]["name"]
        found = await admission.find(api, item["kind"], name)
        if not found or found["spec"] != item["spec"]:
            how = "was changed" if found else "is gone"
            raise StepFailed(f"{item['kind']} {name} {how}: the image may not be blocked")
    found = await admission.find(api, "ConfigMap", LIST, home)
    missing = set(block.entries) - blocking.listed((found or {}).get("data") or {}, block)
    if missing:
        raise StepFailed(f"ConfigMap {home}/{LIST} has lost {', '.join(sorted(missing))}")
