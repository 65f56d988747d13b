"""What the gateway can be told. Every bound of the edge has its name here."""

import re
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from odea_gateway.addresses import networks
from odea_runtime.settings import Address, AddressSetting
from odea_runtime.streams import StreamSettings

INSTRUCTIONS_CHARS_MAX = 4096
_ESCAPED_BYTES = 12
"""The longest form of one character in JSON: a surrogate pair in `\\ud83d\\ude00` escapes."""


_ORIGIN = re.compile(r"\*|https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?")


def origins(text: str) -> list[str]:
    """Origins separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


class GatewaySettings(StreamSettings):
    """The settings of the gateway."""

    gateway_address: AddressSetting = Address("127.0.0.1", 8080)
    """Where clients are served; port 0 takes a free one."""
    backlog: Annotated[int, Field(ge=16, le=65_535)] = 1024
    """Connections that wait to be accepted."""
    connections_max: Annotated[int, Field(ge=1, le=65_535)] = 4096
    """Open connections; one more waits in the backlog."""
    requests_max: Annotated[int, Field(ge=1, le=65_535)] = 1000
    """Requests in hand at the same time; one more is refused as overloaded."""
    silent_s: Annotated[float, Field(gt=0, le=3600)] = 75.0
    """How long a connection may be silent between requests, and how long the head of a request may take. Longer than
    load balancers keep their connections (60 s is common), so that it is they who close."""
    connection_buffer_bytes: Annotated[int, Field(ge=8192, le=1_048_576)] = 65_536
    """What is buffered of a connection each way; a request's head must fit."""
    trace_callers: bool = False
    """Whether the header `traceparent` of callers is followed, and with it their word on what is traced: right behind a
    proxy that sets it itself."""
    unready_s: Annotated[float, Field(ge=0, le=300)] = 0.0
    """How long requests are still taken after SIGTERM while `/readyz` says no, so that load balancers leave first."""

    body_pieces_max: Annotated[int, Field(ge=16, le=100_000)] = 1024
    """In how many pieces a body may arrive; each costs the same, however short it is."""
    body_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """How long a body may take to arrive."""
    text_chars_max: Annotated[int, Field(ge=1, le=100_000)] = 4096
    """The longest text to speak, in characters after cleaning."""
    body_bytes_max: Annotated[int, Field(ge=1024, le=16_777_216, validate_default=True)] = 131_072
    """The longest body of a request. The default holds the longest text and instructions, all of it escaped."""

    head_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """How long the first audio may take."""
    speech_s: Annotated[float, Field(gt=0, le=86_400)] = 3600.0
    """How long one speech may take from first to last byte."""
    client_stall_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """How long a client may take nothing before it is given up."""
    buffered_bytes_max: Annotated[int, Field(ge=1_048_576, le=1_073_741_824)] = 67_108_864
    """Audio held at the same time for HTTP/1.0 clients, who can't see a cut body and get theirs whole or not at all."""

    trusted_proxies: str = ""
    """Networks of the proxies in front, separated by commas, such as `10.0.0.0/8,fd00::/8`. Only what they say in
    `X-Forwarded-For` is taken for a caller's address; without any, the header means nothing."""
    auth_failures_per_minute: Annotated[int, Field(ge=1, le=100_000)] = 60
    """How often one address may fail to authenticate, at once and then a minute. IPv6 counts by networks of 64 bits."""
    auth_failures_addresses_max: Annotated[int, Field(ge=16, le=1_000_000)] = 10_000
    """How many addresses that failed are remembered."""
    cors_origins: str = ""
    """Origins whose pages may call from a browser, separated by commas, such as `https://app.example`; `*` for any,
    nothing for none."""
    strict_transport_s: Annotated[int, Field(ge=0, le=63_072_000)] = 0
    """How long browsers shall remember to come by HTTPS alone (HSTS); 0 does not say. For gateways behind TLS."""

    key_cache_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Keys remembered as good, and as many as bad."""
    key_cache_s: Annotated[float, Field(ge=0, le=300)] = 30.0
    """How long a key is remembered."""
    bus_pulse_s: Annotated[float, Field(ge=0.05, le=5)] = 0.4
    """How often the bus is asked for a sign of life, and how long it has for it. Twice that is how long a gateway that
    is cut off trusts the keys that it remembers."""
    public_lists: bool = True
    """Whether `/v1/audio/models` and `/v1/audio/voices` answer without a key, as clients expect that never send one."""
    access_log: bool = True
    """Whether each request is a line in the log."""

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        try:
            networks(text)
        except ValueError:
            raise ValueError("must be networks separated by commas, as in 10.0.0.0/8,fd00::/8") from None
        return text

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, text: str) -> str:
        if not all(_ORIGIN.fullmatch(origin) for origin in origins(text)):
            raise ValueError("must be origins separated by commas, as in https://app.example, or *")
        return text

    @field_validator("body_bytes_max")
    @classmethod
    def _holds_the_text(cls, bytes_max: int, info: ValidationInfo) -> int:
        needed = _ESCAPED_BYTES * (info.data.get("text_chars_max", 0) + INSTRUCTIONS_CHARS_MAX)
        if bytes_max < needed:
            raise ValueError(f"must be at least {needed} to hold the longest text with every character escaped")
        return bytes_max
