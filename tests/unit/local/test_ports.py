"""Ports are remembered, and chosen anew only when somebody else took them."""

import socket
from pathlib import Path

import msgspec
import pytest

from odea_local import ports
from odea_local.errors import LocalError
from odea_local.ports import PORT_MAX, PORT_MIN, claim


def test_they_differ_lie_in_range_and_are_remembered(tmp_path: Path) -> None:
    first = claim(tmp_path / "state.json")
    numbers = msgspec.structs.astuple(first)
    assert len(set(numbers)) == len(numbers)
    assert all(PORT_MIN <= number <= PORT_MAX for number in numbers)
    assert claim(tmp_path / "state.json") == first


def test_only_a_port_that_was_taken_is_replaced(tmp_path: Path) -> None:
    first = claim(tmp_path / "state.json")
    with socket.create_server(("127.0.0.1", first.nats)):
        second = claim(tmp_path / "state.json")
    assert second.nats != first.nats
    assert msgspec.structs.replace(second, nats=first.nats) == first


def test_a_new_port_is_not_one_that_another_part_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = claim(tmp_path / "state.json")
    proposals = iter([first.gateway, first.keys_ops, PORT_MIN - 1])

    def propose(_low: int, _high: int) -> int:
        return next(proposals)

    monkeypatch.setattr("odea_local.ports.random.randint", propose)
    with socket.create_server(("127.0.0.1", first.nats)):
        assert claim(tmp_path / "state.json").nats == PORT_MIN - 1


def test_the_gateways_own_port_is_given_to_nobody_else(tmp_path: Path) -> None:
    first = claim(tmp_path / "state.json")
    second = claim(tmp_path / "state.json", avoid=first.nats)
    assert second.nats != first.nats
    assert second.keys_ops == first.keys_ops


@pytest.mark.parametrize("content", ["", "{", '{"nats": "x"}', '{"nats": 80, "keys_ops": 80}'])
def test_a_damaged_file_costs_nothing_but_the_memory(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    first = claim(path)
    assert PORT_MIN <= first.nats <= PORT_MAX
    assert claim(path) == first


def test_a_port_is_free_until_somebody_listens_there_even_on_all_addresses() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_looking_for_a_port_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "PORT_MAX", PORT_MIN)
    with pytest.raises(LocalError, match="no free port"):
        ports.find_free(avoid=(PORT_MIN,))
