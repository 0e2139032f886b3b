"""Run the server: build the parts, open the door, drain when told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from responder.cli import _options as options
from responder.cli._errors import USAGE, CliError
from responder.cli._output import say
from responder.errors import ResponderError

if TYPE_CHECKING:
    import ssl

    from responder.settings import Settings
    from responder.wiring import App

__all__ = ["address", "serve"]

_FILES = 4096
_YOUNG = 10_000  # new objects between two looks of the garbage collector
_PORT_MAX = 65_535


@click.command()
@options.local_config
@click.option("--listen", default="", help="host:port, instead of server.listen.")
def serve(config: Path | None, listen: str) -> None:
    """Take alerts until SIGTERM; SIGHUP reloads the playbooks, all of them or none."""
    from responder import logs
    from responder.cli import _offline

    flags = {"server.listen": listen} if listen else {}
    settings = _offline.settings(config, flags)
    logs.set_up(settings.log.level, settings.log.format)
    _raise_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings, config, flags))


async def _serve(settings: Settings, config: Path | None, flags: Mapping[str, str]) -> None:
    from responder import wiring
    from responder.settings import seconds
    from responder.web.app import Limits, make_app
    from responder.web.app import serve as listen

    host, port = address(settings.server.listen)
    limits = Limits(
        connections=settings.server.max_connections,
        grace_seconds=seconds(settings.server.drain, "server.drain"),
    )
    async with wiring.build(settings) as app:
        _settle_memory()
        with _reloading(app, config, flags):
            try:
                await listen(
                    make_app(app.service, limits=limits),
                    host,
                    port,
                    ssl=_tls(settings),
                    limits=limits,
                    started=lambda url: say(f"listening at {url}"),
                )
            except OSError as failure:
                raise CliError(
                    f"cannot listen at {settings.server.listen}",
                    code=USAGE,
                    why=failure.strerror or str(failure),
                    fix="end what listens there, or --listen another address",
                ) from None
        say("draining: calls in flight end, the rest waits on disk")


@contextlib.contextmanager
def _reloading(app: App, config: Path | None, flags: Mapping[str, str]) -> Iterator[None]:
    """SIGHUP puts new playbooks in force, or says why the old ones stay."""
    from responder.cli import _offline

    def reload() -> None:
        try:
            app.reload(_offline.settings(config, flags))
        except ResponderError as failure:
            say(f"not reloaded, what was in force stays: {failure}")
        else:
            say("reloaded")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def address(text: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:8080` or `[::1]:8080`; raises `CliError`."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > _PORT_MAX:
        raise CliError(f'"{text}" is no address', code=USAGE, fix="like 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    tls = settings.server.tls
    if tls is None:
        return None
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.cert, tls.key)
        if tls.client_ca:  # asked for, not demanded: people and other hooks come without one
            context.load_verify_locations(cafile=tls.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
    except OSError as failure:
        raise CliError("server.tls cannot be used", code=USAGE, why=str(failure)) from None
    return context


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (the extra `speed`), asyncio's own loop otherwise."""
    try:
        factory: Callable[[], asyncio.AbstractEventLoop]
        factory = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return factory


def _settle_memory() -> None:
    """Let the collector pass over what lives as long as the process, and come less often.

    Modules and playbooks are most of the memory; looking through them again and again cost a
    twentieth of every alert.
    """
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 50)


def _raise_limit() -> None:
    """As many open files as the system lets us have, up to what the limits can use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
