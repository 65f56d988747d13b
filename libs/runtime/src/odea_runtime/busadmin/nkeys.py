"""NKEYs: Ed25519 key pairs as NATS writes them. The seed logs in, the server knows the public key alone."""

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

import nkeys

from odea_contracts.permissions import USERS

SEED_SUFFIX: Final = ".seed"
PUBLIC_SUFFIX: Final = ".pub"
_OWN: Final = tuple(user.name for user in USERS)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_PUBLIC_KEY: Final = re.compile(r"U[A-Z2-7]{55}")


class BusKeysError(Exception):
    """The folder of keys is not as it should be; the text says how, without any secret."""


def new_seed() -> str:
    """A fresh seed of a user, from 256 random bits."""
    return nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER).decode()


def public_key(seed: str) -> str:
    """The public half, which is no secret.

    Raises:
        BusKeysError: it is not the seed of a user.
    """
    written = seed.strip().encode()
    try:
        prefix, raw = nkeys.decode_seed(bytearray(written))
        # The library reads past a wrong checksum; writing it anew shows a seed that was mistyped.
        whole = nkeys.encode_seed(bytes(raw), prefix) == written
    except (nkeys.NkeysError, ValueError):
        whole, prefix = False, None
    if not whole or prefix != nkeys.PREFIX_BYTE_USER:
        raise BusKeysError("that is not the NKEY seed of a user")
    public = cast("bytes", nkeys.from_seed(bytearray(written)).public_key)
    return public.decode()


def make_keys(folder: Path, *, renew: str | None = None, guest: str | None = None) -> dict[str, str]:
    """Give every user of the bus a seed in `folder` that lacks one; returns what was made, as public keys by user.

    Each user has two files: `<user>.seed`, mode 0600, for its process alone, and `<user>.pub`, the public keys that the
    server lets in, one a line.

    Args:
        folder: is made if it is not there.
        renew: a user who gets another seed although it has one. Its old public key stays in its `.pub` until it is
            taken out there, so that processes with the old seed stay in.

        guest: another service that gets a login, too.

    Raises:
        BusKeysError: `renew` names no user of the bus, or `guest` is no name for one.
    """
    if guest is not None and not _NAME.fullmatch(guest):
        raise BusKeysError("a guest's name is lower-case letters, digits and underscores, 32 at most, a letter first.")
    guests = {*_guests_in(folder), *([guest] if guest and guest not in _OWN else [])}
    names = [*_OWN, *sorted(guests)]
    if renew is not None and renew not in names:
        raise BusKeysError(f"there is no user {renew!r} of the bus. They are: {', '.join(names)}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made: dict[str, str] = {}
    for name in names:
        seed_file, public_file = folder / f"{name}{SEED_SUFFIX}", folder / f"{name}{PUBLIC_SUFFIX}"
        if seed_file.exists() and name != renew:
            continue
        seed = new_seed()
        known = public_file.read_text().split() if public_file.exists() else []
        # The public key first: a server may know a key that nobody has, but nobody should have one that it won't know.
        _replace(public_file, "".join(f"{key}\n" for key in (*known, public_key(seed))), 0o644)
        _replace(seed_file, f"{seed}\n", 0o600)
        made[name] = public_key(seed)
    return made


def read_public_keys(folder: Path) -> Mapping[str, tuple[str, ...]]:
    """The public keys in `folder`, by user.

    Raises:
        BusKeysError: a user has none, or what stands there is no public key of a user.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in (*_OWN, *_guests_in(folder)):
        path = folder / f"{name}{PUBLIC_SUFFIX}"
        listed = tuple(path.read_text().split()) if path.is_file() else ()
        if not listed:
            raise BusKeysError(f"{path} is missing or empty. `bus keys` makes it.")
        for key in listed:
            if not _PUBLIC_KEY.fullmatch(key):
                raise BusKeysError(f"{path} holds something that is no public key of a user.")
        found[name] = listed
    return found


def _guests_in(folder: Path) -> list[str]:
    found = sorted(path.stem for path in folder.glob(f"*{PUBLIC_SUFFIX}"))
    return [name for name in found if name not in _OWN and _NAME.fullmatch(name)]


def _replace(path: Path, text: str, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
