"""A snapshot that is asked for again after a restart: what was collected is not collected twice."""

from __future__ import annotations

import json

from integrations.kubernetes import setup
from responder.clock import World
from responder.model import Target
from responder.ports import Call, Done, Kit
from responder.sandbox.world import SandboxWorld
from tests.adapters.kubernetes.stage import Shelf


def request(sandbox: SandboxWorld, step: str) -> Call:
    """Keep evidence of the shop's first pod."""
    meta = sandbox.pod()["metadata"]
    place = f"{meta['namespace']}/{meta['name']}"
    target = Target(
        cluster="sandbox", namespace=meta["namespace"], pod=meta["name"], pod_uid=meta["uid"]
    )
    return Call(
        action="kubernetes.snapshot",
        key=f"run_1/{step}",
        incident=1,
        run="run_1",
        step=step,
        params={"pod": place},
        target=target,
    )


async def test_one_step_keeps_one_manifest_however_often_it_is_carried_out() -> None:
    """A kill between the manifest and the journal repeats the step; another step collects anew."""
    shelf = Shelf()
    async with SandboxWorld() as sandbox:
        cluster = setup({"sandbox": {"api": sandbox.cluster_url}}, World(), Kit(evidence=shelf))
        action = next(a for a in cluster.actions if a.info.name == "kubernetes.snapshot")
        results = []
        for step in ("snapshot", "snapshot", "later"):
            call = request(sandbox, step)
            done = await action.apply(call, await action.plan(call))
            assert isinstance(done, Done)
            results.append(done.result)
        assert cluster.close is not None
        await cluster.close()
    assert results[0] == results[1]
    manifests = [row for row in shelf.rows if row["name"].endswith("/manifest.json")]
    assert [row["sha256"] for row in manifests] == [results[0]["manifest"], results[2]["manifest"]]
    assert results[0]["files"] == len(shelf.rows) / 2
    assert json.loads(shelf.files[manifests[0]["name"]])["step"] == "run_1/later"
