"""Find ``gitlab-ci-local``, which runs ``.gitlab-ci.yml`` files for real, and say how to call it.

https://github.com/firecow/gitlab-ci-local is an npm package. `tests/setup.sh` installs the pinned
version, the newest that starts on Node 20, into the cache folder; it also needs rsync.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.real.engine import Engine
from tests.real.missing import unavailable


def find_ci_local() -> Path:
    """Return the program's file; skip or fail when it, Node or rsync is missing."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("CI_LOCAL_HOME") or cache / "responder-ci-local")
    program = folder / "node_modules/.bin/gitlab-ci-local"
    for name in ("node", "rsync"):
        if not shutil.which(name):
            unavailable(f"gitlab-ci-local needs {name}: run tests/setup.sh")
    if not program.exists():
        unavailable("gitlab-ci-local is missing: run tests/setup.sh")
    return program


def ci_local_command(
    program: Path, home: Path, inputs: Mapping[str, str], registry: str
) -> list[str]:
    """Return the command of one pipeline in the current folder, a git checkout."""
    command = [str(program), "--force-shell-executor", "--home", str(home)]
    command += ["--variable", f"REBUILD_IMAGES={registry}/*"]
    for key, value in inputs.items():
        command += ["--input", f"{key}={value}"]
    return command


def ci_local_environment(engine: Engine, home: Path) -> dict[str, str]:
    """Return its environment: caches go to ``home``, and its jobs see the engine."""
    given = {key: engine.environment[key] for key in ("DOCKER_HOST", "DOCKER_CONFIG", "PATH")}
    places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), str(home))
    return {**os.environ, **given, **places}
