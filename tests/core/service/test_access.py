"""Who may use which verb: tokens that hold, tokens that do not, and roles."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from responder.errors import BadRequest, Forbidden, NotFound, Unauthorized
from responder.model import Role
from responder.service import Who
from tests.core.engine.bench import BEN, bench
from tests.core.engine.test_driver import MARK, playbook

TEXT = playbook(MARK, mode="approve")
DAY = 86_400


@pytest.mark.parametrize(
    "secret",
    ["", " ", "\0", "rsp_", "rsp_unknown", "ünknown", "a b", "*", "' or 1=1 --"],
)
async def test_what_is_no_token_is_refused(tmp_path: Path, secret: str) -> None:
    """Empty, blank, unknown and odd texts all get the same answer."""
    async with bench(tmp_path, [TEXT]) as b:
        with pytest.raises(Unauthorized):
            await b.app.service.authenticate(secret, "api")


async def test_a_token_is_its_person_until_it_ends(tmp_path: Path) -> None:
    """Made, used, expired; a cut, longer or differently written one never holds."""
    async with bench(tmp_path, [TEXT]) as b:
        made = await b.app.service.token_create(BEN, " dora ", "approver", 1)
        secret = made["secret"]
        who = await b.app.service.authenticate(secret, "api", "10.0.0.1")
        assert (who.person, who.role, who.address) == ("dora", Role.APPROVER, "10.0.0.1")
        for other in (secret[:-1], secret + "x", secret.upper(), secret.swapcase()):
            with pytest.raises(Unauthorized):
                await b.app.service.authenticate(other, "api")

        b.clock.jump(DAY + 1)
        with pytest.raises(Unauthorized):
            await b.app.service.authenticate(secret, "api")


async def test_a_revoked_token_holds_no_longer(tmp_path: Path) -> None:
    """From the moment of the answer."""
    async with bench(tmp_path, [TEXT]) as b:
        made = await b.app.service.token_create(BEN, "dora", "viewer", 1)
        await b.app.service.token_revoke(BEN, made["id"])
        with pytest.raises(Unauthorized):
            await b.app.service.authenticate(made["secret"], "api")
        with pytest.raises(NotFound):
            await b.app.service.token_revoke(BEN, "tok_none")


async def test_a_secret_is_shown_once(tmp_path: Path) -> None:
    """Not in the list, not in the audit, not in the store's file."""
    async with bench(tmp_path, [TEXT]) as b:
        made = await b.app.service.token_create(BEN, "dora", "viewer", 1)
        listed = str(await b.app.service.token_list(BEN))
        audit = str(await b.app.service.audit(BEN))
        assert made["secret"] not in listed + audit
        assert "hash" not in listed
    for file in tmp_path.glob("r.db*"):
        assert made["secret"].encode() not in file.read_bytes()


@pytest.mark.parametrize(
    ("person", "role", "days"),
    [
        ("", "viewer", 1),
        ("  ", "viewer", 1),
        ("a", "root", 1),
        ("a", "viewer", 0),
        ("a", "viewer", 367),
    ],
)
async def test_a_token_without_a_person_a_role_or_an_end_is_not_made(
    tmp_path: Path, person: str, role: str, days: int
) -> None:
    """Every token has somebody behind it and ends within a year."""
    async with bench(tmp_path, [TEXT]) as b:
        with pytest.raises(BadRequest):
            await b.app.service.token_create(BEN, person, role, days)


async def test_nobody_is_anonymous_but_in_the_demo(tmp_path: Path) -> None:
    """The server of a configuration knows no person without a token."""
    async with bench(tmp_path, [TEXT]) as b:
        assert b.app.service.anonymous("api") is None


# verb -> the least role it needs
RULES = {
    "incidents": Role.VIEWER,
    "status": Role.VIEWER,
    "audit": Role.VIEWER,
    "playbooks": Role.VIEWER,
    "start": Role.RESPONDER,
    "note": Role.RESPONDER,
    "pause": Role.RESPONDER,
    "resume": Role.RESPONDER,
    "cancel": Role.RESPONDER,
    "extend": Role.RESPONDER,
    "undo": Role.RESPONDER,
    "evidence_bytes": Role.RESPONDER,
    "decide": Role.APPROVER,
    "token_create": Role.ADMIN,
    "token_list": Role.ADMIN,
    "token_revoke": Role.ADMIN,
}


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("verb", RULES)
async def test_a_verb_is_for_its_role_and_those_above(
    tmp_path: Path, verb: str, role: Role
) -> None:
    """Below it the answer is `Forbidden`, whatever else would be wrong with the request."""
    async with bench(tmp_path, [TEXT]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        hash_ = (await b.step(run, "mark"))["plan_hash"]
        given = {
            "start": ("p", {"thing": "b"}, "why"),
            "note": (1, "seen"),
            "pause": ("why",),
            "resume": ("why",),
            "cancel": (run, "why"),
            "extend": (run, "mark", 60, "why"),
            "undo": (run, "mark", "why"),
            "evidence_bytes": (1, "0" * 64),
            "decide": (run, "mark", True, hash_, "why"),
            "token_create": ("x", "viewer", 1),
            "token_revoke": ("tok_none",),
        }.get(verb, ())
        who = Who(person="dora", role=role, door="test")
        call = getattr(b.app.service, verb)(who, *given)
        answers = await asyncio.gather(call, return_exceptions=True)

        assert isinstance(answers[0], Forbidden) is not role.includes(RULES[verb])
