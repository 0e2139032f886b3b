"""Canary secrets in every place that can hold one, and a search through all that comes out."""

import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from integrations._webhook import Guard
from integrations.falco import Falco
from responder.clock import World
from responder.model import Alert
from responder.ports import HookInfo, Integration
from responder.sandbox.access import Subject
from responder.sandbox.world import SandboxWorld
from responder.web.app import listening, make_app
from responder.wiring import App, build
from responder.wiring.sandboxed import sandbox_settings
from tests.journeys.hostile_canaries import Finder, canary, core, forms
from tests.journeys.hostile_echo import echoing
from tests.journeys.hostile_hooks import HOOKS, SECRETS, SENDERS, encoded
from tests.journeys.hostile_server import Serving, run, served
from tests.journeys.hostile_walk import look_at_processes, told, walk
from tests.journeys.real import Door, Hosted, Story, hosted
from tests.real.waiting import wait_until

MERGE = "application/merge-patch+json"
ROLES = ("viewer", "responder", "approver", "admin")
OUTSIDE = {name: canary(name) for name in ("CLUSTER", "REGISTRY", "UNRELATED", "WRONG")}
WORKLOAD = {
    name: canary(name)
    for name in ("POD_PASSWORD", "POD_URL", "POD_ARGUMENT", "APPLIED", "K8S_SECRET")
}
ENVIRONMENT = {**SECRETS, **{name: OUTSIDE[name] for name in ("CLUSTER", "UNRELATED")}}
HELD_BY_US = {"registry-password", "app.pem"}  # files that the configuration names


def finder(**more: str) -> Finder:
    """Looks for every canary, and for what else a test has learnt."""
    return Finder({**SECRETS, **OUTSIDE, **WORKLOAD, **more})


def private_key(folder: Path) -> str:
    """A key of a GitHub App in a file; a line out of its middle, to be looked for."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "app.pem").write_bytes(pem)
    return pem.decode().splitlines()[10]


def config(folder: Path, places: Mapping[str, str], log: str) -> str:
    """Everything that can hold a secret holds a canary; the log says all it can."""
    (folder / "registry-password").write_text(OUTSIDE["REGISTRY"] + "\n", encoding="utf-8")
    return f"""
[log]
level = "debug"
format = "{log}"
[guards]
mode = "enforce"
[clusters.sandbox]
api = "{places["cluster"]}"
token = {{env = "CLUSTER"}}
[forges.github]
base_url = "{places["forge"]}"
token = {{env = "FORGE"}}
poll = 0.1
settle = 1
[forges.app]
base_url = "{places["forge"]}"
app_id = 7
private_key = {{file = "{folder}/app.pem"}}
installation_id = 8
[registries."{places["registry"]}"]
insecure = true
username = "robot"
password = {{file = "{folder}/registry-password"}}
[[images]]
match = "{places["registry"]}/*"
forge = "github"
repo = "{places["repo"]}"
workflow = "{places["workflow"]}"
[playbooks]
shipped = ["contain-and-rebuild"]
{HOOKS}"""


# --------------------------------------------------------------------------- a world with secrets


@contextmanager
def sandbox() -> Iterator[Hosted[SandboxWorld]]:
    """A rehearsal world that knows our account, in it a workload that carries secrets."""
    tokens = {OUTSIDE["CLUSTER"]: Subject(name="responder")}
    with hosted(lambda: SandboxWorld(tokens=tokens)) as world:
        plant(world)
        yield world


def plant(world: Hosted[SandboxWorld]) -> None:
    """Put a Secret, secret variables and kubectl's annotation into the cluster."""
    cluster = Door(world.value.cluster_url, OUTSIDE["CLUSTER"])
    old = world.look(lambda it: it.pod()["metadata"]["name"])
    text = {"password": WORKLOAD["K8S_SECRET"]}
    cluster.post("/api/v1/namespaces/shop/secrets", {"metadata": {"name": "db"}, "data": text})
    path = "/apis/apps/v1/namespaces/shop/deployments/cart"
    found = cluster.get(path)
    container = {
        **found["spec"]["template"]["spec"]["containers"][0],
        "args": ["serve", f"--db-password={WORKLOAD['POD_ARGUMENT']}"],
        "env": [
            {"name": "DB_PASSWORD", "value": WORKLOAD["POD_PASSWORD"]},
            {"name": "DATABASE_URL", "value": f"postgres://cart:{WORKLOAD['POD_URL']}@db/cart"},
        ],
    }
    applied = json.dumps({"spec": {"env": [{"value": WORKLOAD["APPLIED"]}]}})
    note = {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied}}
    body = {
        "metadata": note,
        "spec": {"template": {"metadata": note, "spec": {"containers": [container]}}},
    }
    status, answer, _ = cluster.ask("PATCH", path, body, kind=MERGE)
    assert status == 200, answer

    def rolled() -> bool:
        pods = world.look(lambda it: [it.pod(n)["metadata"]["name"] for n in range(3)])
        return old not in pods and all(world.look(carries) for carries in (_carries,))

    wait_until(rolled, "the pods that carry secrets")


def _carries(world: SandboxWorld) -> bool:
    return all(WORKLOAD["POD_URL"] in json.dumps(world.pod(place)) for place in range(3))


def doors(serving: Serving, secret: str) -> dict[str, Door]:
    """A token for each role; the answers that show them are the only ones left out."""
    admin = Door(serving.url, secret)
    made = {
        role: admin.post("/v1/tokens", {"person": f"{role} person", "role": role, "days": 1})
        for role in ROLES
    }
    return {role: Door(serving.url, answer["secret"]) for role, answer in made.items()}


def first_token(folder: Path, text: str) -> str:
    """The administrator's token, made beside the store before the server starts."""
    (folder / "config.toml").write_text(
        f'[store]\nurl = "sqlite:///{folder}/responder.db"\n{text}', encoding="utf-8"
    )
    made = run(folder, ENVIRONMENT, "token", "create", "--local", "--person", "root",
               "--role", "admin", "--config", "config.toml")  # fmt: skip
    assert made.returncode == 0, made.stderr
    secret = made.stdout.decode().strip()
    assert secret.startswith("rsp_")
    assert secret not in made.stderr.decode()
    return secret


def wrong_credentials(serving: Serving, look: Finder) -> None:
    """A secret of somebody else at every hook and at the API: refused, and not repeated."""
    wrong = OUTSIDE["WRONG"]
    for hook in SENDERS:
        for kind in ("Bearer", "Basic"):
            body = {"routing_key": wrong} if hook == "pagerduty-key" else {"rule": "x"}
            _post(serving, hook, {"Authorization": f"{kind} {wrong}"}, body, look)
        names = ("X-Key", "X-Signature", "X-Signed", "X-Hub-Signature-256", "X-Time")
        _post(serving, hook, dict.fromkeys(names, wrong), {"rule": "x"}, look)
    for path in ("/v1/status", f"/v1/runs/{core(wrong)}"):
        status, body, headers = Door(serving.url, wrong).ask("GET", path)
        assert status == 401
        look.look(f"a refusal of {path}", f"{body} {headers}")


def _post(
    serving: Serving, hook: str, headers: Mapping[str, str], body: object, look: Finder
) -> tuple[int, Any]:
    import http.client
    from urllib.parse import urlsplit

    link = http.client.HTTPConnection(urlsplit(serving.url).netloc, timeout=30)
    sent = {"Content-Type": "application/json", **headers}
    link.request("POST", f"/v1/hooks/{hook}", encoded(body), sent)
    answer = link.getresponse()
    raw = answer.read()
    link.close()
    look.look(f"POST to {hook}: {answer.status}", raw)
    return answer.status, json.loads(raw)


def alarm(serving: Serving, body: object, look: Finder) -> int:
    """An authentic Falco event; its incident."""
    proof = SENDERS["falco-header"].prove(b"")
    status, answer = _post(serving, "falco-header", proof, body, look)
    assert status == 202
    return int(answer["alerts"][0]["incident"])


def commands(serving: Serving, door: Door, number: int, look: Finder) -> None:
    """What a person would ask at a terminal, with a good token, a wrong one, and with none."""
    asked = (
        ["status"],
        ["incident", "list", "-o", "json"],
        ["incident", "show", str(number), "-o", "yaml"],
        ["incident", "export", str(number)],
        ["evidence", "list", str(number)],
        ["evidence", "export", str(number), "kept"],
        ["audit", "list", "-o", "json"],
        ["token", "list", "-o", "json"],
        ["doctor", "--config", "config.toml"],
        ["config", "show", "--config", "config.toml", "--origin"],
        ["config", "show", "--config", "config.toml", "-o", "json"],
        ["config", "show", "--config", "config.toml", "-o", "yaml"],
    )
    for arguments in asked:
        for token in (door.token, OUTSIDE["WRONG"]):
            secrets = {**ENVIRONMENT, "RESPONDER_TOKEN": token, "RESPONDER_SERVER": serving.url}
            done = run(serving.folder, secrets, *arguments)
            look.look(f"{' '.join(arguments)}: {done.returncode}", told(done))
            assert b"Traceback" not in done.stderr, done.stderr.decode()


def search(serving: Serving, people: Mapping[str, Door], look: Finder) -> None:
    """Every GET of every role, the processes, then, ended, everything that is on disk."""
    for role, door in people.items():
        assert walk(door, role, look) > 10
    look_at_processes(serving.process.pid, look)
    assert serving.stop() == 0
    look.look_at_files(serving.folder, HELD_BY_US)


# --------------------------------------------------------------------------- the facts


@pytest.mark.timeout(120)
@pytest.mark.parametrize("log", ["json", "text"])
def test_no_secret_comes_out_of_a_whole_journey(log: str, tmp_path: Path) -> None:
    """Alert to patched redeploy with debug logs: no canary in any log, answer, file or argument."""
    pem = private_key(tmp_path)
    with sandbox() as world:
        places = json.loads(world.value.addresses())
        text = config(tmp_path, places, log)
        root = first_token(tmp_path, text)
        with served(tmp_path, text, ENVIRONMENT) as serving:
            people = doors(serving, root)
            tokens = {f"token of {role}": door.token for role, door in people.items()}
            look = finder(pem=pem, root=root, **tokens)
            wrong_credentials(serving, look)
            number = alarm(serving, world.look(SandboxWorld.falco_alert), look)
            story = Story(people["approver"], number)
            for step in ("isolate", "rebuild", "redeploy", "remove"):
                story.approve(step, people["approver"])
                look_at_processes(serving.process.pid, look)
            story.ended()
            commands(serving, people["admin"], number, look)
            search(serving, people, look)
    doctor = run(tmp_path, ENVIRONMENT, "doctor", "--config", "config.toml")
    look.look("doctor, with everything down", told(doctor))
    assert doctor.returncode == 1
    kept = b"".join(path.read_bytes() for path in (tmp_path / "kept").iterdir())
    assert b"DB_PASSWORD" in kept, "the evidence that was searched is about the planted workload"
    assert kept.count(b"(redacted)") >= 6
    report(look)


@pytest.mark.timeout(120)
def test_no_secret_comes_out_when_others_refuse_and_repeat_it(tmp_path: Path) -> None:
    """Cluster 403, registry 401 and forge 422 echo credential and workload secrets: 0 hits."""
    pem = private_key(tmp_path)
    with sandbox() as world, echoing(WORKLOAD["K8S_SECRET"]) as echo:
        event = world.look(SandboxWorld.falco_alert)
        places = json.loads(world.value.addresses())
        places |= {"cluster": echo.url, "forge": echo.url, "registry": echo.url[7:]}
        text = config(tmp_path, places, "json")
        root = first_token(tmp_path, text)
        with served(tmp_path, text, ENVIRONMENT) as serving:
            people = doors(serving, root)
            tokens = {f"token of {role}": door.token for role, door in people.items()}
            look = finder(pem=pem, root=root, **tokens)
            number = alarm(serving, event, look)
            steps = Story(people["admin"], number)
            wait_until(lambda: "403" in json.dumps(steps.incident()), "the cluster's refusal")
            commands(serving, people["admin"], number, look)
            search(serving, people, look)
        doctor = run(tmp_path, ENVIRONMENT, "doctor", "--config", "config.toml")
        look.look("doctor", told(doctor))
        assert echo.asked == {"cluster", "registry", "forge"}
        assert doctor.returncode == 1
    report(look)


def report(look: Finder) -> None:
    """Say how much was searched; fail with the places of what was found."""
    print(f"\n{look.outputs} outputs, {look.bytes / 1e6:.1f} MB searched, {len(look.hits)} hits")
    assert not look.hits, "\n".join(look.hits[:20])


# --------------------------------------------------------------------------- the search itself


class Gossip(Falco):
    """A source with one leak: it puts its hook's secret into the alert."""

    def parse(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[Alert]:
        """What Falco's source makes of it, and the secret for a summary."""
        secret = hook.auth["bearer"].reveal()
        return [replace(one, summary=secret) for one in super().parse(headers, body, hook)]


@dataclass(frozen=True)
class Planted:
    """A server with the leak in it."""

    app: App
    url: str


@asynccontextmanager
async def planted(folder: Path, places: Mapping[str, str]) -> AsyncIterator[Planted]:
    """The server beside a sandbox, its Falco source replaced by the one that talks."""
    auth = {"bearer": {"env": "SANDBOX_TOKEN"}}
    hooks = {"falco-sandbox": {"source": "falco", "cluster": "sandbox", "auth": auth}}
    settings = sandbox_settings(places, folder, hooks=hooks)
    leak = Integration(sources=[Gossip(Guard(World()))])
    async with (
        build(settings, extra=[leak], anonymous=True) as app,
        listening(make_app(app.service), "127.0.0.1", 0) as url,
    ):
        yield Planted(app, url)


def test_the_search_finds_a_leak_that_was_planted(tmp_path: Path) -> None:
    """One secret in one alert's summary is seen in the API's answers and in the store's files."""
    look = Finder({"planted": "sandbox-token"})
    with hosted(SandboxWorld) as world:
        places = json.loads(world.value.addresses())
        with hosted(lambda: planted(tmp_path, places)) as server:
            event = world.look(SandboxWorld.falco_alert)
            door = Door(server.value.url)
            status, _, _ = door.ask("POST", "/v1/hooks/falco-sandbox", event, token="sandbox-token")
            assert status == 202
            walk(door, "nobody", look)
        look.look_at_files(tmp_path)
    assert any("GET /v1/incidents/1/alerts" in hit for hit in look.hits), look.hits
    assert any("file responder.db" in hit for hit in look.hits), look.hits


@pytest.mark.parametrize("shift", range(3))
def test_the_search_sees_through_encodings(shift: int) -> None:
    """Base64 at every alignment, hex, URL and JSON escapes: each is one hit."""
    import base64
    from urllib.parse import quote

    secret = canary("ANY")
    shown = [
        base64.b64encode(b"x" * shift + secret.encode() + b"tail").decode(),
        base64.urlsafe_b64encode(b"user:"[:shift] + secret.encode()).decode(),
        secret.encode().hex(),
        quote(secret, safe=""),
        json.dumps({"a": secret}).replace("/", "\\/"),
    ]
    for text in shown:
        look = Finder({"any": secret})
        look.look("here", text)
        assert len(look.hits) == 1, text
    assert len(forms(secret)) >= 5
    assert core(secret) in secret
    assert os.urandom(24).hex() not in shown
