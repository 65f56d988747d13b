"""What a supervisor that was killed left behind: found by marks that no other program carries, and ended.

Every child inherits an environment variable with the path of its data folder; PostgreSQL, which overwrites its
environment, is known by working in its own data directory. Neither can be mistaken after a process id was reused.
"""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

from odea_local.folder import DataFolder

MARK = "ODEA_LOCAL_STACK"
"""The environment variable that names the data folder in every process of a stack."""

GRACE_S = 3.0
"""Short, because the kernel has asked them to end already when their supervisor died."""
DATABASE_GRACE_S = 20.0
KILL_WAIT_S = 5.0
PROBE_PAUSE_S = 0.02


def end_leftovers(folder: DataFolder) -> int:
    """End every process of the folder's stack but our own. Call it only while holding the folder.

    Returns how many there were.
    """
    found = _marked(folder)
    for process in found:
        _signal(process, signal.SIGTERM)
    wait_gone(found, GRACE_S)
    for process in found:
        _signal(process, signal.SIGKILL)
    wait_gone(found, KILL_WAIT_S)
    return len(found) + end_database(folder.postgres)


def end_database(cluster: Path) -> int:
    """End the postmaster and the backends that work in this directory, in order if there is an order left.

    Also takes away the lock files of a postmaster that is gone, whose process id may be somebody else's by now.
    """
    found = _working_in(cluster)
    postmaster = _recorded_pid(cluster)
    leaders = [process for process in found if process.pid == postmaster]
    for leader in leaders:
        _signal(leader, signal.SIGINT)
    wait_gone(leaders, DATABASE_GRACE_S)
    # Backends without a postmaster do no more good: the next start recovers from the log whatever they did not finish.
    orphans = _working_in(cluster)
    for orphan in orphans:
        _signal(orphan, signal.SIGKILL)
    wait_gone(orphans, KILL_WAIT_S)
    (cluster / "postmaster.pid").unlink(missing_ok=True)
    return len(found)


def wait_gone(processes: list[psutil.Process], timeout_s: float) -> None:
    """Wait until all have ended, or until the time is up. One that nobody reaps has ended, too."""
    deadline = time.monotonic() + timeout_s
    while any(map(_is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(PROBE_PAUSE_S)


def _marked(folder: DataFolder) -> list[psutil.Process]:
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid not in ours and process.environ().get(MARK) == str(folder.root):
                found.append(process)
    return found


def _working_in(cluster: Path) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.name() == "postgres" and Path(process.cwd()) == cluster:
                found.append(process)
    return found


def _recorded_pid(cluster: Path) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        return int((cluster / "postmaster.pid").read_text().splitlines()[0])
    return None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
