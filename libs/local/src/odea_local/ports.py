"""The loopback ports of a stack: free ones, chosen once and remembered, so that a restart comes back where it was."""

import errno
import random
import socket
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

import msgspec

from odea_local.errors import LocalError
from odea_local.folder import write_atomically

LOOPBACK = "127.0.0.1"
# Below every system's ephemeral range: a client that reconnects to a closed ephemeral port can meet itself there.
PORT_MIN = 20_000
PORT_MAX = 29_999
TRIES_MAX = 200


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """Every port but the gateway's public one, which the user names. 0 means: not chosen yet."""

    nats: int = 0
    nats_monitor: int = 0
    keys_ops: int = 0
    quota_ops: int = 0
    synth_ops: int = 0
    gateway_ops: int = 0
    gateway: int = 0
    """Only used when a free port was asked for."""


def claim(path: Path, avoid: int = 0) -> Ports:
    """The remembered ports; those that another program took meanwhile are chosen anew and remembered.

    Args:
        path: where they are remembered.
        avoid: a port that is meant for something else.
    """
    remembered = Ports()
    with suppress(FileNotFoundError, msgspec.DecodeError):
        remembered = msgspec.json.decode(path.read_bytes(), type=Ports)
    numbers = list(msgspec.structs.astuple(remembered))
    for place, number in enumerate(numbers):
        others = [*numbers[:place], *numbers[place + 1 :], avoid]
        if number in others or not PORT_MIN <= number <= PORT_MAX or not is_free(number):
            numbers[place] = find_free(avoid=others)
    ports = Ports(**dict(zip(Ports.__struct_fields__, numbers, strict=True)))
    if ports != remembered:
        write_atomically(path, msgspec.json.encode(ports), mode=0o644)
    return ports


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now.

    Raises:
        LocalError: the system forbids it for another reason than that it is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise LocalError(f"cannot listen on {LOOPBACK}:{port}: {error.strerror}.") from error
    return True


def find_free(avoid: Container[int] = ()) -> int:
    """A port that nobody uses, at random so that two stacks that start together hardly meet.

    Raises:
        LocalError: none was found in a bounded number of tries.
    """
    for _ in range(TRIES_MAX):
        port = random.randint(PORT_MIN, PORT_MAX)  # noqa: S311 - not a secret
        if port not in avoid and is_free(port):
            return port
    raise LocalError(f"found no free port between {PORT_MIN} and {PORT_MAX}.")
