"""What the keys service is told by its environment."""

from typing import Annotated

from pydantic import AfterValidator, SecretStr

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

    def peppers(self) -> tuple[Pepper, ...]:
        """The peppers, read."""
        return parse_peppers(self.keys_peppers.get_secret_value())
