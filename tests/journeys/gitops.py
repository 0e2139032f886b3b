"""The world of GitOps around a journey: a repository, Argo CD, Flux, and hands that play them.

Forge and Argo CD are doubles whose every request and answer is checked. What their controllers and
Flux's do in a cluster is done by hands on the real API server: whatever a commit says in a file is
put into the Deployment that the file is for, and nothing else ever writes there.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field

from tests.adapters.flux.cluster import Flux
from tests.doubles import argocd, github
from tests.doubles.argocd import App, ArgoDouble
from tests.doubles.github_pulls import Pulls
from tests.doubles.gitstore import MAIN, GitStore
from tests.real.cluster import ControlPlane

IMAGE = "registry.test/shop/cart"
# a Deployment -> the file that says its image
FILES = {
    "argo": "apps/argo.yaml",
    "auto": "apps/auto.yaml",
    "flux": "apps/flux.yaml",
    "helm": "helm/values.yaml",
}
CONFIG = """
[[images]]
match = "registry.test/shop/cart"
forge = "github"
repo = "acme/shop"
workflow = "rebuild.yml"
{changes}
[forges.github]
base_url = "{forge}"
token = {{env = "FORGE_TOKEN"}}
poll = 0.3
settle = 1
[argocd.main]
url = "{argo}"
token = {{env = "ARGO_TOKEN"}}
poll = 0.3
settle = 2
"""
CHANGE = """
[[images.changes]]
name = "{name}"
repo = "acme/deploy"
file = "{file}"
kind = "{kind}"
workloads = ["prod/*/Deployment/{name}"]
"""


class Brought(dict[str, str]):
    """For Argo CD's double: the image that a commit says in a file."""

    def __init__(self, outside: Outside, file: str) -> None:
        super().__init__()
        self._outside, self._file = outside, file

    def get(self, revision: str, default: str = "") -> str:  # type: ignore[override]
        """The image at a revision, the old one where it is none of the repository's."""
        return self._outside.image_at(revision, self._file) or default


@dataclass
class Outside:
    """The repository, the forge that holds it, and Argo CD."""

    old: str  # digest
    forge: github.GitHubDouble = field(init=False)
    argo: ArgoDouble = field(init=False)
    pulls: Pulls = field(init=False)

    def __post_init__(self) -> None:
        """Commit the files that name the vulnerable image."""
        manifest = f"spec:\n  containers:\n    - name: main\n      image: {IMAGE}@{self.old}\n"
        values = f"cart:\n  image:\n    repository: {IMAGE}\n    digest: {self.old}\n"
        files = {file: values if "values" in file else manifest for file in FILES.values()}
        self.pulls = Pulls(git=GitStore(files=files))

    @property
    def head(self) -> str:
        """The newest commit of the main branch."""
        return self.pulls.git.branches[MAIN]

    def image_at(self, revision: str, file: str) -> str:
        """The image that a file says at a commit."""
        text = self.pulls.git.commits.get(revision, {}).get(file, "")
        found = re.search(r"sha256:[0-9a-f]{64}", text)
        return f"{IMAGE}@{found.group()}" if found else ""

    def app(self, name: str, namespace: str, **more: object) -> None:
        """Let Argo CD have an application with the Deployment of the same name."""
        made = App(name=name, objects=[("apps", "Deployment", namespace, name)], **more)  # type: ignore[arg-type]
        made.images = Brought(self, FILES[name])
        self.argo.apps[name] = made

    def config(self) -> str:
        """The product's settings for all of it."""
        changes = "".join(
            CHANGE.format(name=name, file=file, kind="values" if "values" in file else "manifest")
            + ('key = "cart.image.digest"\n' if "values" in file else "")
            for name, file in FILES.items()
        )
        return CONFIG.format(changes=changes, forge=self.forge.base_url, argo=self.argo.url)

    def secrets(self) -> Mapping[str, str]:
        """What the settings name."""
        return {"FORGE_TOKEN": self.forge.token, "ARGO_TOKEN": self.argo.token}


@contextlib.asynccontextmanager
async def outside(old: str) -> AsyncIterator[Outside]:
    """Serve forge and Argo CD; at the end their requests and answers must all have been right."""
    made = Outside(old)
    async with github.running(parts=(made.pulls,)) as forge, argocd.running() as argo:
        made.forge, made.argo = forge, argo
        yield made
        assert forge.wrong_requests == []
        assert forge.wrong_answers == []
        assert argo.wrong_requests == []
        assert argo.wrong_answers == []


@contextlib.contextmanager
def hands(plane: ControlPlane, namespace: str, world: Outside) -> Iterator[None]:
    """Play the controllers for the length of a block."""
    ended = threading.Event()
    faults: list[Exception] = []
    flux = Flux(plane, namespace)

    def play() -> None:
        seen = {"flux": ""}
        while not ended.wait(0.2):
            try:
                _by_argo(plane, namespace, world)
                _by_flux(plane, namespace, world, flux, seen)
                _put(plane, namespace, "helm", world.image_at(world.head, FILES["helm"]))
            except Exception as error:  # noqa: BLE001 - raised where the block ends
                faults.append(error)
                return

    thread = threading.Thread(target=play, name="hands", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)
    assert not faults, faults


def _by_argo(plane: ControlPlane, namespace: str, world: Outside) -> None:
    """What is synced gets into the cluster; one with auto-sync follows the main branch."""
    for name, app in list(world.argo.apps.items()):
        if app.automated is not None and app.revision != world.head and not app.playing:
            app.ask({"sync": {"revision": world.head}, "initiatedBy": {"automated": True}})
        _put(plane, namespace, name, world.image_at(app.revision, FILES[name]))


def _by_flux(
    plane: ControlPlane, namespace: str, world: Outside, flux: Flux, seen: dict[str, str]
) -> None:
    """Flux looks when it is asked: fetches the main branch and applies it."""
    asked = flux.asked("Kustomization")
    if not asked or asked == seen["flux"]:
        return
    seen["flux"] = asked
    _put(plane, namespace, "flux", world.image_at(world.head, FILES["flux"]))
    flux.bring(world.head)


def _put(plane: ControlPlane, namespace: str, name: str, image: str) -> None:
    """Give a Deployment an image, where it has another."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
    item = plane.must("GET", path)
    container = item["spec"]["template"]["spec"]["containers"][0]
    if image and container["image"] != image:
        container["image"] = image
        plane.request("PUT", path, item)  # a version that moved: the next round does it
