"""Settings: one frozen object per process, read once from the environment, every fault named at once."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

PREFIX = "ODEA_"
EXIT_CONFIG = 78
"""The exit status of a process whose settings are unusable (EX_CONFIG of sysexits.h): restarting it is of no use."""
_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:/@\[\]]+)):(?P<port>[0-9]{1,5})")


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _parse_address(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _ADDRESS.fullmatch(value)
    if not match or int(match["port"]) > 65535:
        raise ValueError("must be host:port, as in 127.0.0.1:8080")
    return Address(match["ipv6"] or match["host"], int(match["port"]))


AddressSetting = Annotated[Address, BeforeValidator(_parse_address)]


class Settings(BaseModel):
    """What every service needs. Each field is the variable `ODEA_<FIELD>`, in capitals."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True)

    nats_url: SecretStr
    """NATS server, or several separated by commas; may hold a user and password."""
    ops_address: AddressSetting = Address("127.0.0.1", 9090)
    """Where `/livez`, `/readyz` and `/metrics` are served; never the public address."""
    log_format: Literal["json", "pretty"] = "json"
    """One JSON object a line, or text for a terminal."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe level that is written."""
    tasks_max: Annotated[int, Field(ge=1, le=100_000)] = 2_000
    """Messages handled at the same time; one more is refused as overloaded."""
    call_timeout_s: Annotated[float, Field(gt=0, le=60)] = 1.5
    """How long a reply from another service is waited for."""
    drain_s: Annotated[float, Field(gt=0, le=3600)] = 20.0
    """How long work in hand may go on after SIGTERM."""


class DatabaseSettings(Settings):
    """What a service with a database needs besides."""

    database_url: SecretStr
    """PostgreSQL, with the service's own login role."""
    database_pool_max: Annotated[int, Field(ge=1, le=200)] = 8
    """Connections at most."""
    database_timeout_s: Annotated[float, Field(gt=0, le=60)] = 1.5
    """How long a statement may take, and how long a free connection is waited for."""


class SettingsError(Exception):
    """The environment does not make valid settings; the message lists every fault, one a line, without the values."""


S = TypeVar("S", bound=Settings)


def load(model: type[S], environ: Mapping[str, str]) -> S:
    """Build settings from `environ`.

    Raises:
        SettingsError: something is missing or wrong. All faults are listed.
    """
    given = {name.removeprefix(PREFIX).lower(): value for name, value in environ.items() if name.startswith(PREFIX)}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults = [f"{PREFIX}{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors()]
        raise SettingsError("\n".join(faults)) from None
