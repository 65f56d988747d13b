"""The data folder: everything that one stack owns, and the lock that lets one supervisor at a time have it."""

import fcntl
import os
import shlex
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import msgspec
import psutil

from odea_local.errors import AlreadyRunningError

LOCK_TRIES_MAX = 10
LOCK_PAUSE_S = 0.03


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The supervisor that holds a folder, named so that a reused process id is not mistaken for it."""

    pid: int
    started_s: float

    def process(self) -> psutil.Process | None:
        """The living process, or nothing if it is gone."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started_s) < 1:
                return process
        return None


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Where each thing of a stack lies. Nothing here is shared between two stacks.

    Attributes:
        root: absolute and free of links, because processes are recognised by it.
    """

    root: Path

    @classmethod
    def at(cls, path: Path) -> Self:
        """The folder at this path, which need not exist yet."""
        return cls(path.resolve())

    def command(self, verb: str) -> str:
        """What to type to apply a verb of `odea` to this folder."""
        option = "" if self.root == default_root() else f" --data {shlex.quote(str(self.root))}"
        return f"./odea {verb}{option}"

    @property
    def lock(self) -> Path:
        """Held by the living supervisor; its content names it."""
        return self.root / "lock"

    @property
    def status(self) -> Path:
        """What runs now, rewritten by the supervisor at every change."""
        return self.root / "status.json"

    @property
    def ports(self) -> Path:
        """The loopback ports, chosen once and remembered."""
        return self.root / "state.json"

    @property
    def credentials(self) -> Path:
        """Passwords and peppers, mode 0600."""
        return self.root / "secrets.json"

    @property
    def logs(self) -> Path:
        """One bounded file for each process, and `odea.log` for the supervisor."""
        return self.root / "logs"

    @property
    def keys(self) -> Path:
        """The demo tenant's API keys, each in a file of its own."""
        return self.root / "keys"

    @property
    def postgres(self) -> Path:
        """The database cluster."""
        return self.root / "postgres"

    @property
    def nats(self) -> Path:
        """The NATS configuration and the JetStream store."""
        return self.root / "nats"

    def prepare(self) -> None:
        """Make the folder and its private parts; repeating it changes nothing."""
        self.root.mkdir(parents=True, exist_ok=True)
        for private in (self.logs, self.keys, self.nats):
            private.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def hold(self) -> Generator[None]:
        """Be the folder's only supervisor; the kernel lets go when the process ends, however it ends.

        Raises:
            AlreadyRunningError: another process holds the folder.
        """
        with self.lock.open("a+b") as file:
            if not _flock(file):
                raise AlreadyRunningError(f"{self.root} is in use by a running Odea.")
            me = psutil.Process()
            file.truncate(0)
            file.write(msgspec.json.encode(Holder(pid=me.pid, started_s=me.create_time())))
            file.flush()
            yield

    def is_held(self) -> bool:
        """Whether a living supervisor holds the folder."""
        with suppress(FileNotFoundError), self.lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def holder(self) -> Holder | None:
        """The supervisor that holds the folder, if one does and has written its name already."""
        if self.is_held():
            with suppress(FileNotFoundError, msgspec.DecodeError):
                return msgspec.json.decode(self.lock.read_bytes(), type=Holder)
        return None


def _flock(file: IO[bytes]) -> bool:
    """Take the lock; a few tries, because `is_held` may have it for a moment."""
    for _ in range(LOCK_TRIES_MAX):
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(LOCK_PAUSE_S)
    return False


def home() -> Path:
    """The folder of the repository that this package is installed from, else the current one."""
    return next((folder for folder in Path(__file__).parents if (folder / "uv.lock").is_file()), Path.cwd())


def default_root() -> Path:
    """Where a stack lives when nothing else is asked for."""
    return home().resolve() / ".odea"


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file so that a reader, or a crash at any moment, sees the old content or the new one."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
