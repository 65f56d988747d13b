"""A caller's address is what can't be forged: the peer's, or what a trusted proxy says (P5, P10)."""

from ipaddress import ip_address

import pytest

from odea_gateway.addresses import caller_address, neighbourhood, networks, within

PROXIES = networks("10.0.0.0/8, fd00::/8")
OTHER = "198.51.100.9"

CASES = {
    "no proxy is trusted": (OTHER, ["203.0.113.1"], "", OTHER),
    "the peer is no proxy": (OTHER, ["203.0.113.1"], "10.0.0.0/8", OTHER),
    "one proxy": ("10.0.0.1", ["203.0.113.1"], "10.0.0.0/8", "203.0.113.1"),
    "no header": ("10.0.0.1", [], "10.0.0.0/8", "10.0.0.1"),
    "what the caller wrote before is nothing": ("10.0.0.1", ["8.8.8.8, 203.0.113.1"], "10.0.0.0/8", "203.0.113.1"),
    "a trusted address that the caller wrote is nothing": (
        "10.0.0.1",
        ["10.9.9.9, 203.0.113.1"],
        "10.0.0.0/8",
        "203.0.113.1",
    ),
    "two proxies": ("10.0.0.1", ["203.0.113.1, 10.0.0.2"], "10.0.0.0/8", "203.0.113.1"),
    "only proxies": ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.0/8", "10.0.0.3"),
    "two headers are one list": ("10.0.0.1", ["8.8.8.8", "203.0.113.1"], "10.0.0.0/8", "203.0.113.1"),
    "nonsense ends it": ("10.0.0.1", ["203.0.113.1, nonsense"], "10.0.0.0/8", "10.0.0.1"),
    "an empty hop ends it": ("10.0.0.1", ["203.0.113.1, "], "10.0.0.0/8", "10.0.0.1"),
    "with a port": ("10.0.0.1", ["203.0.113.1:4711"], "10.0.0.0/8", "203.0.113.1"),
    "IPv6 with a port": ("fd00::1", ["[2001:db8::1]:4711"], "fd00::/8", "2001:db8::1"),
    "IPv6 in brackets": ("fd00::1", ["[2001:db8::1]"], "fd00::/8", "2001:db8::1"),
    "IPv4 in IPv6": ("::ffff:10.0.0.1", ["::ffff:203.0.113.1"], "10.0.0.0/8", "203.0.113.1"),
    "not ASCII": ("10.0.0.1", ["203.0.113.1\xff"], "10.0.0.0/8", "10.0.0.1"),
    "more hops than anybody has": ("10.0.0.1", [", ".join(["10.0.0.2"] * 5000)], "10.0.0.0/8", "10.0.0.2"),
}


@pytest.mark.parametrize(("peer", "given", "trusted", "address"), CASES.values(), ids=CASES)
def test_the_caller_is_found(peer: str, given: list[str], trusted: str, address: str) -> None:
    headers = [(b"host", b"x"), *((b"x-forwarded-for", value.encode("latin-1")) for value in given)]
    assert str(caller_address(peer, headers, networks(trusted))) == address


def test_a_connection_without_an_address_is_of_no_network() -> None:
    address = caller_address(None, [], PROXIES)
    assert not within(address, networks("0.0.0.0/0"))
    assert not within(address, PROXIES)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
    ],
)
def test_a_customer_of_ipv6_is_one_caller(address: str, name: str) -> None:
    assert neighbourhood(ip_address(address)) == name


@pytest.mark.parametrize("text", ["10.0.0.0/99", "x", "10.0.0.1/8", "10.0.0.0/8;::"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        networks(text)
