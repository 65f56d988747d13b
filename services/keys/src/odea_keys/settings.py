"""What the keys service is told by its environment."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from odea_keys.peppers import Pepper, parse_peppers
from odea_runtime.settings import DatabaseSettings


def _check_peppers(value: SecretStr) -> SecretStr:
    parse_peppers(value.get_secret_value())
    return value


class KeysSettings(DatabaseSettings):
    """Settings of the keys service."""

    keys_peppers: Annotated[SecretStr, AfterValidator(_check_peppers)]
    """`id:hex`, separated by commas, 32 bytes each at least. The first one hashes new secrets. A new pepper is added at
    the end everywhere before it becomes the first; one that hashed living secrets must stay."""
    idempotency_keep_s: Annotated[float, Field(ge=60, le=30 * 24 * 3600)] = 24 * 3600.0
    """How long the name of a repeatable change is remembered: as long as its secret can be shown again by a repeat."""
    bootstrap_tenant: Annotated[str, Field(min_length=1, max_length=128)] = "operators"
    """The name of the tenant that `odea-keys bootstrap` gives an admin key to; it is made if it is not there."""
    bootstrap_file: str = ""
    """Where `odea-keys bootstrap` writes the key, mode 0600. The file must not be there; empty is standard output."""

    def peppers(self) -> tuple[Pepper, ...]:
        """The peppers, read."""
        return parse_peppers(self.keys_peppers.get_secret_value())
