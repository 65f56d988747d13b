"""The stack's passwords, seeds and peppers: random, made once, kept in one file of mode 0600."""

import secrets
from pathlib import Path

import msgspec

from odea_contracts.permissions import USERS
from odea_local.errors import LocalError
from odea_local.folder import write_atomically
from odea_runtime.busadmin.nkeys import new_seed, public_key


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
    nats_gateway: str = msgspec.field(default_factory=new_seed)
    """NKEY seeds, one for each user of the bus; the server is told the public halves."""
    nats_keys: str = msgspec.field(default_factory=new_seed)
    nats_quota: str = msgspec.field(default_factory=new_seed)
    nats_synth: str = msgspec.field(default_factory=new_seed)
    nats_operator: str = msgspec.field(default_factory=new_seed)
    nats_installer: str = msgspec.field(default_factory=new_seed)
    nats_backup: str = msgspec.field(default_factory=new_seed)
    keys_pepper: str = msgspec.field(default_factory=new_secret)
    """Hashes API keys; without it no key that was issued works."""

    def nats_seed(self, user: str) -> str:
        """The seed of a user of the bus."""
        return str(getattr(self, f"nats_{user}"))

    def nats_public_keys(self) -> dict[str, tuple[str, ...]]:
        """The public keys of all users of the bus."""
        return {user.name: (public_key(self.nats_seed(user.name)),) for user in USERS}

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
