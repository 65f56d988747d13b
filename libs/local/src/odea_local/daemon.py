"""A stack in the background: started in a session of its own, watched until it is ready, ended on request."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec
import psutil

from odea_local.errors import EXIT_FAILURE, LocalError, explain
from odea_local.folder import DataFolder
from odea_local.leftovers import end_leftovers, wait_gone
from odea_local.postgres import Postgres
from odea_local.stack import serve
from odea_local.status import Event, StackStatus, State, read_status

STOP_WITHIN_S: Final = 90.0
"""Longer than all graces of the services together."""
READY_WITHIN_S: Final = 180.0
EXIT_WITHIN_S: Final = 10.0
PROBE_PAUSE_S: Final = 0.1


def start(folder: DataFolder, port: int, listener: Callable[[Event], None]) -> None:
    """Start a stack in the background and return when it is ready. Being interrupted ends what has been started.

    Raises:
        LocalError: it could not start; nothing of it is left.
    """
    folder.prepare()
    reading, writing = os.pipe()
    process = _spawn(folder, port, writing)
    os.close(writing)
    try:
        failure = _follow(reading, listener)
    except KeyboardInterrupt:
        # It is in a session of its own, so the terminal told only us.
        while process.poll() is None:
            with suppress(KeyboardInterrupt):
                process.send_signal(signal.SIGTERM)
                process.wait()
        raise
    if failure is not None:
        raise LocalError(failure or f"the supervisor ended. Its log: {folder.logs / 'odea.log'}")


def supervise(folder: DataFolder, port: int, events: int) -> None:
    """Be the background process: run the stack and write events to a descriptor as long as somebody reads them."""
    os.set_blocking(events, False)

    def listener(event: Event) -> None:
        # The starter reads until we are ready and is gone then; one that hangs must not make us wait.
        with suppress(OSError):
            os.write(events, msgspec.json.encode(event) + b"\n")

    try:
        serve(folder, port, listener)
    except (LocalError, OSError) as error:
        text = explain(error) if isinstance(error, OSError) else str(error)
        listener(Event(state=State.FAILED, text=text))
        sys.exit(EXIT_FAILURE)


def wait_until_ready(folder: DataFolder) -> StackStatus | None:
    """The status of the stack that another command started, as soon as it is ready; nothing if it has ended.

    Raises:
        LocalError: it did neither in time.
    """
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        status = read_status(folder)
        if status and status.state == State.READY:
            return status
        if not folder.is_held():
            return None
        time.sleep(PROBE_PAUSE_S)
    raise LocalError(f"the Odea in {folder.root} is not ready. Its log: {folder.logs / 'odea.log'}")


def stop(folder: DataFolder) -> bool:
    """End the stack in this folder and return when nothing of it is left.

    Returns:
        Whether there was anything to end.

    Raises:
        LocalError: it belongs to another user, or somebody has started it again meanwhile.
    """
    if not folder.lock.exists():
        return False
    was_running = folder.is_held()
    if was_running:
        _end_supervisor(folder)
    with folder.hold():
        left = end_leftovers(folder)
        if folder.postgres.exists():
            Postgres.at(folder.postgres, "").tidy()
    return was_running or left > 0


def _end_supervisor(folder: DataFolder) -> None:
    process = _supervisor(folder)
    if process:
        try:
            process.terminate()
            wait_gone([process], STOP_WITHIN_S)
            # Does nothing if it has ended; psutil compares start times before it signals.
            process.kill()
            wait_gone([process], EXIT_WITHIN_S)
        except psutil.NoSuchProcess:
            return
        except psutil.AccessDenied:
            raise LocalError(f"the Odea in {folder.root} belongs to another user, who must stop it.") from None


def _supervisor(folder: DataFolder) -> psutil.Process | None:
    """The process that holds the folder; one that has just begun to hold it gets time to write its name."""
    deadline = time.monotonic() + EXIT_WITHIN_S
    while folder.is_held() and time.monotonic() < deadline:
        holder = folder.holder()
        process = holder.process() if holder else None
        if process:
            return process
        time.sleep(PROBE_PAUSE_S)
    return None


def _follow(reading: int, listener: Callable[[Event], None]) -> str | None:
    """Pass events on until the stack is ready, which is nothing, or has ended, which is its reason or an empty text."""
    failure = ""
    with os.fdopen(reading, "rb") as events:
        for line in events:
            event = msgspec.json.decode(line, type=Event)
            listener(event)
            if not event.service and event.state == State.READY:
                return None
            if not event.service and event.state == State.FAILED:
                failure = event.text
    return failure


def _spawn(folder: DataFolder, port: int, writing: int) -> subprocess.Popen[bytes]:
    arguments = ["supervise", "--data", str(folder.root), "--port", str(port), "--events", str(writing)]
    with (folder.logs / "odea.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "odea_local", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder.root,
            pass_fds=(writing,),
            start_new_session=True,
        )
