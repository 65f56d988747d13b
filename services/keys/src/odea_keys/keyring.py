"""What makes a key, and when one is good: the rules, without I/O and without a clock.

All refusals do the same work: one hash with one pepper, one comparison, then the reasons in a fixed order. An unknown
public id is compared with a decoy. Who lacks the secret learns nothing else: the comparison is judged first.
"""

import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from odea_contracts.keys import Principal, Refusal, Refused, Scope
from odea_contracts.keytext import PUBLIC_ID_LENGTH, SECRET_BYTES, digest_of, encode_secret, format_key
from odea_keys.peppers import Pepper
from odea_runtime.ids import random_base62

HASH_BYTES: Final = 64
SALT_BYTES: Final = 64
"""Used for one derived secret alone."""
_DERIVED: Final = b"odea: the secret of a change that may be repeated\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecret:
    """A fresh secret: what is stored of it, and the key's whole text, which is shown once and then forgotten.

    Attributes:
        salt: what it was derived with; empty if it is random.
    """

    public_id: str
    pepper_id: str
    salt: bytes = field(default=b"", repr=False)
    hash: bytes = field(repr=False)
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSecret:
    """What the storage knows of a secret, its key and its tenant, at one moment of the database's clock."""

    known: bool
    """Whether anybody has the public id. If not, the rest is empty."""
    tenant_id: str
    key_id: str
    scopes: tuple[Scope, ...]
    own_account: bool
    allowed_cidrs: tuple[str, ...]
    pepper_id: str
    hash: bytes = field(repr=False)
    expires_at_ms: int | None
    """The sooner of the secret's own end and the key's."""
    revoked: bool
    suspended: bool
    now_ms: int


class UnknownPepperError(Exception):
    """The hash was made with a pepper that this process was not given, so nobody can tell whether the key is good."""


class Keyring:
    """Makes secrets and judges them.

    Args:
        peppers: at least one. The first hashes new secrets, each verifies its own.
    """

    def __init__(self, peppers: tuple[Pepper, ...]) -> None:
        self._newest = peppers[0]
        self._peppers = {pepper.pepper_id: pepper for pepper in peppers}
        # Random in place of a hash: no digest is known that makes it.
        self._decoy = (self._newest.pepper_id, secrets.token_bytes(HASH_BYTES))

    def new_secret(self) -> NewSecret:
        """A secret of 512 random bits under a random public id."""
        return self._new(encode_secret(secrets.token_bytes(SECRET_BYTES)))

    def derived_secret(self, name: str) -> NewSecret:
        """A secret of 512 bits that whoever has the newest pepper, its salt and the name can make again.

        Args:
            name: what the caller calls the change that makes the secret.
        """
        salt = secrets.token_bytes(SALT_BYTES)
        return self._new(_derive(self._newest, salt, name), salt)

    def derive_again(self, public_id: str, pepper_id: str, salt: bytes, name: str) -> str:
        """The text of a key whose secret was derived before.

        Raises:
            UnknownPepperError: from a pepper that is no longer here.
        """
        pepper = self._peppers.get(pepper_id)
        if pepper is None:
            raise UnknownPepperError(pepper_id)
        return format_key(public_id, _derive(pepper, salt, name))

    def _new(self, secret: str, salt: bytes = b"") -> NewSecret:
        public_id = random_base62(PUBLIC_ID_LENGTH)
        return NewSecret(
            public_id=public_id,
            pepper_id=self._newest.pepper_id,
            salt=salt,
            hash=_hash(self._newest, digest_of(secret)),
            text=format_key(public_id, secret),
        )

    def judge(self, stored: StoredSecret, digest: str) -> Principal | Refused:
        """Whether `digest` is of the living secret of a living key.

        Raises:
            UnknownPepperError: it cannot be told.
        """
        pepper_id, expected = (stored.pepper_id, stored.hash) if stored.known else self._decoy
        pepper = self._peppers.get(pepper_id)
        if pepper is None:
            raise UnknownPepperError(pepper_id)
        matches = hmac.compare_digest(_hash(pepper, digest), expected)
        reason = _refusal(stored, matches=matches)
        return Refused(reason=reason) if reason else _principal(stored)


def ordered_scopes(scopes: Iterable[Scope]) -> tuple[Scope, ...]:
    """The same scopes, each once, in the order of their definition."""
    given = set(scopes)
    return tuple(scope for scope in Scope if scope in given)


def canonical_cidrs(cidrs: Iterable[str]) -> tuple[str, ...]:
    """The same networks in their one text form, each once.

    Raises:
        ValueError: one of them is no network, or an address with bits behind its prefix; the message names it.
    """
    found: dict[str, None] = {}
    for cidr in cidrs:
        network = ipaddress.ip_network(cidr)
        if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
            raise ValueError(f"'{cidr}' is an IPv4 network; write it as one")
        found[str(network)] = None
    return tuple(found)


def _derive(pepper: Pepper, salt: bytes, name: str) -> str:
    # The label and the length set it apart from what `_hash` is given, which is 64 bytes.
    return encode_secret(hmac.digest(pepper.value, _DERIVED + salt + name.encode(), "sha512"))


def _hash(pepper: Pepper, digest: str) -> bytes:
    return hmac.digest(pepper.value, bytes.fromhex(digest), "sha512")


def _refusal(stored: StoredSecret, *, matches: bool) -> Refusal | None:
    if not stored.known:
        return Refusal.UNKNOWN
    if not matches:
        return Refusal.WRONG_SECRET
    if stored.revoked:
        return Refusal.REVOKED
    if stored.expires_at_ms is not None and stored.expires_at_ms <= stored.now_ms:
        return Refusal.EXPIRED
    if stored.suspended:
        return Refusal.SUSPENDED
    return None


def _principal(stored: StoredSecret) -> Principal:
    accounts = (stored.tenant_id, stored.key_id) if stored.own_account else (stored.tenant_id,)
    return Principal(
        tenant_id=stored.tenant_id,
        key_id=stored.key_id,
        scopes=stored.scopes,
        accounts=accounts,
        expires_at_ms=stored.expires_at_ms,
        allowed_cidrs=stored.allowed_cidrs,
    )
