"""A server of trivial actions, as a process: `python -m tests.bench.waiter --config FILE`.

The product's own parts and doors; only the world outside is made up. Work that it begins
"elsewhere" comes due at the moment (seconds since 1970) that BENCH_DUE names.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from responder import wiring
from responder.model import Target
from responder.ports import Action, Call, Done, Integration, Pending
from responder.web.app import make_app, serve
from tests.fakes import Build, Mark, Things


class Anybody:
    """Finds every pod, before the configured cluster, whose client is loaded all the same."""

    async def resolve(self, target: Target) -> Target:
        """The target as it was named."""
        return target


class Far(Build):
    """Starts work elsewhere that comes due at one moment for all."""

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        return self._pending(call)

    async def apply(self, call: Call, plan: Any) -> Done | Pending:
        return self._pending(call)

    def _pending(self, call: Call) -> Pending:
        after = max(float(os.environ["BENCH_DUE"]) - time.time(), 300.0 if self._due_over() else 1)
        return Pending(state={"job": call.key}, after=after, waiting_for="a job elsewhere")

    def _due_over(self) -> bool:
        return time.time() > float(os.environ["BENCH_DUE"])


async def _main(config: Path) -> None:
    settings = wiring.load_settings(config, environ=os.environ)
    things = Things()
    actions: list[Action] = [Far(things), Mark(things)]
    made = Integration(actions=actions, resolvers={"none": Anybody()})
    async with wiring.build(settings, extra=[made]) as app:
        await serve(
            make_app(app.service),
            "127.0.0.1",
            0,
            started=lambda url: print(f"listening at {url}", file=sys.stderr, flush=True),
        )


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[2])))
