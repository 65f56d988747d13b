"""The text of an API key: `odea_sk_<public id>_<secret>_<checksum>`, written and read in one place.

The checksum (CRC-32 of all that stands before its underscore) tells a typo from a key without asking anybody. Reading
hands out the secret's digest, never the secret, so nothing behind the parser can leak it. Refusing a text costs the
same little whether it is one character or a megabyte.
"""

import hashlib
import hmac
import re
import zlib
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "odea_sk_"
BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PUBLIC_ID_LENGTH: Final = 12
SECRET_BYTES: Final = 64
SECRET_LENGTH: Final = 86
"""The least n with 62^n ≥ 2^512, so that every value of the 64 bytes has a text."""
CHECKSUM_LENGTH: Final = 6
KEY_LENGTH: Final = len(PREFIX) + PUBLIC_ID_LENGTH + 1 + SECRET_LENGTH + 1 + CHECKSUM_LENGTH

_SHAPE: Final = re.compile(
    f"{PREFIX}([{BASE62}]{{{PUBLIC_ID_LENGTH}}})_([{BASE62}]{{{SECRET_LENGTH}}})_([{BASE62}]{{{CHECKSUM_LENGTH}}})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedKey:
    """What a key's text says, without the secret: the fields of `keys.Verify`.

    Attributes:
        public_id: which secret is meant.
        digest: SHA-512 of the secret, 128 hex digits. It proves possession, so it is kept out of the repr.
    """

    public_id: str
    digest: str = field(repr=False)


def parse_key(text: str) -> ParsedKey | None:
    """The parts of a well-formed key; `None` for anything else, without saying what was wrong with it."""
    if len(text) != KEY_LENGTH:
        return None
    match = _SHAPE.fullmatch(text)
    if match is None:
        return None
    public_id, secret, given = match.groups()
    # The checksum depends on the secret, so it is compared as one.
    if not hmac.compare_digest(checksum(text[: -CHECKSUM_LENGTH - 1]), given):
        return None
    return ParsedKey(public_id=public_id, digest=digest_of(secret))


def format_key(public_id: str, secret: str) -> str:
    """The text of a key, shown to its owner once.

    Raises:
        ValueError: a part is not base62 of its length; the message does not repeat it.
    """
    body = f"{PREFIX}{public_id}_{secret}"
    text = f"{body}_{checksum(body)}"
    if _SHAPE.fullmatch(text) is None:
        raise ValueError("the public id or the secret is not base62 of its length")
    return text


def encode_secret(random_bytes: bytes) -> str:
    """The text of a secret: 64 bytes as 86 base62 characters, each value its own text.

    Raises:
        ValueError: not 64 bytes.
    """
    if len(random_bytes) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes")
    return _encode(int.from_bytes(random_bytes, "big"), SECRET_LENGTH)


def digest_of(secret: str) -> str:
    """SHA-512 of a secret's text, in hex: what crosses the bus in its place."""
    return hashlib.sha512(secret.encode("ascii")).hexdigest()


def checksum(body: str) -> str:
    """CRC-32 of everything before the last underscore, as six base62 characters."""
    return _encode(zlib.crc32(body.encode()), CHECKSUM_LENGTH)


def _encode(number: int, length: int) -> str:
    digits: list[str] = []
    for _ in range(length):
        number, digit = divmod(number, len(BASE62))
        digits.append(BASE62[digit])
    return "".join(reversed(digits))
