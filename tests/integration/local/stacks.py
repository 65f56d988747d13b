"""What the tests of stacks share."""

import os
import time
from collections.abc import Callable

import psutil

from odea_local.embedded import EmbeddedStack
from odea_local.leftovers import MARK

WAIT_S = 20.0
PAUSE_S = 0.1

MakeStack = Callable[..., EmbeddedStack]


def processes_of(stack: EmbeddedStack) -> list[str]:
    """The command lines of every living process of a stack, the database's included."""
    root = str(stack.folder.root)
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            belongs = root in command or process.environ().get(MARK) == root or process.cwd().startswith(root)
            if belongs and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(command)
        except (psutil.Error, OSError):
            continue
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once it holds; for tests that block on a command anyway."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(PAUSE_S)
