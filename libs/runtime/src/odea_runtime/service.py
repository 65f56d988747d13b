"""The outermost frame of a service process: settings, logs, signals, exit status."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

from odea_runtime import crash_reports, logs, tracing
from odea_runtime.known_secrets import secrets_of
from odea_runtime.settings import EXIT_CONFIG, Settings, SettingsError, load

EXIT_USAGE = 2
S = TypeVar("S", bound=Settings)
GC_THRESHOLDS = (100_000, 20, 50)
"""A busy service makes thousands of tasks and futures a second, none of which is garbage when Python's own thresholds
have it looked through: that cost a fifth of the ledger's time, and at a fifth of this one still 6 % of synth's."""
Run = Callable[[S, asyncio.Event], Awaitable[None]]
"""Does its work until the event is set, then ends in good order."""


def main(service: str, settings_type: type[S], commands: dict[str, Run[S]]) -> None:
    """Run the command that the command line names, with settings from the environment; does not return.

    Exits with 0 after a clean end, 2 for a wrong command, 78 for unusable settings, 1 for anything else.
    """
    command = commands.get(sys.argv[1]) if len(sys.argv) == 2 else None
    if command is None:
        print(f"usage: python -m odea_{service} {'|'.join(commands)}", file=sys.stderr)  # noqa: T201 - no log yet
        sys.exit(EXIT_USAGE)
    try:
        settings = load(settings_type, os.environ)
    except SettingsError as error:
        print(f"odea {service}: unusable settings\n{error}", file=sys.stderr)  # noqa: T201 - there is no log yet
        sys.exit(EXIT_CONFIG)
    logs.configure(service, log_format=settings.log_format, level=settings.log_level)
    logs.conceal(secrets_of(settings))
    log = structlog.get_logger()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        crash_reports.configure(service, settings.sentry_dsn)
    except ValueError:
        print(f"odea {service}: unusable settings\nODEA_SENTRY_DSN: is no DSN", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_CONFIG)
    try:
        tracing.configure(service, settings)
    except ValueError as error:
        print(f"odea {service}: unusable settings\nODEA_OTLP_ENDPOINT or _HEADERS: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_CONFIG)
    try:
        _run(_until_signalled(command, settings))
    except SettingsError as error:
        # A file that the settings name, for example.
        log.error("unusable settings", faults=str(error).splitlines())  # noqa: TRY400 - its trace says nothing
        sys.exit(EXIT_CONFIG)
    except Exception:  # The last frame of the process: whatever it is, it belongs in the log.
        log.exception("stopped by a fault")
        sys.exit(1)
    finally:
        tracing.flush()
        crash_reports.flush()


def _run(work: Coroutine[Any, Any, None]) -> None:
    """On uvloop where there is one, which halves what a message costs; on Windows on asyncio's own loop."""
    if sys.platform == "win32":
        asyncio.run(work)
        return
    import uvloop  # noqa: PLC0415 - there is none for Windows

    uvloop.run(work)


async def _until_signalled(command: Run[S], settings: S) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    await command(settings, stop)
