"""What runs in a stack right now: the supervisor writes it down at every change, everybody else reads it."""

import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum

import msgspec

from odea_local.folder import DataFolder, write_atomically
from odea_local.logfile import LogFile


class State(StrEnum):
    """Where a process, or the whole stack, is in its life."""

    WAITING = "waiting"
    INITIALISING = "initialising"
    MIGRATING = "migrating"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened: a new state of a service, or of the stack when no service is named."""

    service: str = ""
    state: State
    text: str = ""
    """What a person wants to know about it; for a failure the whole message. Never a secret."""
    url: str = ""
    """Where the gateway is, when the stack is ready."""


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the stack."""

    name: str
    state: State = State.WAITING
    pid: int | None = None
    restarts: int = 0
    since_ms: int = 0
    """When it got into this state."""
    address: str = ""
    """Where it listens: `host:port`, or a socket's folder."""


class StackStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The whole stack."""

    state: State
    url: str
    pid: int
    since_ms: int
    services: tuple[ServiceStatus, ...]


class Journal:
    """Takes in events, keeps the status file and `odea.log` true to them, and passes them on to a listener."""

    def __init__(self, folder: DataFolder, status: StackStatus, listener: Callable[[Event], None]) -> None:
        self._folder = folder
        self._listener = listener
        self._log = LogFile(folder.logs / "odea.log")
        self.status = status

    def tell(self, event: Event, **changes: int | None) -> None:
        """Record an event; `changes` are the service's other fields (`pid`, `restarts`) that changed with it."""
        now_ms = time.time_ns() // 1_000_000
        if event.service:
            services = tuple(
                msgspec.structs.replace(service, state=event.state, since_ms=now_ms, **changes)
                if service.name == event.service
                else service
                for service in self.status.services
            )
            self.status = msgspec.structs.replace(self.status, services=services)
        else:
            self.status = msgspec.structs.replace(self.status, state=event.state, since_ms=now_ms)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_ms / 1000))
        self._log.write(f"{stamp} {event.service or 'odea'} {event.state} {event.text}".rstrip().encode() + b"\n")
        # A full disk must not end a stack that serves; the next change writes the file again.
        with suppress(OSError):
            write_atomically(self._folder.status, msgspec.json.encode(self.status), mode=0o644)
        # Nor must a terminal that is gone: the signal that tells of it ends the stack in order.
        with suppress(OSError):
            self._listener(event)


def read_status(folder: DataFolder) -> StackStatus | None:
    """The status of the living stack in this folder, or nothing if none runs."""
    holder = folder.holder()
    with suppress(FileNotFoundError, msgspec.DecodeError):
        status = msgspec.json.decode(folder.status.read_bytes(), type=StackStatus)
        if holder and holder.pid == status.pid:
            return status
    return None
