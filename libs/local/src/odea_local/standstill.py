"""A stack whose services stand still while its database and its bus are worked on."""

import signal
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

import psutil

from odea_contracts.subjects import GATEWAY
from odea_local.errors import LocalError
from odea_local.folder import DataFolder
from odea_local.recipe import DATABASE_SERVICES, SERVICE_READY_WITHIN_S
from odea_local.status import State, read_status

_LOOK_S: Final = 0.05
_AGAIN_WITHIN_S: Final = 2 * SERVICE_READY_WITHIN_S


@contextmanager
def standing_still(folder: DataFolder) -> Generator[None]:
    """Halt the services of a running stack for the time of the block; then its supervisor starts them afresh.

    Nothing of what they had in hand goes on, and nothing that they remember outlives it. Returns when all are ready.

    Raises:
        LocalError: they did not become ready again.
    """
    halted = [process for process in _services(folder) if _signalled(process, signal.SIGSTOP)]
    try:
        yield
    finally:
        for process in halted:
            _signalled(process, signal.SIGKILL)
    gone = {process.pid for process in halted}
    deadline = time.monotonic() + _AGAIN_WITHIN_S
    while not _are_ready(folder, gone):
        if time.monotonic() > deadline:
            raise LocalError(f"the services did not become ready again. Look at {folder.command('status')}.")
        time.sleep(_LOOK_S)


def _services(folder: DataFolder) -> list[psutil.Process]:
    status = read_status(folder)
    names = {*DATABASE_SERVICES, GATEWAY}
    pids = [service.pid for service in status.services if service.name in names] if status else []
    found: list[psutil.Process] = []
    for pid in filter(None, pids):
        with suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


def _signalled(process: psutil.Process, number: signal.Signals) -> bool:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
        return True
    return False


def _are_ready(folder: DataFolder, gone: set[int]) -> bool:
    status = read_status(folder)
    return status is not None and all(
        service.state is State.READY and service.pid not in gone for service in status.services
    )
