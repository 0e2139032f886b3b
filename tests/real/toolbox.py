"""An image with the tools that probes need, made of this machine's own files and put on the node.

busybox for sh, nc and the rest; ss and conntrack with the libraries they are linked to.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.real.cluster import SCRIPTS, Node
from tests.real.missing import unavailable

TOOLBOX_IMAGE = "localhost/toolbox:1"
BUSYBOX = Path("/bin/busybox")
APPLETS = ("sh", "nc", "date", "timeout", "cat", "head", "sleep", "wc", "test")


def load_toolbox(node: Node) -> str:
    """Put the image on the node and return its name; skip or fail when a tool is missing."""
    programs = [_found("ss"), _found("conntrack")]
    if not BUSYBOX.exists():
        unavailable("the toolbox needs busybox-static: run `make setup`")
    files = {program: f"/bin/{program.name}" for program in programs}
    for program in programs:
        files |= {library: str(library) for library in _libraries(program)}
    specs = [f"{BUSYBOX}=/bin/busybox", *(f"{file}={place}" for file, place in files.items())]
    specs += [f"/bin/{name}->busybox" for name in APPLETS]
    archive = node.state / "node/images/toolbox.tar"
    packer = [sys.executable, str(SCRIPTS / "images/pack.py"), str(archive), TOOLBOX_IMAGE]
    subprocess.run([*packer, '["/bin/sh"]', *specs], check=True, capture_output=True)
    inside = f"/run/tc/images/{archive.name}"
    base = TOOLBOX_IMAGE.rpartition(":")[0]
    done = node.exec(["ctr", "-n", "k8s.io", "images", "import", "--base-name", base, inside])
    assert done.returncode == 0, done.stderr
    return TOOLBOX_IMAGE


def _found(name: str) -> Path:
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if not found:
        unavailable(f"the toolbox needs {name}: run `make setup`")
    return Path(found)


def _libraries(program: Path) -> list[Path]:
    """What a program is linked to, the loader included."""
    listed = subprocess.run(["ldd", str(program)], check=True, capture_output=True, text=True)
    return [Path(path) for path in re.findall(r"(?:=> )?(/\S+) \(0x", listed.stdout)]
