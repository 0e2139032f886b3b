"""How commands end: the exit code and the shape of the error."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from responder.cli.root import ENTRIES, cli
from responder.errors import Conflict, StoreUnavailable
from tests.adapters.cli.conftest import Run
from tests.adapters.web.fakes import PLAN, RUN, FakeService, run_of, step


def test_an_unknown_command_names_the_nearest(run: Run) -> None:
    """Exit 2, and the four-line shape."""
    result = run("incidnet")
    assert result.exit_code == 2
    assert result.stderr == (
        'error: there is no command "incidnet"\n'
        '  fix   did you mean "incident"?\n'
        "  more  responder --help\n"
    )


def test_a_token_that_does_not_reach_is_4(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown and insufficient alike, each with the way out."""
    monkeypatch.setenv("RESPONDER_TOKEN", "rsp_viewer")
    result = run("pause", "--reason", "x")
    assert result.exit_code == 4
    assert "needs responder" in result.stderr
    monkeypatch.setenv("RESPONDER_TOKEN", "nobody")
    assert run("status").exit_code == 4


def test_what_is_not_there_is_5(run: Run) -> None:
    """An incident, a step."""
    assert run("incident", "show", "43").exit_code == 5
    result = run("approve", "42", "nope", "--yes")
    assert result.exit_code == 5
    assert "evidence, isolate" in result.stderr


def test_a_server_that_does_not_answer_is_6(run: Run) -> None:
    """With the address and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = run("status", "--server", server)
    assert result.exit_code == 6
    assert server in result.stderr
    assert "responder serve" in result.stderr


def test_a_server_that_speaks_no_http_is_6(run: Run) -> None:
    """Rubbish is no answer."""
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x00\x01rubbish\r\n\r\n")

        worker = threading.Thread(target=answer)
        worker.start()
        result = run("status", "--server", f"http://127.0.0.1:{listener.getsockname()[1]}")
        worker.join()
    assert result.exit_code == 6


@pytest.mark.parametrize(
    ("failure", "code"), [(Conflict("it moved"), 1), (StoreUnavailable("disk full"), 1)]
)
def test_a_refusal_is_1_with_the_servers_reason(
    failure: Exception, code: int, run: Run, service: FakeService
) -> None:
    """The text of the problem document, and a hint."""
    service.broken = failure
    result = run("status")
    assert result.exit_code == code
    assert str(failure) in result.stderr
    assert "fix" in result.stderr


def test_the_one_waiting_step_is_approved_by_its_incident(run: Run, service: FakeService) -> None:
    """The plan is shown on stderr, the hash is what was shown."""
    result = run("approve", "42", "--yes", "--reason", "ok")
    assert result.exit_code == 0
    assert "+ NetworkPolicy shop/responder-42" in result.stderr
    assert result.stdout == ""
    assert service.calls[-1] == ("decide", RUN, "isolate", True, PLAN, "ok")


def test_a_hash_that_begins_like_the_plan_means_it(run: Run, service: FakeService) -> None:
    """Four characters are enough, another plan is refused, three are too few."""
    assert run("approve", "@latest", "isolate", "--plan", PLAN[:4]).exit_code == 0
    assert service.calls[-1][0] == "decide"
    for plan in ("ffff", PLAN[:3], PLAN + "0"):
        before = len([call for call in service.calls if call[0] == "decide"])
        assert run("approve", "42", "--plan", plan).exit_code == 1
        assert len([call for call in service.calls if call[0] == "decide"]) == before


def test_nobody_to_ask_is_a_usage_error(run: Run, service: FakeService) -> None:
    """Off a terminal the flag is named and nothing is done."""
    result = run("approve", "42")
    assert result.exit_code == 2
    assert "add --yes" in result.stderr
    assert not [call for call in service.calls if call[0] == "decide"]


def test_a_dry_run_decides_nothing(run: Run, service: FakeService) -> None:
    """The plan is shown, that is all."""
    assert run("approve", "42", "--dry-run").exit_code == 0
    assert run("undo", "42", "isolate", "--dry-run").exit_code == 0
    assert not [call for call in service.calls if call[0] in {"decide", "undo"}]


def test_two_waiting_steps_must_be_named(run: Run, service: FakeService) -> None:
    """A guess could approve the wrong one."""
    twin = step("rebuild", "waiting-approval", plan_hash=PLAN)
    service.incident_row["runs"][0]["steps"].append(twin)
    result = run("approve", "42", "--yes")
    assert result.exit_code == 1
    assert f"{RUN} isolate, {RUN} rebuild" in result.stderr


def test_nothing_to_decide_says_what_is(run: Run, service: FakeService) -> None:
    """Each step with its state."""
    service.incident_row["runs"] = [{**run_of("running"), "steps": [step("isolate", "running")]}]
    result = run("deny", "42", "--yes")
    assert result.exit_code == 1
    assert "isolate is running" in result.stderr


def test_the_other_verbs_find_their_step_too(run: Run, service: FakeService) -> None:
    """Deny, undo, extend, cancel by the incident's number or the run's id."""
    assert run("deny", "42", "--yes").exit_code == 0
    assert service.calls[-1][:4] == ("decide", RUN, "isolate", False)
    assert run("undo", RUN, "isolate", "--yes").exit_code == 0
    assert service.calls[-1][0] == "undo"
    assert run("extend", "42", "--for", "2h").exit_code == 0
    assert service.calls[-1] == ("extend", RUN, "isolate", 7200, "")
    assert run("extend", "42", "--for", "soon").exit_code == 2
    assert run("cancel", "42", "--yes", "--reason", "false alarm").exit_code == 0
    assert service.calls[-1] == ("cancel", RUN, "false alarm")


def test_a_plan_with_changes_is_1(run: Run, service: FakeService) -> None:
    """Like diff: 0 nothing, 1 something, 2 could not be made."""
    result = run("plan", "contain-and-rebuild", "-i", "pod=shop/x", "-i", "n:=[1]")
    assert result.exit_code == 1
    assert service.calls[-1] == ("preview", "contain-and-rebuild", {"pod": "shop/x", "n": [1]})
    assert run("plan", "contain-and-rebuild", "-i", "nonsense").exit_code == 2
    service.broken = Conflict("cannot plan now")
    assert run("plan", "contain-and-rebuild").exit_code == 2


def test_a_run_is_started_once_with_a_key(run: Run, service: FakeService) -> None:
    """A fresh key unless one is given; a dry run starts nothing."""
    assert run("run", "p", "--reason", "seen").exit_code == 0
    name, playbook, inputs, reason, more = service.calls[-1]
    assert (name, playbook, inputs, reason) == ("start", "p", {}, "seen")
    assert more["idempotency_key"].startswith("key_")
    assert run("run", "p", "--key", "k1", "--mode", "observe").exit_code == 0
    assert service.calls[-1][4] == {"mode": "observe", "incident": None, "idempotency_key": "k1"}
    assert run("run", "p", "--dry-run").exit_code == 0
    assert service.calls[-1][0] == "preview"


def test_watching_may_judge_the_end(run: Run, service: FakeService) -> None:
    """3 while a step waits for a person, 1 when it ended badly, 0 when well."""
    assert run("incident", "watch", "42", "--exit-status").exit_code == 3
    service.incident_row["runs"] = []
    assert run("incident", "watch", "42", "--exit-status").exit_code == 1
    service.incident_row["status"] = "resolved"
    assert run("incident", "watch", "42", "--exit-status").exit_code == 0


def test_watching_ends_at_its_deadline(run: Run, service: FakeService) -> None:
    """3, although the story goes on and nothing more is said."""
    import asyncio

    service.live = asyncio.Event()
    started = time.monotonic()
    result = run("incident", "watch", "42", "--timeout", "1s")
    assert result.exit_code == 3
    assert time.monotonic() - started > 0.9  # it ends at all: nothing else would end it


def test_the_plan_of_an_incident_is_the_one_that_waits(run: Run, service: FakeService) -> None:
    """Not that of a step that is done."""
    service.incident_row["runs"][0]["steps"][0]["plan_hash"] = "aaaa"
    result = run("plan", "42")
    assert result.stdout.startswith("+ NetworkPolicy")
    assert service.calls[-1] == ("plan", RUN, "isolate")
    assert run("plan", "42", "evidence").stderr.startswith("plan ")
    assert service.calls[-1] == ("plan", RUN, "evidence")


def test_an_alert_is_sent_with_the_hooks_own_secret(
    run: Run, service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file or the environment; never the API token."""
    payload = tmp_path / "alert.json"
    payload.write_bytes(b'{"rule":"x"}')
    assert run("alert", "send", str(payload), "--hook", "falco").exit_code == 4
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    args = ("alert", "send", str(payload), "--hook", "falco", "--secret-file", str(secret))
    assert run(*args).exit_code == 0
    monkeypatch.setenv("RESPONDER_HOOK_SECRET", "s3cret")
    piped = run("alert", "send", "-", "--hook", "falco", "-o", "name", input=b"{}")
    assert (piped.exit_code, piped.stdout) == (0, "alr_1\n")
    assert service.bodies == [b'{"rule":"x"}', b"{}"]


def test_a_token_comes_from_a_file(run: Run, tmp_path: Path) -> None:
    """The file wins over the environment; one that holds rubbish is a usage error."""
    file = tmp_path / "token"
    file.write_text("rsp_viewer\n")
    assert run("pause", "--reason", "x", "--token-file", str(file)).exit_code == 4
    file.write_text("two words\n")
    assert run("status", "--token-file", str(file)).exit_code == 2
    assert run("status", "--token-file", str(tmp_path / "none")).exit_code == 2


@pytest.mark.parametrize("name", ENTRIES)
def test_every_command_explains_itself(name: str) -> None:
    """`--help` of each command and of each below it ends with 0."""
    runner = CliRunner()
    assert runner.invoke(cli, [name, "--help"]).exit_code == 0
    command = cli.get_command(None, name)  # type: ignore[arg-type]
    for below in getattr(command, "commands", {}):
        assert runner.invoke(cli, [name, below, "--help"]).exit_code == 0


def test_init_writes_once_and_for_its_owner_only(tmp_path: Path) -> None:
    """Observe mode, a secret by reference, nothing replaced."""
    runner = CliRunner()
    folder = tmp_path / "new"
    assert runner.invoke(cli, ["init", str(folder), "--kubeconfig", "/k"]).exit_code == 0
    assert {path.name for path in folder.iterdir()} == {"config.toml", "hook-falco.secret"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    before = (folder / "hook-falco.secret").read_text()
    again = runner.invoke(cli, ["init", str(folder)])
    assert again.exit_code == 2
    assert (folder / "hook-falco.secret").read_text() == before
    shown = runner.invoke(cli, ["config", "show", "--origin", "-c", str(folder / "config.toml")])
    assert shown.exit_code == 0, shown.output
    assert 'guards.mode = "observe"' in shown.stdout
    assert before.strip() not in shown.output


def test_a_mistake_in_the_configuration_is_2(tmp_path: Path) -> None:
    """With the line and the nearest key."""
    file = tmp_path / "config.toml"
    file.write_text('[server]\nlisten_at = "x"\n')
    result = CliRunner().invoke(cli, ["config", "show", "-c", str(file)])
    assert result.exit_code == 2
    assert f"{file}:2" in result.stderr
    assert "listen" in result.stderr


def _process(*args: str) -> list[str]:
    return [sys.executable, "-m", "responder", *args]


def test_help_is_fast() -> None:
    """Of ten starts: the bound is generous and for the work done, whoever else has the machine."""
    took, worked = [], []
    for _ in range(10):
        started, before = time.perf_counter(), os.times()
        subprocess.run(_process("--help"), check=True, capture_output=True)
        took.append(time.perf_counter() - started)
        after = os.times()
        worked.append(after.children_user + after.children_system)
        worked[-1] -= before.children_user + before.children_system
    print(f"--help: median {statistics.median(took) * 1000:.0f} ms (aim 120)")
    assert min(worked) < 0.25


def test_help_imports_nothing_heavy() -> None:
    """What makes it slow would be one of these."""
    code = (
        "import sys\nfrom responder.cli.root import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "heavy = {'aiohttp','pydantic','rich','kubernetes','asyncio','ssl','http.client','yaml'}\n"
        "sys.exit(1 if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_a_pipe_that_closes_is_no_traceback(url: str) -> None:
    """`responder … | head` must stay quiet."""
    env = {**os.environ, "RESPONDER_SERVER": url, "RESPONDER_TOKEN": "rsp_admin"}
    command = f"{sys.executable} -m responder incident list -o json | true"
    done = subprocess.run(
        ["bash", "-c", command], env=env, capture_output=True, text=True, check=True
    )
    assert "Traceback" not in done.stderr


# a program that was started in the background of a shell ignores the interrupt, and its children do
_HEARS_INTERRUPTS = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


def test_interrupting_a_watch_is_130(url: str, service: FakeService) -> None:
    """The run goes on, and the way back is said."""
    import asyncio

    service.live = asyncio.Event()
    env = {**os.environ, "RESPONDER_SERVER": url, "RESPONDER_TOKEN": "rsp_admin"}
    watch = _process("incident", "watch", "42")
    child = subprocess.Popen(
        [sys.executable, "-c", _HEARS_INTERRUPTS, *watch[1:]],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        assert child.stdout.readline().startswith("12:04:01Z")
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130
        said = child.stderr.read()
    assert "the run goes on" in said
    assert "Traceback" not in said
