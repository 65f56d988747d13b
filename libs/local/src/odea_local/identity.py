"""Whom PostgreSQL runs as when we are root, which it refuses to be, and the way that this user needs to its files."""

import fcntl
import os
import pwd
import shutil
import stat
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from odea_local.errors import LocalError

SYSTEM_USER = "odea-postgres"
FALLBACK_USER = "nobody"
COMMAND_WAIT_S = 20
USERS = Path("/etc/passwd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A user and group by number."""

    uid: int
    gid: int

    def __str__(self) -> str:
        """The form that `Command.user` takes."""
        return f"{self.uid}:{self.gid}"


def database_identity(cluster: Path) -> Identity | None:
    """Who runs the database in this directory: nobody special unless we are root.

    A cluster that exists keeps its owner, so that a system user that appears later does not lock it out.
    """
    if os.geteuid() != 0:
        return None
    if cluster.exists() and (owner := cluster.stat()).st_uid != 0:
        return Identity(uid=owner.st_uid, gid=owner.st_gid)
    with _one_at_a_time():
        return _find(SYSTEM_USER) or _create(SYSTEM_USER) or _find(FALLBACK_USER) or _refuse()


@contextmanager
def _one_at_a_time() -> Generator[None]:
    """Keep another stack from finding a user that is just being made, whose number may still change.

    Whoever else holds the lock for longer than making a user takes is not waited for.
    """
    until = time.monotonic() + COMMAND_WAIT_S
    with USERS.open("rb") as users:
        while time.monotonic() < until:
            with suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.02)
        yield


def open_way(identity: Identity, *targets: Path) -> tuple[Path, ...]:
    """Give the folders above each target the search bit for others, where it is missing and the user needs it.

    Returns the folders that were changed, for telling the person whose they are.
    """
    changed: list[Path] = []
    for folder in dict.fromkeys(parent for target in targets for parent in target.resolve().parents):
        status = folder.stat()
        if status.st_uid != identity.uid and not status.st_mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)
            changed.append(folder)
    return tuple(changed)


def open_tree(tree: Path) -> None:
    """Let everybody read a folder of installed programs; an installation under a strict umask does not."""
    if tree.stat().st_mode & (stat.S_IXOTH | stat.S_IROTH) == stat.S_IXOTH | stat.S_IROTH:
        return
    for folder, _, files in os.walk(tree, topdown=False):
        for path in [*(Path(folder) / name for name in files), Path(folder)]:
            mode = stat.S_IMODE(path.stat().st_mode)
            search = stat.S_IXOTH if mode & stat.S_IXUSR else 0
            path.chmod(mode | stat.S_IROTH | search)


def _find(name: str) -> Identity | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Identity(uid=entry.pw_uid, gid=entry.pw_gid)


def _create(name: str) -> Identity | None:
    """Make a system user without a home or a login, with whichever tool this system has."""
    recipes = (
        ("useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/false", name),
        ("adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/bin/false", name),
    )
    for recipe in recipes:
        if shutil.which(recipe[0]):
            try:
                subprocess.run(recipe, check=False, capture_output=True, timeout=COMMAND_WAIT_S)
            except subprocess.TimeoutExpired:
                continue
            if found := _find(name):
                # Also when another stack made it at the same moment and our own attempt failed.
                return found
    return None


def _refuse() -> Identity:
    raise LocalError(
        f"PostgreSQL does not run as root, and there is neither a user {SYSTEM_USER} nor a way to make one. "
        f"Make it (useradd --system {SYSTEM_USER}) or start Odea as an ordinary user."
    )
