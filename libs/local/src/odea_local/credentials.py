"""The stack's passwords and peppers: random, made once, kept in one file of mode 0600."""

import secrets
from pathlib import Path

import msgspec

from odea_local.errors import LocalError
from odea_local.folder import write_atomically


def new_secret() -> str:
    """256 random bits in hex, which needs no quoting in URLs, SQL or configuration files."""
    return secrets.token_hex(32)


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Who logs in with what. A field that an older file lacks gets a fresh value."""

    postgres: str = msgspec.field(default_factory=new_secret)
    """The database superuser's password; only the supervisor uses it."""
    keys_database: str = msgspec.field(default_factory=new_secret)
    quota_database: str = msgspec.field(default_factory=new_secret)
    synth_database: str = msgspec.field(default_factory=new_secret)
    nats: str = msgspec.field(default_factory=new_secret)
    keys_pepper: str = msgspec.field(default_factory=new_secret)
    """Hashes API keys; without it no key that was issued works."""

    def __repr__(self) -> str:
        """Names the type and hides the values."""
        return "Credentials(…)"


def load_or_create(path: Path) -> Credentials:
    """The credentials in the file, which is made, or completed, if needed.

    Raises:
        LocalError: the file is there and unreadable; making new secrets would lock the database for ever.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b"{}"
    try:
        credentials = msgspec.json.decode(content, type=Credentials)
    except msgspec.DecodeError:
        raise LocalError(f"{path} is damaged. Put its copy back, or move {path.parent} away to start afresh.") from None
    whole = msgspec.json.encode(credentials)
    if whole != content:
        write_atomically(path, whole)
    path.chmod(0o600)
    return credentials
