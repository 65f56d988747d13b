"""Settings: one frozen object per process, read once from the environment, every fault named at once."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from odea_contracts.bundles import BUNDLE_MAX

PREFIX = "ODEA_"
EXIT_CONFIG = 78
"""The exit status of a process whose settings are unusable (EX_CONFIG of sysexits.h): restarting it is of no use."""
_FILE = "_file"
_STANDARD = {"OTEL_EXPORTER_OTLP_ENDPOINT": "otlp_endpoint", "OTEL_EXPORTER_OTLP_HEADERS": "otlp_headers"}
"""Variables that everybody's programs know, and the settings that they stand for unless those are given."""
_USER_SEED = re.compile(r"SU[A-Z2-7]{56}")
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


def _check_seed(value: SecretStr) -> SecretStr:
    if not _USER_SEED.fullmatch(value.get_secret_value()):
        raise ValueError("must be the NKEY seed of a user: SU and 56 more letters and digits")
    return value


class Settings(BaseModel):
    """What every service needs. Each field is the variable `ODEA_<FIELD>`, in capitals."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True)

    nats_url: SecretStr
    """NATS server, or several separated by commas: `nats://host:4222`, or `tls://…` where the bus leaves the machine.
    May hold a user and password where there is no seed."""
    nats_seed: Annotated[SecretStr, AfterValidator(_check_seed)] | None = None
    """NKEY seed of the service's user of the bus (`SU…`); see docs/operations/bus.md."""
    nats_tls_ca_file: FilePath | None = None
    """Certificates, as PEM, of whoever vouches for the server's. With it, or with `tls://`, nothing is sent before TLS
    stands; the server must be set to `handshake_first`."""
    nats_tls_cert_file: FilePath | None = None
    """The client's own certificate, as PEM, for servers that ask for one."""
    nats_tls_key_file: Annotated[FilePath | None, Field(validate_default=True)] = None
    """The private key of that certificate, as PEM."""
    ops_address: AddressSetting = Address("127.0.0.1", 9090)
    """Where `/livez`, `/readyz` and `/metrics` are served; never the public address."""
    log_format: Literal["json", "pretty"] = "json"
    """One JSON object a line, or text for a terminal."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe level that is written."""
    sentry_dsn: SecretStr | None = None
    """Where crash reports go, as Sentry's DSN. None are made without it."""
    otlp_endpoint: SecretStr | None = None
    """Where traces go, by OTLP over HTTP: `http://collector:4318`. `OTEL_EXPORTER_OTLP_ENDPOINT` does as well. None are
    made without it; see docs/operations/traces.md."""
    otlp_headers: SecretStr | None = None
    """What the collector wants to see, as `name=value` with commas; or `OTEL_EXPORTER_OTLP_HEADERS`."""
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = 0.05
    """The share of requests that is traced."""
    trace_queue_max: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    """Spans that wait to be sent; one more takes the place of the oldest."""
    tasks_max: Annotated[int, Field(ge=1, le=100_000)] = 2_000
    """Messages handled at the same time; one more is refused as overloaded."""
    call_timeout_s: Annotated[float, Field(gt=0, le=60)] = 1.5
    """How long a reply from another service is waited for."""
    bundle_max: Annotated[int, Field(ge=1, le=BUNDLE_MAX)] = 100
    """Requests to one subject, made at the same moment, that leave in one message; with 1 each goes by itself."""
    drain_s: Annotated[float, Field(gt=0, le=3600)] = 20.0
    """How long work in hand may go on after SIGTERM."""

    @field_validator("nats_tls_key_file")
    @classmethod
    def _comes_with_its_certificate(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if (key is None) != (info.data.get("nats_tls_cert_file") is None):
            raise ValueError("certificate and key must be given together")
        return key


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

    `ODEA_<FIELD>_FILE` names a file that holds the value instead: where secrets are mounted, they stay out of the
    environment. White space at its end does not count.

    Raises:
        SettingsError: something is missing or wrong. All faults are listed.
    """
    given = {name.removeprefix(PREFIX).lower(): value for name, value in environ.items() if name.startswith(PREFIX)}
    for name, field in _STANDARD.items():
        if environ.get(name) and f"{field}{_FILE}" not in given:
            given.setdefault(field, environ[name])
    faults = _read_files(model, given)
    try:
        settings = model.model_validate(given)
    except ValidationError as error:
        for fault in error.errors():
            faults.setdefault(f"{PREFIX}{'.'.join(map(str, fault['loc'])).upper()}", fault["msg"])
    else:
        if not faults:
            return settings
    raise SettingsError("\n".join(f"{name}: {fault}" for name, fault in faults.items()))


def _read_files(model: type[Settings], given: dict[str, str]) -> dict[str, str]:
    """Put the content of files where their names are given; returns what went wrong, by variable."""
    faults: dict[str, str] = {}
    for name in [name for name in given if name.endswith(_FILE) and name not in model.model_fields]:
        field = name.removesuffix(_FILE)
        if field not in model.model_fields:
            continue
        if field in given:
            faults[f"{PREFIX}{field.upper()}"] = f"given twice, by itself and by {PREFIX}{name.upper()}"
            continue
        try:
            given[field] = Path(given[name]).read_text(encoding="utf-8").rstrip()
        except (OSError, ValueError) as error:
            # Without the path, which somebody may have mistaken for the place of the secret itself.
            faults[f"{PREFIX}{field.upper()}"] = f"its file can't be read: {getattr(error, 'strerror', 'not UTF-8')}"
    return faults
