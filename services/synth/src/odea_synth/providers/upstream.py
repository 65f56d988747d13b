"""The HTTP client that providers reach their upstreams with: pooled, bounded, and deaf to its environment.

httpx with the transport of aiohttp, since httpx's own loses most of its speed at some hundred connections. No
redirects, no proxies from the environment, no cookies kept, no compression.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

_LOCAL: Final = frozenset({"127.0.0.1", "::1", "localhost"})
# Voices and subtitles are fetched beside streams.
_SPARE_CONNECTIONS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamOptions:
    """How a provider talks to its upstream.

    Attributes:
        streams_max: utterances that may be under way, each on a connection; one more is refused as throttled.
        retry_after_s: when a caller so refused should come back.
        connect_timeout_s: for name, TCP and TLS together.
        read_timeout_s: for the first byte, and between two.
        keepalive_s: how long a connection may lie idle.
        body_bytes_max: the longest answer that is read whole; as hex, audio takes two bytes for each of its own.
        line_bytes_max: the longest line of an event stream.
        audio_bytes_max: the most audio of one utterance.

    Raises:
        ValueError: naming every value that is out of range.
    """

    streams_max: int = 512
    retry_after_s: float = 2.0
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    keepalive_s: float = 30.0
    body_bytes_max: int = 64 * 1024 * 1024
    line_bytes_max: int = 16 * 1024 * 1024
    audio_bytes_max: int = 512 * 1024 * 1024

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        faults = [
            f"{name} must be {'at least' if least else 'above'} {least}"
            for name, value, least in (
                ("streams_max", self.streams_max, 1),
                ("retry_after_s", self.retry_after_s, 0),
                ("connect_timeout_s", self.connect_timeout_s, 0),
                ("read_timeout_s", self.read_timeout_s, 0),
                ("keepalive_s", self.keepalive_s, 0),
                ("body_bytes_max", self.body_bytes_max, 1024),
                ("line_bytes_max", self.line_bytes_max, 1024),
                ("audio_bytes_max", self.audio_bytes_max, 1024),
            )
            # Written so that NaN is refused, too.
            if not (value >= least if least else value > 0)
        ]
        if faults:
            raise ValueError("; ".join(faults))


def open_client(base_url: str, options: UpstreamOptions) -> httpx.AsyncClient:
    """A client for one upstream. Must be called on the event loop that uses it, and closed."""

    def session() -> aiohttp.ClientSession:
        # A stream has its place before it asks for a connection, so nobody waits for one and no fault of ours looks
        # like a fault of the upstream.
        connector = aiohttp.TCPConnector(
            limit=options.streams_max + _SPARE_CONNECTIONS,
            keepalive_timeout=options.keepalive_s,
            ssl=httpx.create_ssl_context(trust_env=False),
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)

    timeout = httpx.Timeout(options.read_timeout_s, connect=options.connect_timeout_s, pool=options.connect_timeout_s)
    return httpx.AsyncClient(
        transport=AiohttpTransport(client=session, trust_env=False),
        base_url=base_url,
        timeout=timeout,
        headers={"accept-encoding": "identity", "user-agent": "odea"},
        follow_redirects=False,
        trust_env=False,
    )


def url_faults(name: str, url: str) -> list[str]:
    """What is wrong with an upstream's address: secrets are sent over TLS, or not beyond this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return [f"{name} is not a URL"]
    if parts.scheme not in ("https", "http") or not host:
        return [f"{name} must begin with https:// and name a host"]
    if parts.username or parts.password or parts.query or parts.fragment:
        return [f"{name} must hold nothing but scheme, host, port and path"]
    return []


def is_private(url: str) -> bool:
    """Whether what is sent there can be read by nobody else: TLS, or a host that is this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in _LOCAL
