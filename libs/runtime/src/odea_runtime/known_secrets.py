"""The secrets that this process was given, so that they can be masked whatever they look like."""

from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

import msgspec
from pydantic import BaseModel, SecretStr

from odea_runtime.logs import SENSITIVE_NAMES

_LENGTH_MIN = 8
"""Shorter ones would mask ordinary words; they protect nothing anyway."""


def secrets_of(settings: BaseModel) -> set[str]:
    """Every secret in `settings`, and its parts that are secret by themselves: passwords in URLs, keys in JSON."""
    found: set[str] = set()
    for name in type(settings).model_fields:
        value: object = getattr(settings, name)
        if isinstance(value, SecretStr):
            found.update(_parts(value.get_secret_value()))
    return {secret for secret in found if len(secret) >= _LENGTH_MIN}


def _parts(value: str) -> Iterator[str]:
    try:
        table: object = msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        table = None
    if isinstance(table, (dict, list)):
        yield from _named(table, sensitive=False)
    elif "://" in value:
        for url in value.split(","):
            yield from _of_url(url)
    else:
        yield value
        yield from value.replace(",", ":").split(":")


def _of_url(url: str) -> Iterator[str]:
    login, at, _ = urlsplit(url).netloc.rpartition("@")
    if at:
        user, colon, password = login.partition(":")
        secret = password if colon else user
        yield from (secret, unquote(secret))


def _named(value: object, *, sensitive: bool) -> Iterator[str]:
    """The strings below sensitive names."""
    if isinstance(value, str) and sensitive:
        yield value
    elif isinstance(value, dict):
        for name, below in value.items():
            yield from _named(below, sensitive=sensitive or bool(SENSITIVE_NAMES.search(str(name))))
    elif isinstance(value, list):
        for below in value:
            yield from _named(below, sensitive=sensitive)
