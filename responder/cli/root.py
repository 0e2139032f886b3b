"""The table of commands, and how the process ends."""

from __future__ import annotations

import errno
import os
import sys

import click

from responder.cli._errors import FAILED, INTERRUPTED
from responder.cli._group import Lazy

__all__ = ["cli", "run"]

ENTRIES = {
    "demo": ("demo:demo", "See one alert become a patched redeploy, on this machine alone."),
    "init": ("init:init", "Write a first configuration, in observe mode."),
    "doctor": ("doctor:doctor", "Check configuration, store, rights and reach."),
    "serve": ("serve:serve", "Run the server."),
    "status": ("status:status", "The server in one look."),
    "incident": ("incident:incident", "List, show, watch, tail, export, note."),
    "alert": ("alert:alert", "Send an alert, or explain what one would start."),
    "hook": ("hook:hook", "List the hooks, test one."),
    "run": ("runs:run", "Start a playbook by hand."),
    "plan": ("runs:plan", "Show what a playbook, or a waiting step, would change."),
    "approve": ("deciding:approve", "Say yes to a waiting plan."),
    "deny": ("deciding:deny", "Say no to a waiting plan."),
    "undo": ("deciding:undo", "Take back what a step applied."),
    "extend": ("deciding:extend", "Give a wait more time."),
    "cancel": ("deciding:cancel", "End a run; what it applied stays until undone."),
    "pause": ("status:pause", "Hold every new change, everywhere."),
    "resume": ("status:resume", "Let changes go on."),
    "playbook": ("playbook:playbook", "List, show, lint, test, schema, graph."),
    "rehearse": ("rehearse:rehearse", "Run a playbook against a rehearsal world."),
    "rbac": ("rbac:rbac", "The Kubernetes roles that playbooks need, and no more."),
    "evidence": ("evidence:evidence", "List, show, verify, export."),
    "audit": ("audit:audit", "Who did what; verify the chain."),
    "token": ("token:token", "Create, list, revoke API tokens."),
    "store": ("store:store", "Check, back up, restore the store."),
    "config": ("config:config", "Show the configuration and where each value comes from."),
    "version": ("misc:version", "The version."),
    "completion": ("misc:completion", "Shell completion for bash, zsh, fish."),
}

cli = Lazy(
    name="responder",
    entries=ENTRIES,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""Turn a runtime alert into a contained, evidenced, rebuilt workload.

    \b
    responder demo                          see it work, nothing else needed
    responder incident show @latest         what happened
    responder approve 42                    read the plan, say yes
    responder pause --reason "CNI upgrade"  hold every new change
    """,
    epilog="Server: --server or RESPONDER_SERVER. Token: --token-file or RESPONDER_TOKEN.",
)


def run() -> None:
    """Run the command line and end the process."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as failure:
        failure.show()
        sys.exit(failure.exit_code)
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except OSError as failure:
        if failure.errno != errno.EPIPE:
            raise
        # whoever read the output has gone (`| head`); Python must not complain when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    sys.exit(code if isinstance(code, int) else 0)
