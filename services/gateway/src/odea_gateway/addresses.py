"""Where a request comes from: the peer of its connection, or who a trusted proxy says that it forwards for.

`X-Forwarded-For` is read from its end, one hop for each trusted proxy. Whatever stands before the first hop that is not
trusted was written by the caller and means nothing.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_HOPS_MAX: Final = 32
_NOWHERE: Final = IPv6Address(0)
"""Of a connection without a network address."""
_WITH_PORT: Final = re.compile(r"\[([0-9A-Fa-f:.%\w]+)\](?::\d+)?|([0-9.]+):\d+")


def networks(text: str) -> tuple[Network, ...]:
    """Networks separated by commas; an address alone is a network of one.

    Raises:
        ValueError: one of them is none.
    """
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def caller_address(peer: str | None, headers: Iterable[tuple[bytes, bytes]], trusted: Sequence[Network]) -> Address:
    """Who sent a request.

    Args:
        peer: the other end of the connection.
        headers: of the request.
        trusted: the proxies whose word is taken.
    """
    address = _parse(peer or "") or _NOWHERE
    if not trusted or not within(address, trusted):
        return address
    given = b",".join(value for name, value in headers if name == b"x-forwarded-for")
    for hop in reversed(given.decode("latin-1").rsplit(",", _HOPS_MAX)[-_HOPS_MAX:]):
        named = _parse(hop.strip())
        if named is None:
            break
        address = named
        if not within(address, trusted):
            break
    return address


def within(address: Address, allowed: Iterable[Network]) -> bool:
    """Whether `address` is of one of these networks."""
    return any(address in network for network in allowed if network.version == address.version)


def neighbourhood(address: Address) -> str:
    """What is counted as one caller: an IPv4 address, or an IPv6 network of 64 bits, all of which one customer has."""
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address) >> 64 << 64, 64)))


@lru_cache(maxsize=1024)
def _parse(text: str) -> Address | None:
    if found := _WITH_PORT.fullmatch(text):
        text = found[1] or found[2]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))
    return address
