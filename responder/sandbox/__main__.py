"""Runs the sandbox as a process of its own: `python -m responder.sandbox --port-file F`.

The file is written whole once everything answers: one JSON object with the addresses. The
process ends on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

from responder.sandbox.world import SandboxWorld


async def _run(port_file: Path, pods: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with SandboxWorld(pods=pods) as world:
        part = port_file.with_name(port_file.name + ".part")
        part.write_text(world.addresses() + "\n")
        os.replace(part, port_file)  # noqa: PTH105 - one rename, so that no reader sees half
        await stop.wait()


def main() -> None:
    """Read the arguments and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m responder.sandbox", description=__doc__)
    parser.add_argument("--port-file", type=Path, required=True, help="where to write addresses")
    parser.add_argument("--pods", type=int, default=3, help="size of the shop")
    options = parser.parse_args()
    asyncio.run(_run(options.port_file, options.pods))


if __name__ == "__main__":
    main()
