"""The HTTP client that providers reach their upstreams with: pooled, bounded, and deaf to its environment.

httpx over the transport of aiohttp, and without httpx's client, see ADR 0018. No redirects, no proxies from the
environment, no cookies kept, no compression.
"""

import math
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final, cast
from urllib.parse import urlsplit

import aiohttp
import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport

from odea_synth.providers.base import ErrorClass, ProviderError

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError)
"""What msgspec raises for a body that is not as agreed."""

BUSY: Final = "The speech provider is busy."
FAILED: Final = "The speech provider failed."
SLOW: Final = "The speech provider did not answer in time."
UNAVAILABLE: Final = "The speech provider is not available."
REFUSED: Final = "The speech provider refused this text."

_LOCAL: Final = frozenset({"127.0.0.1", "::1", "localhost"})
# Voices and subtitles are fetched beside streams.
_SPARE_CONNECTIONS: Final = 8
_HEADERS: Final = {"accept-encoding": "identity", "user-agent": "odea"}
# Reading an address costs as much as all the rest of a request, and there are few of them.
_url: Final = lru_cache(maxsize=64)(httpx.URL)


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


class UpstreamClient:
    """Asks one upstream. Must be made on the event loop that uses it, and closed.

    Args:
        base_url: what paths are added to.
        options: the bounds.
    """

    def __init__(self, base_url: str, options: UpstreamOptions) -> None:
        # Reading the certificates takes a while; better now than with the first request.
        tls = httpx.create_ssl_context(trust_env=False)
        # A stream has its place before it asks for a connection, so nobody waits for one and no fault of ours looks
        # like a fault of the upstream.
        connector = aiohttp.TCPConnector(
            limit=options.streams_max + _SPARE_CONNECTIONS, keepalive_timeout=options.keepalive_s, ssl=tls
        )
        session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        self._transport = AiohttpTransport(verify=tls, client=session, trust_env=False)
        connect_s = options.connect_timeout_s
        timeout = httpx.Timeout(options.read_timeout_s, connect=connect_s, pool=connect_s)
        self._extensions = {"timeout": timeout.as_dict()}
        self._base_url = base_url.rstrip("/")

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        where: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[httpx.Response]:
        """The answer, as soon as its headers are there; leaving the block ends the request.

        `where` is a path below the base, or a whole address.
        """
        request = httpx.Request(
            method,
            _url(f"{self._base_url}{where}" if where.startswith("/") else where),
            params=params,
            headers={**_HEADERS, **(headers or {})},
            # Given as `content`, it would have httpx work out the headers that the transport adds by itself.
            stream=httpx.ByteStream(body or b""),
            extensions=self._extensions,
        )
        request.read()
        response = await self._transport.handle_async_request(request)
        try:
            yield response
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


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


class Slots:
    """How many utterances are under way."""

    def __init__(self, options: UpstreamOptions) -> None:
        self._options = options
        self._taken = 0

    @contextmanager
    def one(self) -> Generator[None]:
        """Take one for the length of the block.

        Raises:
            ProviderError: of class throttle; all are taken.
        """
        if self._taken >= self._options.streams_max:
            wait_s = self._options.retry_after_s
            detail = "all of our own connections are in use"
            raise ProviderError(ErrorClass.THROTTLE, BUSY, detail=detail, retry_after_s=wait_s)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


@contextmanager
def upstream_faults(*, billed_units: Callable[[], int]) -> Generator[None]:
    """Every way in which HTTP itself fails is a fault of the upstream's.

    Args:
        billed_units: what the upstream may have billed by then, unless it was never reached.

    Raises:
        ProviderError: of class upstream.
    """
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, aiohttp.ClientError, OSError) as error:
        cause = error.__cause__ or error
        # The transport calls a connection that was closed a timeout, too; its cause tells them apart.
        timed_out = isinstance(cause, TimeoutError)
        reached = not isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        raise ProviderError(
            ErrorClass.UPSTREAM,
            SLOW if timed_out else FAILED,
            detail=f"{type(cause).__name__} over HTTP",
            billed_units=billed_units() if reached else 0,
            timed_out=timed_out,
        ) from error


async def read_body(response: httpx.Response, bytes_max: int) -> bytes:
    """The whole body.

    Raises:
        ProviderError: of class upstream; it is longer than `bytes_max`.
    """
    body = bytearray()
    async with aclosing(pieces(response)) as parts:
        async for part in parts:
            body += part
            if len(body) > bytes_max:
                raise broken(f"the answer is longer than {bytes_max} bytes")
    return bytes(body)


async def pieces(response: httpx.Response) -> AsyncGenerator[bytes]:
    """The body as it comes off the wire, each piece of some KB at most.

    Raises:
        ProviderError: of class upstream; it is compressed, which we did not allow.
    """
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise broken("the answer is compressed although that was not allowed")
    # Not by the response's own iterators, which would cut it anew and count it.
    async for piece in cast("httpx.AsyncByteStream", response.stream):
        yield piece


async def read_lines(response: httpx.Response, bytes_max: int) -> AsyncGenerator[bytes]:
    """The body line by line, each as soon as it is there. Time is linear in the bytes, however they are cut.

    Raises:
        ProviderError: of class upstream; a line is longer than `bytes_max`.
    """
    begun: list[bytes] = []
    length = 0
    async with aclosing(pieces(response)) as parts:
        async for part in parts:
            *ends, rest = part.split(b"\n")
            for end in ends:
                _check_length(length + len(end), bytes_max)
                yield b"".join((*begun, end)).rstrip(b"\r")
                begun.clear()
                length = 0
            begun.append(rest)
            length += len(rest)
            _check_length(length, bytes_max)
    if length:
        yield b"".join(begun)


def _check_length(length: int, bytes_max: int) -> None:
    if length > bytes_max:
        raise broken(f"a line is longer than {bytes_max} bytes")


def broken(detail: str) -> ProviderError:
    """The error for an upstream that does not keep to its own interface."""
    return ProviderError(ErrorClass.UPSTREAM, FAILED, detail=detail)


def retry_after_s(response: httpx.Response, *, s_max: float = 3600.0) -> float | None:
    """What `Retry-After` says, as seconds or as a date; None if it is absent or makes no sense."""
    value = response.headers.get("retry-after", "").strip()
    try:
        wait_s = float(value)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return min(max(wait_s, 0.0), s_max) if math.isfinite(wait_s) else None
