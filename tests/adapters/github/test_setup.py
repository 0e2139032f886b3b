"""The forge's tables are checked when they are read, and every thread talks for itself."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from integrations.github import setup
from integrations.github.client import Forge
from integrations.github.runs import correlation_id, titles
from integrations.github.settings import read
from responder.clock import World
from responder.errors import ConfigError
from responder.model import Secret
from responder.ports import ImageRoute, Kit
from tests.adapters.github.world import NoEvidence
from tests.doubles.github import in_thread

TOKEN = Secret("canary-token")

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"token": "canary-plain"}, r"\[forges.github\] token: Input should be an instance of Secret"),
    ({}, "expected token, or app_id, private_key and installation_id together"),
    ({"token": TOKEN, "app_id": 7}, "got both"),
    ({"app_id": 7, "private_key": TOKEN}, "together"),
    ({"token": TOKEN, "base_ur": "x"}, r"\[forges.github\] base_ur: Extra inputs"),
    ({"token": TOKEN, "base_url": "http://github.example"}, "expected https"),
    ({"token": TOKEN, "base_url": "https://me:canary@github.example"}, "without user name"),
    ({"token": TOKEN, "poll": 0}, r"\[forges.github\] poll"),
    ({"token": TOKEN, "kind": "gitlab"}, r"\[forges.github\] kind"),
]


@pytest.mark.parametrize(("table", "text"), WRONG)
def test_a_wrong_table_names_the_key_and_shows_no_value(table: dict[str, Any], text: str) -> None:
    """A secret written out in the file is refused without being shown."""
    with pytest.raises(ConfigError, match=text) as caught:
        read("github", table)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"forge": "githib"}, r'no \[forges.githib\] of kind github; did you mean "github"'),
        ({"repo": "shop"}, "repo: expected OWNER/NAME"),
        ({"inputs": {"correlation_id": "x"}}, "inputs: correlation_id are set by pipeline.run"),
        ({"inputs": {f"i{n}": "" for n in range(23)}}, "at most 25 in all"),
    ],
)
def test_a_wrong_route_is_found_when_the_configuration_is_read(
    change: dict[str, Any], text: str
) -> None:
    """A route that could never work is an error at start, not in an incident."""
    values = {"match": "*", "forge": "github", "repo": "a/b", "workflow": "w.yml", **change}
    kit = Kit(evidence=NoEvidence(), images=(ImageRoute(**values),))
    with pytest.raises(ConfigError, match=text):
        setup({"github": {"token": TOKEN}}, World(), kit)


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Let threads change places after every few instructions, so that shared state shows."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


async def test_eight_threads_never_send_each_others_request(eager_threads: None) -> None:
    """Each of 400 answers is the one asked for, and no two threads share a client.

    Sharing one shows as a swapped request only in some thousand calls, so it is asked for too.
    """
    with in_thread() as double:
        table = {"base_url": double.base_url, "token": Secret(double.token), "threads": 8}
        forge = Forge("github", read("github", {**table, "timeout": 60}), World())
        try:
            names = [correlation_id(str(n), 1) for n in range(20)]
            sent = {"image": "registry.example/shop/cart", "revision": ""}
            ids = await asyncio.gather(
                *(
                    forge.dispatch(
                        "acme/shop", "rebuild.yml", "main", {**sent, "correlation_id": name}
                    )
                    for name in names
                )
            )
            looks = [(run, name) for run, name in zip(ids, names, strict=True)] * 19
            seen = []
            for part in range(0, len(looks), 60):  # the queue before the pool is bounded
                batch = [forge.run("acme/shop", run) for run, _ in looks[part : part + 60]]
                seen += await asyncio.gather(*batch)
            for (run, name), found in zip(looks, seen, strict=True):
                assert (found.id, titles(found.title)) == (run, [name])
            assert all(times == 1 for times in double.dispatches.values())
            assert len(double.dispatches) == 20
            barrier = threading.Barrier(8, timeout=20)

            def own() -> int:
                barrier.wait()  # all eight threads are here at once
                return id(forge._api())

            clients = await asyncio.gather(*(forge.caller.blocking("meet", own) for _ in range(8)))
            assert len(set(clients)) == 8
        finally:
            forge.close()
        assert double.wrong_requests == []


async def test_the_double_runs_as_a_process_of_its_own() -> None:
    """It prints its address and serves whoever has the token."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.doubles.github", "0", "t0k"), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout
        url = (await child.stdout.readline()).decode().strip()
        forge = Forge("github", read("github", {"base_url": url, "token": Secret("t0k")}), World())
        sent = {"image": "registry.example/shop/cart", "correlation_id": correlation_id("x", 1)}
        assert await forge.dispatch("acme/shop", "rebuild.yml", "main", sent) == 4711
        forge.close()
    finally:
        child.terminate()
        await child.wait()
