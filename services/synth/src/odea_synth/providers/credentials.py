"""The keys to an upstream's accounts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

from odea_synth.providers.upstream import is_private

_HEADER_SAFE: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One key of ours to an upstream.

    Attributes:
        name: what logs and metrics call it; no part of the secret.
        secret: the key itself; its repr hides it.
    """

    name: str
    secret: SecretStr


def credential_faults(credentials: Sequence[Credential], base_url: str) -> list[str]:
    """What is wrong with a provider's credentials, without a word of them."""
    names = [credential.name for credential in credentials]
    faults = [f"credential {name} is named twice" for name in sorted({name for name in names if names.count(name) > 1})]
    faults += [
        f"credential {credential.name} must be printable ASCII without blanks, and not empty"
        for credential in credentials
        if not _HEADER_SAFE.fullmatch(credential.secret.get_secret_value())
    ]
    if credentials and not is_private(base_url):
        faults.append("base_url must begin with https:// where credentials are sent")
    return faults
