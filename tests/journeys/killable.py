"""Runs servers that die on demand, and sandboxes beside them, each in a process of its own.

    python -m tests.journeys.killable [--forgetful] [--restless]

Every line on standard input is one order in JSON; the answer is one line with the new process's
id. Processes are forked from this one, which has imported everything: a life begins in a tenth of
a second. When standard input ends, all of them end. Never used by the product.

Two plant a bug for a counter-proof: `--forgetful` servers do not look for an earlier dispatch,
`--restless` ones name the branch of a proposal anew in each life.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import github
import gitlab
import kubernetes.aio.client
import kubernetes.aio.config

import integrations
from integrations import _merging as merging
from integrations import _pipeline as pipeline
from integrations.kubernetes import delete, redeploy
from responder import wiring
from responder.model import Plan
from responder.ports import Call, Done
from responder.sandbox import __main__ as sandbox
from responder.settings import Settings, load
from responder.web.app import listening, make_app
from responder.wiring.sandboxed import sandbox_settings
from tests.journeys.kill_points import KillableWriter, LabelledStore, Points, watch_calls

_WARM = (github, gitlab, kubernetes.aio.client, kubernetes.aio.config)
_LOOK = 0.1  # seconds between two looks at a rollout or a deletion, instead of one or two
_FORGE = {"token": {"env": "SANDBOX_TOKEN"}, "poll": 0.05, "settle": 1}


def main() -> None:
    """Fork what each line orders, until there are no more lines."""
    os.setsid()  # a group of our own, to be ended as one
    for module in {*integrations.SECTIONS.values(), *integrations.SOURCES.values()}:
        integrations.load(module)
    if "--forgetful" in sys.argv:
        pipeline.PipelineRun._settled = _forget  # type: ignore[assignment,method-assign]
    if "--restless" in sys.argv:
        _name_anew()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the dead
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _live(order)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
    os.killpg(0, signal.SIGKILL)


async def _forget(*_: object) -> None:
    """What a server says that has forgotten to look."""


def _name_anew() -> None:
    """Have every life propose on a branch of its own."""
    apply = merging.ProposeChange.apply

    async def renamed(self: merging.ProposeChange, call: Call, plan: Plan) -> Done:
        params = {**plan.params, "branch": f"responder/{os.getpid()}-cart-{0:012x}"}
        return await apply(self, call, replace(plan, params=params))

    merging.ProposeChange.apply = renamed  # type: ignore[method-assign]


def _live(order: dict[str, Any]) -> None:
    """One process's whole life; it never returns to the loop above."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, target)
        if order["do"] == "sandbox":
            sys.argv = ["sandbox", "--port-file", order["port_file"]]
            sandbox.main()
        else:
            logging.basicConfig(level=logging.WARNING)
            asyncio.run(_serve(order))
        code = 0
    except BaseException:
        logging.exception("this process failed")  # noqa: LOG015 - it is a program of its own
    finally:
        os._exit(code)


def _rehearsed(order: dict[str, Any]) -> Settings:
    """The settings of a server beside a sandbox."""
    return sandbox_settings(
        order["addresses"],
        Path(order["folder"]),
        # a watch hears when it hears: moments of its own would not be the same each time
        clusters={"sandbox": {"api": order["addresses"]["cluster"], "watch": False}},
        playbooks__folders=[order["playbooks"]],
        playbooks__shipped=[],
        **_forges(order),
    )


async def _serve(order: dict[str, Any]) -> None:
    """A whole server whose writes and calls are moments to die at."""
    delete._LOOK_AGAIN = redeploy._LOOK_AGAIN = _LOOK
    points = Points(Path(order["notes"]), order["target"], order["delay"])
    points.at("the beginning")
    watch_calls(points)
    folder = Path(order["folder"])
    own = order.get("flags")
    settings = load(None, environ={}, flags=own) if own else _rehearsed(order)
    store = LabelledStore(folder / "responder.db", writer=KillableWriter(points))
    async with (
        wiring.build(settings, store=store, anonymous=True) as app,
        listening(make_app(app.service), "127.0.0.1", 0) as url,
    ):
        port_file = Path(order["port_file"])
        part = port_file.with_suffix(".part")
        part.write_text(json.dumps(url))
        part.replace(port_file)
        points.at("the door is open")
        await asyncio.Event().wait()


def _forges(order: dict[str, Any]) -> dict[str, Any]:
    """The sandbox's own forge, or another one with the image map's line that leads to it."""
    if "forge" in order:
        return {"forges": {"other": {**_FORGE, **order["forge"]}}, "images": [order["route"]]}
    return {"forges": {"sandbox": {**_FORGE, "base_url": order["addresses"]["forge"]}}}


if __name__ == "__main__":
    main()
